//! What this program does inside a kernel that it was booted with: as init it makes what the tests
//! want of a system, and starts itself to run them, as root and as an ordinary user.

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, chroot};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use linux_raw::io::{OpenFlags, open};
use linux_raw::mount::{MountFlags, fchdir, mount, move_mount};
use linux_raw::pidfd::{WaitFlags, WaitStatus, waitid_any};
use linux_raw::{Errno, process};

use crate::Failure;
use crate::suite::{ABSENCES, tests_passed};

/// Where this program is, and the folder of the tests.
pub(super) const INIT: &str = "/init";
pub(super) const TESTS: &str = "/tests";

/// How init's last line begins.
pub(super) const PASSED: &str = "@@@ passed";
pub(super) const FAILED: &str = "@@@ failed: ";

/// Who is not root.
const USER: u32 = 1000;

const CGROUPS: &str = "/sys/fs/cgroup";
/// The controllers that groups have here.
const CONTROLLERS: &str = "+cpu +memory +pids";
/// The part of the tree that is the user's.
const DELEGATED: &str = "/sys/fs/cgroup/user";
/// Where the user's tests are in it: workers may not be above.
const USERS_OWN: &str = "/sys/fs/cgroup/user/own";

/// What init makes: a test that misses it has looked wrongly (`absence/absences.txt`).
const THERE: [&str; 4] = [
    "own-cgroup",
    "cgroup-controllers",
    "full-tier",
    "private-mounts",
];

#[derive(Args)]
pub(crate) struct Inside {
    /// Only tests whose name holds this.
    only: Option<String>,
}

pub(crate) fn run(inside: &Inside) -> Result<(), Failure> {
    // The kernel starts nobody else as the first process.
    if std::process::id() != 1 {
        return run_tests(inside.only.as_deref());
    }
    println!();
    match settle().and_then(|()| run_again(inside.only.as_deref())) {
        Ok(()) => println!("{PASSED}"),
        Err(failure) => println!("{FAILED}{failure}"),
    }
    // Whoever has read this switches the machine off.
    loop {
        std::thread::park();
    }
}

/// From a kernel with nothing to a system that tests can run in.
fn settle() -> Result<(), Failure> {
    own_root()?;
    for (kind, place, data) in [
        ("proc", "/proc", None),
        ("sysfs", "/sys", None),
        ("devtmpfs", "/dev", None),
        ("tmpfs", "/tmp", None),
        // As systemd mounts it: whoever is given a group cannot get beyond.
        ("cgroup2", CGROUPS, Some("nsdelegate")),
    ] {
        mount_new(kind, place, data).map_err(|why| format!("mount {place}: {why}"))?;
    }
    fs::set_permissions("/tmp", Permissions::from_mode(0o1777))?;
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

/// Starts this program again to run the tests, and reaps meanwhile whom they leave behind.
fn run_again(only: Option<&str>) -> Result<(), Failure> {
    let tests = Command::new(INIT).arg("inside").args(only).spawn()?;
    loop {
        match waitid_any(WaitFlags::ALL) {
            Ok(Some((pid, status))) if pid.raw() == tests.id() => {
                return match status {
                    WaitStatus::Exited(0) => Ok(()),
                    _ => Err("see above".into()),
                };
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(format!("waitid: {errno}").into()),
        }
    }
}

/// Runs all test programs as root, and then as the user.
fn run_tests(only: Option<&str>) -> Result<(), Failure> {
    if process::geteuid() != 0 || !Path::new(TESTS).exists() {
        return Err("this is for the inside of a kernel that `cargo xtask kernels` boots".into());
    }
    let mut failed = Vec::new();
    for (user, group) in [(0, CGROUPS), (USER, USERS_OWN)] {
        fs::write(Path::new(group).join("cgroup.procs"), "0")?;
        if let Err(failure) = run_as(user, only) {
            println!("as user {user}: {failure}");
            failed.push(format!("as user {user}"));
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join(", ").into())
    }
}

fn run_as(user: u32, only: Option<&str>) -> Result<(), Failure> {
    let record = PathBuf::from(format!("/tmp/absences-{user}"));
    fs::write(&record, "")?;
    chown(&record, Some(user), Some(user))?;
    let (mut passed, mut failed) = (0, Vec::new());
    for program in fs::read_dir(TESTS)? {
        let program = program?.path();
        println!("== {} as user {user}", program.display());
        let mut command = Command::new(&program);
        // The groups of a user that is not root go with the change.
        command
            .args(only)
            .env(ABSENCES, &record)
            .uid(user)
            .gid(user);
        match tests_passed(command)? {
            Some(tests) => passed += tests,
            None => failed.push(program.display().to_string()),
        }
    }
    let absences = fs::read_to_string(&record)?;
    print!("{absences}");
    if let Some(missed) = absences.lines().find(|line| is_there(line)) {
        return Err(format!("this is there: {missed}").into());
    }
    if !failed.is_empty() {
        return Err(failed.join(", ").into());
    }
    if passed == 0 {
        return Err("no test was run".into());
    }
    Ok(())
}

/// Whether a test has reported something as absent that init has made.
fn is_there(absence: &str) -> bool {
    let key = absence.strip_prefix("ABSENT ").unwrap_or(absence);
    key.split_once(':')
        .is_some_and(|(key, _)| THERE.contains(&key))
}
