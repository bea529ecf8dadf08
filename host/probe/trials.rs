#![expect(
    unsafe_code,
    reason = "maps pages in a child to try what can be done with them"
)]
//! How each feature is tried: as a worker's start uses it, as far as that goes in a moment.
//!
//! All of this runs in a child that ends right after, so nothing is undone, and locks, allocations
//! and panics are out of the question.

use std::sync::atomic::AtomicU32;

use linux_raw::Errno;
use linux_raw::fd::{CloseRangeFlags, OwnedFd, close_range};
use linux_raw::io::OpenFlags;
use linux_raw::landlock::{self, RestrictFlags, Rights};
use linux_raw::membarrier;
use linux_raw::memfd::{self, MemfdFlags, Seals};
use linux_raw::mm::{self, Backing, MapFlags, Placement, Prot};
use linux_raw::ns::IdMap;
use linux_raw::pidfd::{self, PidfdFlags};
use linux_raw::prctl::{self, Speculation};
use linux_raw::process::{self, AtFlags, CloneFlags};
use linux_raw::seccomp::{self, InstallFlags, Program, Rule, compile, length};
use linux_raw::signal::Signal;
use linux_raw::uring::{Ring, Transfer};
use linux_raw::{futex, io, mount, nr, ns};

use super::attempt::{Failure, Trial, in_child};
use super::feature::Feature;
use super::raw;
use crate::memory;

/// The call succeeded without the effect that it promises.
const NO_EFFECT: Errno = Errno::EPROTO;

/// A page, on every architecture that we know; more where pages are larger.
const PAGE_BYTES: usize = 4096;

/// The trial of a feature.
pub(super) fn of(feature: Feature) -> Trial {
    match feature {
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
        Feature::IoUring => io_uring,
        Feature::Userfaultfd => userfaultfd,
        Feature::Landlock => landlock,
        Feature::Mseal => mseal,
        Feature::DenyWriteExecute => deny_write_execute,
        Feature::Speculation => speculation,
        Feature::CoreScheduling => || Ok(works(prctl::create_core_scheduling_cookie()?)),
    }
}

type Found = Result<Option<u64>, Failure>;

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

/// The version of the rules. A domain of all of them must keep this process from its own root.
fn landlock() -> Found {
    let abi = landlock::abi()?;
    prctl::set_no_new_privs()?;
    let ruleset = landlock::create_ruleset(&Rights::known(abi))?;
    landlock::restrict_self(&ruleset, RestrictFlags::empty())?;
    match io::open(c"/", OpenFlags::RDONLY | OpenFlags::CLOEXEC) {
        Err(Errno::EACCES) => Ok(Some(abi.into())),
        Err(errno) => Err(errno.into()),
        Ok(_) => Err(NO_EFFECT.into()),
    }
}

fn pidfd() -> Found {
    let own = pidfd::pidfd_open(process::getpid()?, PidfdFlags::empty())?;
    pidfd::pidfd_send_signal(&own, None)?;
    Ok(None)
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
        map_ids(uid, gid)?;
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
        Err(Failure::Killed(Signal::SYS)) => Ok(None),
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
    effect(io::pwrite(&file, b"x", 0) == Err(Errno::EPERM))
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
    let one = new_memfd(MemfdFlags::empty())?.into_raw();
    let number = one.cast_unsigned();
    // SAFETY: the only descriptor in the range was given up by its owner the line before.
    unsafe { close_range(number, number, CloseRangeFlags::UNSHARE) }?;
    Ok(None)
}

fn futex_wait() -> Found {
    let word = AtomicU32::new(0);
    match futex::wait(&word, 1, None) {
        Err(Errno::EAGAIN) => Ok(None),
        Err(errno) => Err(errno.into()),
        Ok(()) => Err(NO_EFFECT.into()),
    }
}

/// The highest operation.
fn io_uring() -> Found {
    Transfer::uring()?;
    Ok(Some(Ring::new(1)?.probe()?.last().into()))
}

fn membarrier() -> Found {
    membarrier::register_global_expedited()?;
    Ok(works(membarrier::global_expedited()?))
}

/// The feature bits.
fn userfaultfd() -> Found {
    Ok(Some(memory::offered()?.bits()))
}

fn writable_page() -> Result<usize, Errno> {
    let prot = Prot::READ | Prot::WRITE;
    // SAFETY: the kernel chooses a free place, so nothing of ours is replaced.
    let page = unsafe {
        mm::mmap(
            Placement::Anywhere,
            PAGE_BYTES,
            prot,
            Backing::Anonymous,
            MapFlags::empty(),
        )
    }?;
    Ok(page.addr().get())
}

fn mseal() -> Found {
    let page = writable_page()?;
    mm::mseal(page, PAGE_BYTES)?;
    // SAFETY: nothing lives in the page.
    effect(unsafe { mm::munmap(page, PAGE_BYTES) } == Err(Errno::EPERM))
}

fn deny_write_execute() -> Found {
    prctl::set_mdwe()?;
    let page = writable_page()?;
    // SAFETY: nothing lives in the page.
    let gained = unsafe { mm::mprotect(page, PAGE_BYTES, Prot::READ | Prot::EXEC) };
    effect(gained == Err(Errno::EACCES))
}

/// As many kinds as can be turned off, at least one. ENXIO and EPERM both mean that a process has
/// no say in it.
fn speculation() -> Found {
    let stores = prctl::disable_speculation(Speculation::StoreBypass);
    let branches = prctl::disable_speculation(Speculation::IndirectBranch);
    match (stores, branches) {
        (Err(errno), Err(_)) => Err(errno.into()),
        (Ok(()), Ok(())) => Ok(Some(2)),
        _ => Ok(Some(1)),
    }
}
