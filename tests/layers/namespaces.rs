//! Namespaces, the network's aside, each alone; for a host that is not root, inside a user
//! namespace of the worker's own, without which it could not make them.

use std::fs;

use cellwall::{Errno, Layer};
use linux_raw::sys::general as sys;

use crate::attack::Attack;
use crate::host::folder;
use crate::sockets::signal_host;
use crate::worker::{Attempt, Stop, Worker, seen};

const OWN_USERS: &[Layer] = &[Layer::UserNamespace];
const ONLY_ROOT: &str = "nobody else has power over the host's namespaces";

const HOST_NAME: &str = "/proc/sys/kernel/hostname";
const DOMAIN_NAME: &str = "/proc/sys/kernel/domainname";

const IPC_CREATE: u64 = 0o1000 | 0o666;
const IPC_REMOVE: u64 = 0;

pub(crate) const ATTACKS: &[Attack] = &[
    Attack::new(
        Layer::UserNamespace,
        "gives the host its name anew",
        rename_host,
        Stop::Refused(Errno::EPERM),
    )
    .only_root(ONLY_ROOT),
    Attack::new(
        Layer::UserNamespace,
        "mounts something",
        mount,
        Stop::Refused(Errno::EPERM),
    )
    .only_root(ONLY_ROOT),
    Attack::new(
        Layer::UserNamespace,
        "looks into the host, which has the same user",
        look_into_host,
        Stop::Refused(Errno::EACCES),
    ),
    Attack::new(
        Layer::MountNamespace,
        "mounts something where the host sees it",
        mount,
        Stop::NoEffect,
    )
    .only_root(ONLY_ROOT)
    .unless(is_shared),
    Attack::new(
        Layer::PidNamespace,
        "names the host by its number",
        signal_host,
        Stop::Refused(Errno::ESRCH),
    )
    .needs(&[], OWN_USERS),
    Attack::new(
        Layer::IpcNamespace,
        "opens a message queue of the host's",
        open_queue,
        Stop::Refused(Errno::ENOENT),
    )
    .needs(&[], OWN_USERS),
    Attack::new(
        Layer::UtsNamespace,
        "renames the host's domain",
        rename_domain,
        Stop::NoEffect,
    )
    .only_root(ONLY_ROOT),
    Attack::new(
        Layer::CgroupNamespace,
        "reads where in the host's cgroups it is",
        read_cgroups,
        Stop::NoEffect,
    )
    .needs(&[], OWN_USERS),
];

/// By the name that it has.
fn rename_host(worker: &mut Worker) -> Attempt {
    let name = fs::read_to_string(HOST_NAME).expect("/proc");
    let name = name.trim_end();
    let address = worker.put(name.as_bytes());
    worker.call(sys::__NR_sethostname, &[address, name.len() as u64])?;
    Ok(())
}

/// Nobody uses the domain of the Network Information Service; it is put back.
fn rename_domain(worker: &mut Worker) -> Attempt {
    let mut rename = |name: &str| {
        let address = worker.put(name.as_bytes());
        worker.call(sys::__NR_setdomainname, &[address, name.len() as u64])
    };
    let read = || fs::read_to_string(DOMAIN_NAME).expect("/proc");
    let before = read();
    rename("cellwall-layers")?;
    let after = read();
    rename(before.trim_end())?;
    assert_eq!(before, read());
    seen(before != after)
}

/// Through the host's /proc, by the number that it has there.
pub(crate) fn look_into_host(worker: &mut Worker) -> Attempt {
    let path = format!("/proc/{}/environ", std::process::id());
    worker.open(path, sys::O_RDONLY).map(drop)
}

/// Where mounts are shared, as systemd has it, a namespace alone hands them on to the host: that
/// the worker's are slaves is the work of its user namespace (mount_namespaces(7)).
fn is_shared() -> Option<(&'static str, &'static str)> {
    let shared = absence::mounts_are_shared();
    shared.then_some(("private-mounts", "it takes the user namespace too"))
}

fn mount(worker: &mut Worker) -> Attempt {
    let folder = folder();
    let kind = worker.text("tmpfs");
    let path = worker.text(folder.path());
    worker.call(sys::__NR_mount, &[kind, path, kind, 0, 0])?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc");
    let is_seen = mounts.contains(folder.path().to_str().expect("a path in UTF-8"));
    worker.call(sys::__NR_umount2, &[path, sys::MNT_DETACH.into()])?;
    seen(is_seen)
}

fn open_queue(worker: &mut Worker) -> Attempt {
    let mut host = Worker::unhindered();
    let key = u64::from(std::process::id()) | 0x5eed_0000_0000;
    let key = key & 0x7fff_ffff;
    let queue = host.call(sys::__NR_msgget, &[key, IPC_CREATE])?;
    let answer = worker.call(sys::__NR_msgget, &[key, 0]);
    host.call(sys::__NR_msgctl, &[queue, IPC_REMOVE, 0])?;
    answer.map(drop)
}

fn read_cgroups(worker: &mut Worker) -> Attempt {
    let file = worker.open("/proc/self/cgroup", sys::O_RDONLY)?;
    let into = worker.put(&[0; 4096]);
    let bytes = worker.call(sys::__NR_read, &[file, into, 4096])?;
    let inside = worker.get(into, usize::try_from(bytes).expect("a length"));
    let outside = fs::read("/proc/self/cgroup").expect("/proc");
    if has_path(&outside) {
        return seen(inside == outside);
    }
    // A host at the top has nothing to hide; that it is another namespace can be seen from outside.
    let link = |process: &str| fs::read_link(format!("/proc/{process}/ns/cgroup")).expect("/proc");
    seen(link("self") == link(&worker.process_id().to_string()))
}

/// Whether one of the paths (cgroups(7)) is not the top.
fn has_path(cgroups: &[u8]) -> bool {
    let text = String::from_utf8_lossy(cgroups);
    text.lines().any(|line| !line.ends_with(":/"))
}
