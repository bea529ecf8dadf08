//! Workers, and their nursery, are born in a control group; the host stays where it is.
//!
//! Most of these need no controllers: what those do is in `limits`.

mod limits;
mod refusals;

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::time::Duration;

use cellwall::{Cgroup, Config, Engine, PoolConfig, Tier};
use linux_raw::prctl;
use linux_raw::process::geteuid;

use crate::harness::forked::in_a_child;
use crate::harness::{alone, both, eventually, is_nursed, nurseries, parts, tier, workers};
use crate::host::{setgid, setuid};

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

    /// One that can have limits. Nothing where the groups of this process have none.
    fn limited(name: &str) -> Option<Self> {
        absence::limited_cgroup(name).map(Self)
    }

    fn read(&self, file: &str) -> String {
        let path = self.0.join(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn write(&self, file: &str, value: &str) {
        let path = self.0.join(file);
        fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// One number of a file with a number and its name on each line.
    fn count(&self, file: &str, name: &str) -> u64 {
        let text = self.read(file);
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let (_, number) = lines.find(|(key, _)| *key == name).expect("the name");
        number.parse().expect("a number")
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
        while self.0.exists() && fs::remove_dir(&self.0).is_err() && begun.elapsed() < SOON {
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
