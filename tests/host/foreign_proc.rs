//! A host whose `/proc` is of a pid namespace around its own: there, processes have other numbers.

use std::fs;
use std::process::Command;
use std::time::Duration;

use cellwall::{Blame, Engine, Errno, Error, Interrupt, Stage, Step, Tier};
use linux_raw::pidfd::{PidfdFlags, number_in_proc, pidfd_open};
use linux_raw::process::{Pid, geteuid};

use super::standing::succeeds;
use crate::harness::{
    alone_under, both, call, children, config, eventually, is_nursed, start, tier, workers,
};

/// The one value of a line of `/proc/PID/status` that is four times the same.
fn user(shown: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{shown}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Uid:"));
    let ids: Vec<&str> = line.unwrap().split_whitespace().collect();
    assert_eq!(ids, [ids[0]; 4]);
    ids[0].to_owned()
}

#[test]
fn proc_may_be_of_another_pid_namespace() {
    const TEST: &str = "host::foreign_proc::proc_may_be_of_another_pid_namespace";
    // An ordinary user gets a pid namespace only in a user namespace.
    const ROOTS: &[&str] = &["unshare", "--pid", "--fork"];
    const USERS: &[&str] = &["unshare", "--map-root-user", "--pid", "--fork"];
    let unshared = if geteuid() == 0 { ROOTS } else { USERS };
    // A container that forbids namespaces forbids this one too.
    if tier() == Tier::WithoutNamespaces && !succeeds(unshared) {
        return;
    }
    alone_under(unshared, TEST, || {
        let own = fs::read_link("/proc/self").unwrap();
        assert_ne!(own.to_str().unwrap(), std::process::id().to_string());
        both(|config| {
            let engine = Engine::new(config).unwrap();
            let mut worker = start(&engine, |code| code.ret().unwrap());
            call(&mut worker, &[]);
            assert!(matches!(worker.run().unwrap(), Interrupt::Finished(_)));
            let workers = workers();
            let [shown] = workers[..] else {
                panic!("{workers:?}")
            };
            // Root's workers are nobody, where there is such a user.
            let map = fs::read_to_string("/proc/self/uid_map").unwrap();
            let count: u32 = map.split_whitespace().nth(2).unwrap().parse().unwrap();
            let expected = if count > 65534 { "65534" } else { "0" };
            assert_eq!(user(shown), expected);
            let told = worker.process_id();
            if is_nursed(config) {
                // The host has never had its number here: it is asked for in /proc.
                assert_eq!(told, shown);
            } else {
                let number = Pid::from_raw(told).unwrap();
                let pidfd = pidfd_open(number, PidfdFlags::empty()).expect("such a process");
                assert_eq!(number_in_proc(&pidfd), Ok(Pid::from_raw(shown)));
            }
            drop((worker, engine));
            eventually(Duration::from_secs(5), "all are gone", || children() == 0);
        });
    });
}

/// A host that has lost its `/proc`: a nursed worker has no number there.
#[test]
fn proc_may_be_gone() {
    const TEST: &str = "host::foreign_proc::proc_may_be_gone";
    if geteuid() != 0 || !is_nursed(&config()) {
        return; // to unmount it takes root
    }
    alone_under(&["unshare", "--mount"], TEST, || {
        let engine = Engine::new(&config()).unwrap();
        let mut worker = start(&engine, |code| code.ret().unwrap());
        let unmounted = Command::new("umount").args(["-l", "/proc"]).status();
        assert!(unmounted.unwrap().success());
        assert_eq!(worker.process_id(), 0);
        call(&mut worker, &[]);
        assert!(matches!(worker.run().unwrap(), Interrupt::Finished(_)));
    });
}

/// The calls whose failures are told apart by name, and what the error tells to do.
#[test]
fn what_to_do_about_it() {
    let maps = Stage::Lockdown(Step::IdMaps);
    for (stage, call, errno, advice) in [
        (maps, "find the worker in /proc", Errno::ESRCH, "mount one"),
        (maps, "openat", Errno::ENOENT, "Mount /proc"),
        (Stage::Start, "clone3", Errno::EPERM, "User namespaces"),
        (Stage::Start, "clone", Errno::EPERM, "User namespaces"),
        (Stage::Start, "clone", Errno::ENOSPC, "user.max_"),
        (Stage::Start, "clone", Errno::EAGAIN, "RLIMIT_NPROC"),
        (
            Stage::Engine,
            "pthread_create",
            Errno::EAGAIN,
            "RLIMIT_NPROC",
        ),
    ] {
        let blame = Blame::Kernel { call, errno };
        let text = Error { stage, blame }.to_string();
        assert!(text.contains(call) && text.contains(advice), "{text}");
    }
}
