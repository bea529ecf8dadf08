//! From a kernel with nothing to a system that tests can run in.

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, chroot};
use std::path::Path;

use linux_raw::Errno;
use linux_raw::io::{OpenFlags, open};
use linux_raw::mount::{MountFlags, fchdir, mount, move_mount};

use super::USER;
use crate::Failure;

/// The tree of groups, where root's tests are.
pub(super) const CGROUPS: &str = "/sys/fs/cgroup";
/// The controllers that groups have here.
const CONTROLLERS: &str = "+cpu +memory +pids";
/// The part of the tree that is the user's.
const DELEGATED: &str = "/sys/fs/cgroup/user";
/// Where the user's tests are in it: workers may not be above.
pub(super) const USERS_OWN: &str = "/sys/fs/cgroup/user/own";

/// The flags of the loopback device, and the one that brings it up (`IFF_UP`): it then has its
/// address. The kernel keeps those that are its own.
const LOOPBACK: (&str, &str) = ("/sys/class/net/lo/flags", "0x1");

/// Makes all of it.
pub(super) fn settle() -> Result<(), Failure> {
    own_root()?;
    for (kind, place, data) in [
        ("proc", "/proc", None),
        ("sysfs", "/sys", None),
        ("devtmpfs", "/dev", None),
        ("devpts", "/dev/pts", None),
        ("tmpfs", "/tmp", None),
        // As systemd mounts it: whoever is given a group cannot get beyond.
        ("cgroup2", CGROUPS, Some("nsdelegate")),
    ] {
        mount_new(kind, place, data).map_err(|why| format!("mount {place}: {why}"))?;
    }
    fs::set_permissions("/tmp", Permissions::from_mode(0o1777))?;
    fs::write(LOOPBACK.0, LOOPBACK.1).map_err(|why| format!("{}: {why}", LOOPBACK.0))?;
    groups().map_err(|why| format!("cgroups: {why}").into())
}

/// Makes the root a mount that can be left. The first one cannot (`pivot_root(2)`), and whoever is
/// in a chroot below it gets no user namespace: so it is bound over itself.
fn own_root() -> Result<(), Failure> {
    let named = |call: &'static str| move |errno: Errno| format!("{call} of the root: {errno}");
    fs::create_dir_all("/root")?;
    let flags = MountFlags::BIND | MountFlags::REC;
    mount(Some(c"/"), c"/root", None, flags, None).map_err(named("bind"))?;
    let root = open(c"/root", OpenFlags::RDONLY).map_err(named("open"))?;
    move_mount(&root, c"/").map_err(named("move"))?;
    fchdir(&root).map_err(named("fchdir"))?;
    Ok(chroot(".")?)
}

fn mount_new(kind: &str, place: &str, data: Option<&str>) -> Result<(), Failure> {
    fs::create_dir_all(place)?;
    let (kind, place) = (CString::new(kind)?, CString::new(place)?);
    let data = data.map(CString::new).transpose()?;
    let (flags, data) = (MountFlags::empty(), data.as_deref());
    mount(Some(&kind), &place, Some(&kind), flags, data).map_err(|errno| errno.name())?;
    Ok(())
}

/// Gives all groups controllers, and the user a part of the tree (cgroups(7), "Delegation").
fn groups() -> Result<(), Failure> {
    let controllers =
        |group: &str| fs::write(format!("{group}/cgroup.subtree_control"), CONTROLLERS);
    controllers(CGROUPS)?;
    for group in [DELEGATED, USERS_OWN] {
        fs::create_dir(group)?;
        for file in [
            "",
            "cgroup.procs",
            "cgroup.threads",
            "cgroup.subtree_control",
        ] {
            chown(Path::new(group).join(file), Some(USER), Some(USER))?;
        }
    }
    Ok(controllers(DELEGATED)?)
}
