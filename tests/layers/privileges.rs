//! Users, capabilities and who may look into the worker.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use cellwall::{Errno, Layer};
use linux_raw::cred::Securebits;
use linux_raw::sys::{general as sys, prctl};

use crate::attack::Attack;
use crate::host::{file, folder};
use crate::worker::{Attempt, Stop, Worker, seen};

const REFUSED: Stop = Stop::Refused(Errno::EPERM);
/// A worker has no capability to lose unless the host is root or it has a namespace of its own.
const OWN_USERS: &[Layer] = &[Layer::UserNamespace];

/// What chroot(1) ends with when it may not.
const NO_CHROOT: Stop = Stop::Exited(125);

const CAP_SETUID: u64 = 1 << 7;
const CAP_SYS_ADMIN: u64 = 1 << 21;

pub(crate) const ATTACKS: &[Attack] = &[
    Attack::new(
        Layer::UserId,
        "opens a file of root's",
        open_root_s,
        Stop::Refused(Errno::EACCES),
    )
    .only_root("others are not root"),
    Attack::new(
        Layer::NoNewPrivileges,
        "becomes root by a set-user-id program",
        execute_set_user_id,
        Stop::NoEffect,
    )
    .needs(&[Layer::UserId], &[])
    .beside(|worker| {
        drop_capabilities(worker);
        set(worker, prctl::PR_SET_DUMPABLE, 0);
    })
    .only_root("others can make no such program of another user's"),
    Attack::new(
        Layer::Capabilities,
        "changes its root",
        change_root,
        REFUSED,
    )
    .needs(&[], OWN_USERS)
    .beside(|worker| {
        set(worker, prctl::PR_SET_NO_NEW_PRIVS, 1);
        set(worker, prctl::PR_SET_DUMPABLE, 0);
    }),
    Attack::new(
        Layer::BoundingSet,
        "makes a capability inheritable",
        make_inheritable,
        REFUSED,
    )
    .needs(&[], OWN_USERS)
    .beside(|worker| {
        let bits = u64::from(Securebits::LOCKED_DOWN.bits());
        set(worker, prctl::PR_SET_SECUREBITS, bits);
    }),
    Attack::new(
        Layer::Securebits,
        "keeps capabilities when it leaves user 0",
        keep_capabilities,
        REFUSED,
    )
    .needs(&[], OWN_USERS)
    .beside(empty_bounding_set),
    Attack::new(
        Layer::Securebits,
        "gains capabilities by becoming user 0",
        become_root_again,
        REFUSED,
    )
    .only_root("a namespace with one user has no other to come from")
    .beside(empty_bounding_set),
    Attack::new(
        Layer::Securebits,
        "gains capabilities as user 0 by an exec, which the bounding set stops too",
        execute_as_root,
        NO_CHROOT,
    )
    .needs(&[], OWN_USERS),
    Attack::new(
        Layer::NotDumpable,
        "is looked into by another of its user",
        be_looked_into,
        Stop::Refused(Errno::EACCES),
    )
    .beside(|worker| {
        set(worker, prctl::PR_SET_NO_NEW_PRIVS, 1);
        drop_capabilities(worker);
    }),
];

/// A switch that has to work.
fn set(worker: &mut Worker, option: u32, value: u64) {
    let answer = worker.call(sys::__NR_prctl, &[option.into(), value, 0, 0, 0]);
    assert_eq!(answer, Ok(0), "prctl {option}");
}

fn empty_bounding_set(worker: &mut Worker) {
    let dropped = (0..64)
        .take_while(|capability| {
            let args = [prctl::PR_CAPBSET_DROP.into(), *capability, 0, 0, 0];
            worker.call(sys::__NR_prctl, &args).is_ok()
        })
        .count();
    assert!(dropped > 30, "{dropped}");
}

/// The sets as the kernel has them: effective, permitted, inheritable, each in two halves.
fn capabilities(worker: &mut Worker) -> Result<[u64; 3], Stop> {
    let (header, sets) = (worker.put(&header()), worker.put(&[0; 24]));
    worker.call(sys::__NR_capget, &[header, sets])?;
    let bytes = worker.get(sets, 24);
    let half = |index: usize| {
        let bytes = bytes[4 * index..4 * index + 4].try_into();
        u64::from(u32::from_le_bytes(bytes.expect("four bytes")))
    };
    Ok([0, 1, 2].map(|set| half(set) | half(set + 3) << 32))
}

fn set_capabilities(worker: &mut Worker, sets: [u64; 3]) -> Attempt {
    let halves = sets.map(|set| set & 0xffff_ffff).into_iter();
    let halves = halves.chain(sets.map(|set| set >> 32));
    let bytes: Vec<u8> = halves
        .flat_map(|half| half.to_le_bytes()[..4].to_vec())
        .collect();
    let (header, sets) = (worker.put(&header()), worker.put(&bytes));
    worker.call(sys::__NR_capset, &[header, sets])?;
    Ok(())
}

/// A `struct __user_cap_header_struct`: the version, and ourselves.
fn header() -> [u8; 8] {
    u64::from(sys::_LINUX_CAPABILITY_VERSION_3).to_le_bytes()
}

pub(crate) fn drop_capabilities(worker: &mut Worker) {
    assert_eq!(set_capabilities(worker, [0; 3]), Ok(()));
}

fn open_root_s(worker: &mut Worker) -> Attempt {
    let folder = folder();
    let file = file(&folder, "secret", "text");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("permissions");
    worker.open(&file, sys::O_RDONLY).map(drop)
}

/// `touch` that is root makes a file where only root may.
fn execute_set_user_id(worker: &mut Worker) -> Attempt {
    let folder = folder();
    let touch = folder.path().join("touch");
    fs::copy("/bin/touch", &touch).expect("touch(1)");
    fs::set_permissions(&touch, fs::Permissions::from_mode(0o4755)).expect("permissions");
    let only_root_s = folder.path().join("root");
    fs::create_dir(&only_root_s).expect("a folder");
    fs::set_permissions(&only_root_s, fs::Permissions::from_mode(0o700)).expect("permissions");
    let evidence = only_root_s.join("evidence");
    let mut execute = || worker.execute(&touch, &["touch".as_ref(), evidence.as_os_str()]);
    // A process that another test forked while the copy was written has it open for a moment.
    let stops = std::iter::repeat_with(|| {
        let stop = execute();
        std::thread::sleep(Duration::from_millis(10));
        stop
    });
    let stop = stops
        .take(500)
        .find(|stop| *stop != Stop::Refused(Errno::ETXTBSY));
    let stop = stop.expect("the copy is closed again");
    assert!(matches!(stop, Stop::Exited(_)), "{stop:?}");
    seen(evidence.exists())
}

/// To the root that it has.
fn change_root(worker: &mut Worker) -> Attempt {
    let path = worker.text("/");
    worker.call(sys::__NR_chroot, &[path])?;
    Ok(())
}

fn make_inheritable(worker: &mut Worker) -> Attempt {
    let [effective, permitted, inheritable] = capabilities(worker)?;
    assert_ne!(permitted & CAP_SYS_ADMIN, 0);
    set_capabilities(worker, [effective, permitted, inheritable | CAP_SYS_ADMIN])
}

fn keep_capabilities(worker: &mut Worker) -> Attempt {
    let args = [prctl::PR_SET_KEEPCAPS.into(), 1, 0, 0, 0];
    worker.call(sys::__NR_prctl, &args)?;
    Ok(())
}

/// Has none that it can use but that of changing users, leaves user 0 and comes back, which fills
/// the effective set from the permitted one (capabilities(7)).
fn become_root_again(worker: &mut Worker) -> Attempt {
    const SAME: u64 = 0xffff_ffff;
    let [_, permitted, inheritable] = capabilities(worker)?;
    set_capabilities(worker, [CAP_SETUID, permitted, inheritable])?;
    assert_eq!(change_root(worker), Err(REFUSED));
    worker.call(sys::__NR_setresuid, &[SAME, 65534, SAME])?;
    worker.call(sys::__NR_setresuid, &[SAME, 0, SAME])?;
    change_root(worker)
}

/// Gives its capabilities up, which an exec as user 0 gives back.
fn execute_as_root(worker: &mut Worker) -> Attempt {
    drop_capabilities(worker);
    let args = ["chroot", "/", "/bin/true"].map(AsRef::as_ref);
    match worker.execute("/usr/sbin/chroot", &args) {
        Stop::Exited(0) => Ok(()),
        stop => Err(stop),
    }
}

/// By another worker, which has no capability either.
fn be_looked_into(worker: &mut Worker) -> Attempt {
    let mut other = Worker::unhindered();
    drop_capabilities(&mut other);
    let path = other.text(format!("/proc/{}/exe", worker.process_id()));
    let into = other.put(&[0; 256]);
    let link = other.call(sys::__NR_readlink, &[path, into, 256]);
    let maps = format!("/proc/{}/maps", worker.process_id());
    let file = other.open(maps, sys::O_RDONLY);
    assert_eq!(link.is_ok(), file.is_ok(), "{link:?} {file:?}");
    link.and(file).map(drop)
}
