//! Workers, and their nursery, are born in a control group; the host stays where it is.
//!
//! The group has no controllers here: what they limit is the kernel's business.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cellwall::{Blame, Cgroup, Config, Engine, Errno, Error, PoolConfig, Stage, Tier};
use linux_raw::prctl;
use linux_raw::process::geteuid;

use crate::harness::forked::in_a_child;
use crate::harness::{alone, both, eventually, is_nursed, nurseries, parts, tier, workers};
use crate::host::{setgid, setuid};

/// The advice to whoever may not, or names something else.
const ADVICE: &str = "Config::cgroup takes a group of cgroup v2";
/// Why there is nothing to test in a container.
const HIDDEN: &str = "its profile hides clone3, which alone can place a process";
const NOBODY: u32 = 65534;
/// A process leaves its group a moment after it was reaped.
const SOON: Duration = Duration::from_secs(10);

/// A group of the test's own, which is removed with those in it.
struct Group(PathBuf);

impl Group {
    /// Nothing where this process may not make one.
    fn new(name: &str) -> Option<Self> {
        absence::own_cgroup(name).map(Self)
    }

    fn inside(&self, name: &str) -> Self {
        let path = self.0.join(name);
        fs::create_dir(&path).expect("a group");
        Self(path)
    }

    /// Makes it a user's, as systemd does (cgroups(7), "Delegation").
    fn delegate(&self, user: u32) {
        for file in [
            "",
            "cgroup.procs",
            "cgroup.threads",
            "cgroup.subtree_control",
        ] {
            chown(self.0.join(file), Some(user), Some(user)).expect("root");
        }
    }

    /// Moves this process there.
    fn enter(&self) {
        fs::write(self.0.join("cgroup.procs"), "0").expect("the right to move");
    }

    /// As `/proc/PID/cgroup` calls it.
    fn name(&self) -> String {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let mut mounts = mounts.lines().filter(|line| line.contains(" - cgroup2 "));
        let mount = mounts.next().expect("a mount").split(' ').nth(4);
        let name = self.0.strip_prefix(mount.expect("a place"));
        format!("/{}", name.expect("it is there").display())
    }

    fn members(&self) -> Vec<u32> {
        let members = fs::read_to_string(self.0.join("cgroup.procs")).expect("members");
        members.lines().map(|line| line.parse().unwrap()).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let begun = std::time::Instant::now();
        while fs::remove_dir(&self.0).is_err() && begun.elapsed() < SOON {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The group of a process, in cgroup v2.
fn group_of(process: impl std::fmt::Display) -> String {
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).expect("its groups");
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"));
    group.expect("one of version 2").to_owned()
}

fn sorted(mut processes: Vec<u32>) -> Vec<u32> {
    processes.sort_unstable();
    processes
}

/// Starts workers, of which some are used again, and looks where they are.
fn all_are_in(group: &Group, config: &Config) {
    let before = group_of("self");
    let pooled = config.clone().pool(PoolConfig::new().spares(1));
    for config in [config.clone(), pooled] {
        let engine = Engine::new(&config).unwrap();
        let module = parts(&[0xc3]).build(&engine).unwrap();
        drop(engine.instantiate(&module).unwrap());
        let held = [(); 3].map(|()| engine.instantiate(&module).unwrap());
        for instance in &held {
            assert_eq!(group_of(instance.process_id()), group.name());
        }
        let nurseries = nurseries();
        assert_eq!(nurseries.len(), usize::from(is_nursed(&config)));
        // The spare may be on its way.
        eventually(SOON, "all are there, and nobody else", || {
            let ours = [workers(), nurseries.clone()].concat();
            sorted(group.members()) == sorted(ours)
        });
        assert_eq!(group_of("self"), before);
        drop((held, engine));
        eventually(SOON, "it is empty", || group.members().is_empty());
    }
}

/// What a user is told whose workers cannot be there: when the engine is made, or the first start.
fn refused(config: &Config) -> Error {
    let engine = match Engine::new(config) {
        Ok(engine) => engine,
        Err(error) => return error,
    };
    let module = parts(&[0xc3]).build(&engine).unwrap();
    let error = engine.instantiate(&module).expect_err("it cannot be there");
    // No worse the second time, and nothing is left.
    assert_eq!(engine.instantiate(&module).unwrap_err(), error);
    error
}

fn is(error: &Error, stage: Option<Stage>, call: &'static str, errno: Errno, advice: &str) {
    assert!(stage.is_none_or(|stage| error.stage == stage), "{error}");
    assert_eq!(error.blame, Blame::Kernel { call, errno }, "{error}");
    let text = error.to_string();
    for part in [call, errno.name(), advice] {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

#[test]
fn workers_and_nurseries_are_born_in_it() {
    if tier() != Tier::Full {
        return absence::absent("full-tier", HIDDEN);
    }
    alone("cgroup::workers_and_nurseries_are_born_in_it", || {
        let Some(group) = Group::new("born") else {
            return absence::absent("own-cgroup", "no group can be made");
        };
        both(|config| {
            all_are_in(&group, &config.clone().cgroup(Cgroup::at(&group.0)));
            let descriptor: OwnedFd = File::open(&group.0).unwrap().into();
            all_are_in(&group, &config.clone().cgroup(Cgroup::of(descriptor)));
        });
    });
}

#[test]
fn what_is_no_group_is_refused() {
    if tier() != Tier::Full {
        return absence::absent("full-tier", HIDDEN);
    }
    let folder = tempfile::tempdir().unwrap();
    both(|config| {
        let at = |path: &Path| config.clone().cgroup(Cgroup::at(path));
        let engine = Some(Stage::Engine);
        let missing = refused(&at(&folder.path().join("none")));
        is(&missing, engine, "open the cgroup", Errno::ENOENT, ADVICE);
        let nul = refused(&at(Path::new("a\0b")));
        is(&nul, engine, "open the cgroup", Errno::EINVAL, ADVICE);
        // That a directory is no group's, only the clone finds.
        let other = refused(&at(folder.path()));
        is(&other, None, "clone3", Errno::EBADF, ADVICE);
        let open = File::open(folder.path()).unwrap();
        let other = refused(&config.clone().cgroup(Cgroup::of(open.into())));
        is(&other, None, "clone3", Errno::EBADF, ADVICE);
    });
}

#[test]
fn a_limit_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let group = || Cgroup::at(folder.path());
    for limited in [
        group().memory_max(1 << 20),
        group().pids_max(3),
        group().cpu_max(1000, 10_000),
    ] {
        both(|config| {
            let error = refused(&config.clone().cgroup(limited.clone()));
            let advice = "cgroup.subtree_control";
            let call = "write a limit of the cgroup";
            is(&error, Some(Stage::Engine), call, Errno::ENOENT, advice);
        });
        // It is not made where there is none.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

/// What the kernel is told is what was asked for.
#[test]
fn limits_are_written_before_a_worker_is_there() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["memory.max", "pids.max", "cpu.max"] {
        fs::write(folder.path().join(file), "").unwrap();
    }
    let group = Cgroup::at(folder.path())
        .memory_max(1 << 20)
        .pids_max(3)
        .cpu_max(1000, 10_000);
    Engine::new(&crate::harness::config().cgroup(group)).unwrap();
    let written = ["memory.max", "pids.max", "cpu.max"]
        .map(|file| fs::read_to_string(folder.path().join(file)).unwrap());
    assert_eq!(written, ["1048576", "3", "1000 10000"]);
}

/// Becomes an ordinary user, in a forked child of root's.
fn become_nobody() {
    assert_eq!([setgid(NOBODY), setuid(NOBODY)], [0, 0]);
    assert_eq!(geteuid(), NOBODY);
    // A change of user ends that, and the id maps want it.
    prctl::set_dumpable(true).unwrap();
}

/// A user with a part of the tree of his own is in one group of it and has his workers in another.
#[test]
fn a_user_has_his_workers_beside_himself() {
    if tier() != Tier::Full {
        return absence::absent("full-tier", HIDDEN);
    }
    alone("cgroup::a_user_has_his_workers_beside_himself", || {
        if geteuid() != 0 {
            return absence::absent("root", "nobody delegates a group to this user");
        }
        let Some(users) = Group::new("delegated") else {
            return absence::absent("own-cgroup", "no group can be made");
        };
        users.delegate(NOBODY);
        let (own, tenants) = (users.inside("own"), users.inside("tenants"));
        tenants.delegate(NOBODY);
        in_a_child(|| {
            own.enter();
            become_nobody();
            both(|config| {
                all_are_in(&tenants, &config.clone().cgroup(Cgroup::at(&tenants.0)));
            });
            assert_eq!(group_of("self"), own.name());
        });
    });
}

#[test]
fn a_user_without_the_right_is_told_so() {
    if tier() != Tier::Full {
        return absence::absent("full-tier", HIDDEN);
    }
    alone("cgroup::a_user_without_the_right_is_told_so", || {
        if geteuid() != 0 {
            return absence::absent("root", "nobody gives this user a group to be kept from");
        }
        let Some(roots) = Group::new("roots") else {
            return absence::absent("own-cgroup", "no group can be made");
        };
        let (own, others) = (roots.inside("own"), roots.inside("others"));
        own.delegate(NOBODY);
        in_a_child(|| {
            become_nobody();
            // Another's group; one of his own, where the closest around both is another's.
            for group in [&others, &own] {
                both(|config| {
                    let error = refused(&config.clone().cgroup(Cgroup::at(&group.0)));
                    is(&error, None, "clone3", Errno::EACCES, ADVICE);
                });
            }
        });
        assert!(own.members().is_empty() && others.members().is_empty());
    });
}
