//! What a user is told whose workers cannot be where he wants them, or not so limited.

use std::fs::{self, File};
use std::path::Path;

use cellwall::{Blame, Cgroup, Config, Engine, Errno, Error, Stage, Tier};
use linux_raw::process::geteuid;

use super::{Group, HIDDEN, NOBODY, become_nobody};
use crate::harness::forked::in_a_child;
use crate::harness::{alone, both, parts, tier};
use crate::host::unshare;

/// The advice to whoever may not, or names something else.
const ADVICE: &str = "Config::cgroup takes a group of cgroup v2";
/// A cgroup namespace of one's own (`CLONE_NEWCGROUP`).
const OWN_VIEW: i32 = 0x0200_0000;

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

#[test]
fn a_user_without_the_right_is_told_so() {
    if tier() != Tier::Full {
        return absence::absent("full-tier", HIDDEN);
    }
    alone(
        "cgroup::refusals::a_user_without_the_right_is_told_so",
        || {
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
        },
    );
}

/// The limits of a group that somebody was given are the giver's.
#[test]
fn a_user_may_not_move_the_limits_that_he_was_given() {
    if tier() != Tier::Full {
        return absence::absent("full-tier", HIDDEN);
    }
    let name = "cgroup::refusals::a_user_may_not_move_the_limits_that_he_was_given";
    alone(name, || {
        if geteuid() != 0 {
            return absence::absent("root", "nobody delegates a group to this user");
        }
        let Some(given) = Group::limited("given") else {
            return absence::absent("cgroup-controllers", "there are no limits");
        };
        given.delegate(NOBODY);
        in_a_child(|| {
            become_nobody();
            let limited = Cgroup::at(&given.0).pids_max(1000);
            both(|config| {
                let error = refused(&config.clone().cgroup(limited.clone()));
                let call = "write a limit of the cgroup";
                let advice = "make a group inside of it";
                is(&error, Some(Stage::Engine), call, Errno::EACCES, advice);
            });
        });
        assert_eq!(given.read("pids.max").trim(), "max");
    });
}

#[test]
fn a_limit_that_the_kernel_does_not_take_is_an_error() {
    let Some(group) = Group::limited("untaken") else {
        return absence::absent("cgroup-controllers", "there are no limits");
    };
    both(|config| {
        // A period of a microsecond.
        let error = refused(&config.clone().cgroup(Cgroup::at(&group.0).cpu_max(1, 1)));
        let call = "write a limit of the cgroup";
        let advice = "at least 1,000 microseconds";
        is(&error, Some(Stage::Engine), call, Errno::EINVAL, advice);
    });
}

/// Groups that share out what they have are for groups only.
#[test]
fn a_group_that_shares_out_takes_no_workers() {
    if tier() != Tier::Full {
        return absence::absent("full-tier", HIDDEN);
    }
    let Some(group) = Group::limited("shares") else {
        return absence::absent("cgroup-controllers", "nothing can be shared out");
    };
    group.write("cgroup.subtree_control", "+memory");
    both(|config| {
        let error = refused(&config.clone().cgroup(Cgroup::at(&group.0)));
        let advice = "cgroup.subtree_control";
        is(&error, None, "clone3", Errno::EBUSY, advice);
    });
    // A group inside of it does.
    let inside = group.inside("inside");
    both(|config| {
        let engine = Engine::new(&config.clone().cgroup(Cgroup::at(&inside.0))).unwrap();
        let module = parts(&[0xc3]).build(&engine).unwrap();
        engine.instantiate(&module).unwrap();
    });
}

#[test]
fn a_group_that_has_gone_is_told_of() {
    if tier() != Tier::Full {
        return absence::absent("full-tier", HIDDEN);
    }
    both(|config| {
        let Some(group) = Group::new("gone") else {
            return absence::absent("own-cgroup", "no group can be made");
        };
        let engine = Engine::new(&config.clone().cgroup(Cgroup::at(&group.0))).unwrap();
        let module = parts(&[0xc3]).build(&engine).unwrap();
        drop(group);
        let error = engine.instantiate(&module).unwrap_err();
        is(&error, None, "clone3", Errno::ENOENT, "has been removed");
    });
}

/// A host in a cgroup namespace, as in a container, has its workers below the root of that; beyond
/// only where the hierarchy is not mounted with `nsdelegate`, as the machine's owner may choose.
#[test]
fn a_host_in_a_namespace_has_its_workers_in_there() {
    if tier() != Tier::Full {
        return absence::absent("full-tier", HIDDEN);
    }
    let name = "cgroup::refusals::a_host_in_a_namespace_has_its_workers_in_there";
    alone(name, || {
        if geteuid() != 0 {
            return absence::absent("root", "only root enters a cgroup namespace");
        }
        let [Some(top), Some(beyond)] = ["top", "beyond"].map(Group::new) else {
            return absence::absent("own-cgroup", "no group can be made");
        };
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut mounts = mounts.lines().filter(|line| line.contains(" - cgroup2 "));
        let is_fenced = mounts.next().unwrap().contains("nsdelegate");
        let (own, tenants) = (top.inside("own"), top.inside("tenants"));
        in_a_child(|| {
            top.enter();
            assert_eq!(unshare(OWN_VIEW), 0);
            own.enter();
            both(|config| {
                let there = |group: &Group| config.clone().cgroup(Cgroup::at(&group.0));
                let starts_in = |group: &Group| {
                    let engine = Engine::new(&there(group)).unwrap();
                    let module = parts(&[0xc3]).build(&engine).unwrap();
                    let instance = engine.instantiate(&module).unwrap();
                    assert!(group.members().contains(&instance.process_id()));
                };
                starts_in(&tenants);
                if is_fenced {
                    let error = refused(&there(&beyond));
                    is(&error, None, "clone3", Errno::ENOENT, "cgroup namespace");
                } else {
                    starts_in(&beyond);
                }
            });
        });
    });
}
