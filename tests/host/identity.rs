#![expect(
    unsafe_code,
    reason = "changes the effective user alone, for which there is no wrapper"
)]
//! Who workers are: never root, and nobody whom the host may not become.

use cellwall::{Blame, Config, Engine, Misuse, Stage, Step, Tier};
use linux_raw::cred::Capability;
use linux_raw::process::{getegid, geteuid};
use linux_raw::{arch, nr, prctl};

use super::own_status;
use crate::harness::{alone, config, engine, parts, start, status, tier};

/// Whether this host has a capability.
pub(super) fn has(capability: Capability) -> bool {
    let effective = own_status("CapEff:");
    let effective = u64::from_str_radix(&effective, 16).unwrap();
    effective & capability.bit() != 0
}

/// Whether this host may have workers of another user's.
pub(super) fn may_change_user() -> bool {
    has(Capability::SETUID) && has(Capability::SETGID)
}

/// Real, effective, saved and file-system id, as a line of /proc/PID/status has them.
fn four(id: u32) -> String {
    format!("{id}\t{id}\t{id}\t{id}")
}

/// Starts a worker and gives its users, groups and supplementary groups.
fn ids(config: &Config) -> [String; 3] {
    let engine = Engine::new(config).unwrap();
    let worker = start(&engine, |code| code.ret().unwrap());
    ["Uid", "Gid", "Groups"].map(|key| status(&worker, key))
}

#[test]
fn a_worker_is_nobody_of_importance() {
    let [users, groups, others] = ids(&config());
    let own = (geteuid(), getegid());
    let expected = if own.0 == 0 { (65534, 65534) } else { own };
    assert_eq!((users, groups), (four(expected.0), four(expected.1)));
    if own.0 == 0 {
        assert_eq!(others, "");
    }
}

#[test]
fn the_host_may_name_itself_unless_it_is_root() {
    let (uid, gid) = (geteuid(), getegid());
    let config = config().uid(uid).gid(gid);
    if uid == 0 || gid == 0 {
        let refused = Engine::new(&config).unwrap_err();
        return assert_eq!(refused.blame, Blame::Caller(Misuse::RootWorker));
    }
    let [users, groups, _] = ids(&config);
    assert_eq!((users, groups), (four(uid), four(gid)));
}

#[test]
fn root_is_refused_whoever_asks() {
    for config in [
        config().uid(0),
        config().gid(0),
        config().uid(0).gid(12345),
        config().uid(12345).gid(0),
    ] {
        let refused = Engine::new(&config).unwrap_err();
        assert_eq!(refused.stage, Stage::Engine);
        assert_eq!(refused.blame, Blame::Caller(Misuse::RootWorker));
        let text = refused.to_string();
        assert!(text.contains("Config::uid"), "{text}");
    }
}

/// "No change" is no user: a worker that stayed what a root host is would be root.
#[test]
fn no_change_is_no_user() {
    for config in [config().uid(u32::MAX), config().gid(u32::MAX)] {
        let refused = Engine::new(&config).unwrap_err();
        assert_eq!(refused.blame, Blame::Caller(Misuse::NoSuchUser));
    }
}

/// A root host that is somebody else for a while has workers that are that one for good.
#[test]
fn a_host_that_may_be_root_again_has_workers_that_may_not() {
    if geteuid() != 0 {
        return absence::absent("root", "an ordinary user is never root again");
    }
    let test = "host::identity::a_host_that_may_be_root_again_has_workers_that_may_not";
    alone(test, || {
        let (unchanged, other) = (u32::MAX, 12345u32);
        for call in [nr::SETRESGID, nr::SETRESUID] {
            // SAFETY: nothing is passed but numbers, and this process is the test's own.
            let answer =
                unsafe { arch::syscall3(call, unchanged.into(), other.into(), unchanged.into()) };
            answer.done().unwrap();
        }
        assert_eq!(geteuid(), other);
        // A change of user ends that, and the id maps want it.
        prctl::set_dumpable(true).unwrap();
        if let Some(why) = absence::hidden_workers() {
            return absence::absent("workers-in-proc", why);
        }
        let [users, groups, _] = ids(&config());
        assert_eq!((users, groups), (four(other), four(other)));
    });
}

#[test]
fn another_user_takes_a_privilege() {
    for config in [
        config().uid(12345).gid(12346),
        config().uid(12345),
        config().gid(12346),
    ] {
        let wanted = (config.chosen_uid(), config.chosen_gid());
        if may_change_user() {
            let [users, groups, others] = ids(&config);
            let (uid, gid) = (wanted.0.unwrap_or(65534), wanted.1.unwrap_or(65534));
            assert_eq!((users, groups), (four(uid), four(gid)));
            assert_eq!(others, "");
            continue;
        }
        let engine = Engine::new(&config).unwrap();
        let module = parts(&[0xc3]).build(&engine).unwrap();
        let refused = engine.instantiate(&module).unwrap_err();
        let step = match tier() {
            Tier::WithoutNamespaces => Step::User,
            _ => Step::IdMaps,
        };
        assert_eq!(refused.stage, Stage::Lockdown(step), "{refused}");
        assert!(matches!(refused.blame, Blame::Kernel { .. }), "{refused}");
        let text = refused.to_string();
        let layer = step.layers()[0].name();
        for part in [
            step.name(),
            layer,
            "Config::uid",
            "Config::gid",
            "CAP_SETUID",
        ] {
            assert!(text.contains(part), "no {part:?} in: {text}");
        }
    }
    // The refusals of one engine are nothing to another.
    start(&engine(), |code| code.ret().unwrap());
}
