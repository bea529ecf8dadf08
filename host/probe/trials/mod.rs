#![expect(
    unsafe_code,
    reason = "executes a program and closes descriptors in a child"
)]
//! How each feature is tried: as a worker's start uses it, as far as that goes in a moment.
//!
//! All of this runs in a child that ends right after, so nothing is undone, and locks, allocations
//! and panics are out of the question.

pub(super) mod cgroup;
pub(super) mod flags;
pub(super) mod layers;
pub(super) mod unused;

use std::sync::atomic::AtomicU32;

use linux_raw::Errno;
use linux_raw::fd::{AsFd as _, CloseRangeFlags, OwnedFd, close_range};
use linux_raw::io::OpenFlags;
use linux_raw::membarrier;
use linux_raw::memfd::{self, MemfdFlags, Seals};
use linux_raw::ns::IdMap;
use linux_raw::pidfd::{self, PidfdFlags};
use linux_raw::prctl::{self, Speculation};
use linux_raw::process::{self, AtFlags, CloneFlags};
use linux_raw::seccomp::{self, InstallFlags, Program, Rule, compile, length};
use linux_raw::signal::Signal;
use linux_raw::uffd::{self, Features};
use linux_raw::uring::op;
use linux_raw::{futex, io, mount, nr, ns, ports};

use super::attempt::{Failure, Found, attempt, in_child, in_child_of};
use super::raw;
use super::table::Feature;
use crate::memory;
use crate::ports::proves_to_have_none;
use crate::reactor;

/// The call succeeded without the effect that it promises.
const NO_EFFECT: Errno = Errno::EPROTO;

/// Tries a feature.
pub(super) fn of(feature: Feature) -> Found {
    let trial: fn() -> Found = match feature {
        Feature::Clone3 => clone3,
        Feature::Pidfd => pidfd,
        Feature::UserNamespace => || namespace(CloneFlags::empty()),
        Feature::IdMaps => id_maps,
        Feature::MountNamespace => || namespace(CloneFlags::NEWNS),
        Feature::EmptyRoot => empty_root,
        Feature::PidNamespace => || namespace(CloneFlags::NEWPID),
        Feature::NetworkNamespace => || namespace(CloneFlags::NEWNET),
        Feature::IpcNamespace => || namespace(CloneFlags::NEWIPC),
        Feature::UtsNamespace => || namespace(CloneFlags::NEWUTS),
        Feature::CgroupNamespace => || namespace(CloneFlags::NEWCGROUP),
        Feature::SeccompFilter => seccomp_filter,
        Feature::Memfd => memfd_seals,
        Feature::ProcReopen => proc_reopen,
        Feature::ExecuteMemfd => execute_memfd,
        Feature::CloseRange => close_many,
        Feature::Futex => futex_wait,
        Feature::Membarrier => membarrier,
        Feature::IoPorts => io_ports,
        Feature::IoUring => io_uring,
        Feature::Userfaultfd => userfaultfd,
        Feature::Landlock => layers::landlock,
        Feature::LandlockNetwork => layers::landlock_network,
        Feature::LandlockScopes => layers::landlock_scopes,
        Feature::Mseal => layers::mseal,
        Feature::DenyWriteExecute => layers::deny_write_execute,
        Feature::StoreBypass => || layers::speculation(Speculation::StoreBypass),
        Feature::IndirectBranch => || layers::speculation(Speculation::IndirectBranch),
        Feature::CoreScheduling => || Ok(works(prctl::create_core_scheduling_cookie()?)),
        Feature::TimestampCounter => layers::timestamp_counter,
        Feature::PidfdThread => pidfd_thread,
        Feature::ClonesIntoCgroup => clone_into_cgroup,
        Feature::Cgroup => return cgroup::try_places(),
        Feature::FutexWaitv => unused::futex_waitv,
        Feature::PagemapScan => unused::pagemap_scan,
        Feature::Ptrace => unused::ptrace,
        Feature::UserfaultfdKernel => unused::userfaultfd_kernel,
    };
    attempt(&trial)
}

/// It works, and there is no more to say.
fn works(_: ()) -> Option<u64> {
    None
}

fn effect(is_there: bool) -> Found {
    if is_there {
        Ok(None)
    } else {
        Err(NO_EFFECT.into())
    }
}

/// A clone of nothing: a kernel that knows the call complains about its arguments.
fn clone3() -> Found {
    match raw::clone3_without_arguments() {
        Errno::EINVAL | Errno::EFAULT => Ok(None),
        errno => Err(errno.into()),
    }
}

/// A descriptor by the one call that nothing here does without: a filter that forbids another shall
/// not be blamed for what is tried with it.
fn root() -> Result<OwnedFd, Errno> {
    io::open(c"/", OpenFlags::RDONLY | OpenFlags::CLOEXEC)
}

fn pidfd() -> Found {
    let own = pidfd::pidfd_open(process::getpid()?, PidfdFlags::empty())?;
    pidfd::pidfd_send_signal(&own, None)?;
    Ok(None)
}

fn pidfd_thread() -> Found {
    pidfd::pidfd_open(process::gettid()?, PidfdFlags::THREAD)?;
    Ok(None)
}

/// Into a folder that is no cgroup: a kernel that knows the argument looks at it.
fn clone_into_cgroup() -> Found {
    let file = root()?;
    match in_child_of(CloneFlags::empty(), Some(file.as_fd()), &|| Ok(())) {
        Err(Failure::Refused(Errno::EBADF)) => Ok(None),
        Err(failure) => Err(failure),
        Ok(()) => Err(NO_EFFECT.into()),
    }
}

/// Always together with a user namespace, as workers are started: root has no other way.
fn namespace(kind: CloneFlags) -> Found {
    in_child(CloneFlags::NEWUSER | kind, &|| Ok(())).map(works)
}

fn map_ids(outer_uid: u32, outer_gid: u32) -> Result<(), Errno> {
    let map = IdMap {
        inner_uid: 0,
        outer_uid,
        inner_gid: 0,
        outer_gid,
    };
    ns::write_own_id_maps(map).map_err(|error| error.errno)
}

fn id_maps() -> Found {
    let (uid, gid) = (process::geteuid(), process::getegid());
    in_child(CloneFlags::NEWUSER, &|| map_ids(uid, gid)).map(works)
}

fn empty_root() -> Found {
    let (uid, gid) = (process::geteuid(), process::getegid());
    let steps = || {
        // It works without, and whether that works is told apart.
        let _ = map_ids(uid, gid);
        Ok(mount::empty_root()?)
    };
    in_child(CloneFlags::NEWUSER | CloneFlags::NEWNS, &steps).map(works)
}

const RULES: &[Rule] = &[Rule {
    call: nr::EXIT_GROUP,
    when: &[],
    why: "to tell if the filter lets others pass",
}];
static FILTER: Program<{ length(RULES) }> = compile(RULES);

fn seccomp_filter() -> Found {
    let filtered = in_child(CloneFlags::empty(), &|| {
        // A death by SIGSYS would dump core, whatever the limits, where a pipe takes the dumps.
        prctl::set_dumpable(false)?;
        prctl::set_no_new_privs()?;
        seccomp::install(FILTER.as_slice(), InstallFlags::empty())?;
        process::sched_yield();
        Err(NO_EFFECT)
    });
    match filtered {
        Err(Failure::Killed(Signal::SYS)) => Ok(Some(flags::of_seccomp())),
        Ok(()) => Err(NO_EFFECT.into()),
        Err(failure) => Err(failure),
    }
}

fn new_memfd(flags: MemfdFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    memfd::memfd_create(c"cellwall-probe", flags)
}

fn memfd_seals() -> Found {
    let file = new_memfd(MemfdFlags::empty())?;
    memfd::add_seals(
        &file,
        Seals::WRITE | Seals::SHRINK | Seals::GROW | Seals::SEAL,
    )?;
    match io::pwrite(&file, b"x", 0) {
        Err(Errno::EPERM) => Ok(Some(flags::of_memfd())),
        // A limit comes before the seal.
        Err(errno) => Err(errno.into()),
        Ok(_) => Err(NO_EFFECT.into()),
    }
}

fn proc_reopen() -> Found {
    let file = new_memfd(MemfdFlags::empty())?;
    let again = memfd::reopen_read_only(&file)?;
    effect(io::pwrite(&again, b"x", 0) == Err(Errno::EBADF))
}

fn execute_memfd() -> Found {
    let file = match new_memfd(MemfdFlags::EXEC) {
        // Before Linux 6.3 the flag is unknown and every memfd can be executed.
        Err(Errno::EINVAL) => new_memfd(MemfdFlags::empty()),
        result => result,
    }?;
    io::pwrite(&file, &super::program::EXITS, 0)?;
    let file = memfd::reopen_read_only(&file)?;
    let argv = [c"cellwall-probe".as_ptr(), std::ptr::null()];
    let envp = [std::ptr::null()];
    in_child(CloneFlags::empty(), &|| {
        // SAFETY: both arrays end with a null pointer and outlive the call.
        Err(unsafe {
            process::execveat(
                &file,
                c"",
                argv.as_ptr(),
                envp.as_ptr(),
                AtFlags::EMPTY_PATH,
            )
        })
    })
    .map(works)
}

fn close_many() -> Found {
    let one = root()?.into_raw();
    let number = one.cast_unsigned();
    // SAFETY: the only descriptor in the range was given up by its owner the line before.
    unsafe { close_range(number, number, CloseRangeFlags::UNSHARE) }?;
    // The kernel gives the lowest number that is free, and there is no other thread.
    effect(root()?.as_raw() == one)?;
    Ok(Some(flags::of_close_range()))
}

fn futex_wait() -> Found {
    let word = AtomicU32::new(0);
    match futex::wait(&word, 1, None) {
        Err(Errno::EAGAIN) => Ok(None),
        Err(errno) => Err(errno.into()),
        Ok(()) => Err(NO_EFFECT.into()),
    }
}

/// What an engine's thread does with a ring. The operations are for who serves guests by one; where
/// they cannot be asked for there are none.
fn io_uring() -> Found {
    let mut ring = reactor::ring::open()?;
    effect(ring.push(op::nop()).is_ok())?;
    ring.submit_and_wait(1, None)?;
    Ok(Some(
        ring.probe().map_or(0, |known| flags::of_rings(&known)),
    ))
}

fn membarrier() -> Found {
    membarrier::register_global_expedited()?;
    Ok(works(membarrier::global_expedited()?))
}

/// As a worker gives them up, with the proof that its engine has made.
fn io_ports() -> Found {
    Ok(works(
        ports::give_up(proves_to_have_none()).map_err(Errno::from)?,
    ))
}

/// The feature bits.
fn userfaultfd() -> Found {
    let offered = uffd::enable(uffd::userfaultfd()?, Features::empty())?;
    match memory::offered() {
        Ok(_) => Ok(Some(offered.bits())),
        Err(errno) => Err(Failure::Lacking(errno, offered.bits())),
    }
}
