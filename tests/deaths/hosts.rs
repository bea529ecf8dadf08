#![expect(unsafe_code, reason = "forks")]
//! A host that is killed takes every process of ours with it: a hundred workers, those that are
//! starting, and also when a forked child of its lives on with copies of its descriptors.
//!
//! The test adopts what the host leaves (`PR_SET_CHILD_SUBREAPER`), so that it alone decides when
//! a dead process is reaped: a number cannot be used again, and an orphan that lives is seen.

use std::ffi::c_void;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use cellwall::{Engine, Instance, Interrupt};
use linux_raw::fd::{AsFd as _, OwnedFd};
use linux_raw::io::{PollFd, PollFlags, poll};
use linux_raw::pidfd::{
    PidfdFlags, WaitFlags, WaitStatus, pidfd_open, pidfd_send_signal, waitid_pidfd,
};
use linux_raw::process::{CloneArgs, Pid, clone_copy, exit_group};
use linux_raw::signal::Signal;
use linux_raw::time::Timespec;

use super::{calling, endless};
use crate::harness::{
    adopt_orphans, alone, assemble, both, call, child_processes, config, eventually, nurseries,
    parts, start, way,
};

const WORKERS: usize = 100;
/// Ten times 100 ms.
const GONE: Duration = Duration::from_millis(10 * 100);
/// What kind of host the test is started as.
const HOST: &str = "CELLWALL_TEST_HOST";

/// This program again, as a host.
fn start_host(test: &str, kind: &str) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(HOST, kind)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(host.stdout.take().unwrap()).lines();
    (host, lines)
}

/// The numbers after a word that the host prints.
fn told(lines: &mut Lines<BufReader<ChildStdout>>, word: &str) -> Vec<u32> {
    let rest = lines
        .map(|line| line.unwrap())
        .find_map(|line| line.split_once(word).map(|(_, rest)| rest.to_owned()));
    let rest = rest.unwrap_or_else(|| panic!("the host never said {word:?}"));
    let numbers = rest
        .split_whitespace()
        .map(|number| number.parse().unwrap());
    numbers.collect()
}

/// A descriptor of each process, so that it is the same one later.
fn open_all(processes: &[u32]) -> Vec<OwnedFd> {
    let open = |number: &u32| {
        let number = Pid::from_raw(*number).expect("a number");
        pidfd_open(number, PidfdFlags::empty()).expect("it lives")
    };
    processes.iter().map(open).collect()
}

/// Reaps the host's children, of which each must have been killed, within the bound.
fn reap_all(killed_at: Instant, mut processes: Vec<OwnedFd>) {
    eventually(GONE, "all of them are dead", || {
        processes.retain(|process| {
            // ECHILD: the host has not ended yet, so they are not ours yet.
            let ended = waitid_pidfd(process, WaitFlags::NOHANG | WaitFlags::ALL);
            let ended = ended.ok().flatten();
            let by_kill = |status| matches!(status, WaitStatus::Killed { signal, .. } if signal == Signal::KILL);
            assert!(ended.is_none_or(by_kill), "{ended:?}");
            ended.is_none()
        });
        processes.is_empty()
    });
    let took = killed_at.elapsed();
    println!("all dead after {took:?}");
    assert!(took < GONE, "{took:?}");
}

/// Waits until processes are dead that are nobody's to reap any more: their nursery has seen to it.
fn are_dead(mut processes: Vec<OwnedFd>) {
    eventually(GONE, "the nursery's workers are dead", || {
        processes.retain(|process| {
            let mut ready = [PollFd::new(process.as_fd(), PollFlags::IN)];
            poll(&mut ready, Some(Timespec::from(Duration::ZERO))) == Ok(0)
        });
        processes.is_empty()
    });
}

/// A host with many workers in all states, until somebody kills it.
fn be_a_host(kind: &str) {
    let config = if kind.contains("direct") {
        config().direct(true)
    } else {
        config()
    };
    let engine = Engine::new(&config).unwrap();
    let mut workers: Vec<Instance> = (0..WORKERS).map(|_| start(&engine, calling)).collect();
    // A third has run and waits in a hostcall, a third has run to its end.
    for (index, worker) in workers
        .iter_mut()
        .enumerate()
        .filter(|(index, _)| index % 3 > 0)
    {
        call(worker, &[]);
        assert!(matches!(worker.run().unwrap(), Interrupt::Hostcall(_)));
        if index % 3 == 2 {
            worker.answer(0).unwrap();
            assert!(matches!(worker.run().unwrap(), Interrupt::Finished(_)));
        }
    }
    let mut busy = start(&engine, endless);
    let mut numbers: Vec<String> = workers
        .iter()
        .map(|one| one.process_id().to_string())
        .collect();
    numbers.push(busy.process_id().to_string());
    if kind.contains("forking") {
        println!("child {}", fork_a_child(&engine));
    }
    let nurseries = nurseries().into_iter().map(|one| one.to_string());
    println!("nurseries {}", nurseries.collect::<Vec<_>>().join(" "));
    println!("workers {}", numbers.join(" "));
    call(&mut busy, &[]);
    busy.set_deadline(Duration::from_secs(60));
    let _ = busy.run();
}

extern "C" fn live_on(_: *mut c_void) -> ! {
    std::thread::sleep(Duration::from_secs(60));
    exit_group(0)
}

/// A child that has copies of all descriptors and handles, and lives longer than its parent.
fn fork_a_child(engine: &Engine) -> u32 {
    let data = std::ptr::from_ref(engine).cast_mut().cast::<c_void>();
    // SAFETY: the child touches nothing of its copy of this memory, it sleeps and ends.
    let child = unsafe { clone_copy(&CloneArgs::default(), None, live_on, data) };
    child.expect("a child").pid.raw()
}

fn kill_a_host(test: &str, kind: &str) {
    let (mut host, mut lines) = start_host(test, kind);
    let child = (kind.contains("forking")).then(|| open_all(&told(&mut lines, "child ")));
    let nurseries = open_all(&told(&mut lines, "nurseries "));
    let workers = open_all(&told(&mut lines, "workers "));
    assert_eq!(workers.len(), WORKERS + 1);
    let killed_at = Instant::now();
    host.kill().unwrap();
    if kind.contains("direct") {
        assert!(nurseries.is_empty());
        reap_all(killed_at, workers);
    } else {
        assert_eq!(nurseries.len(), 1);
        reap_all(killed_at, nurseries);
        are_dead(workers);
    }
    host.wait().unwrap();
    if let Some([child]) = child.as_deref() {
        let lives = waitid_pidfd(child, WaitFlags::NOHANG | WaitFlags::ALL);
        assert_eq!(lives, Ok(None), "the forked child lives on");
        pidfd_send_signal(child, Some(Signal::KILL)).unwrap();
        waitid_pidfd(child, WaitFlags::ALL).unwrap();
    }
    assert_eq!(child_processes(), [], "nothing is left");
}

fn kill_hosts(test: &str, kind: &str) {
    if let Ok(kind) = std::env::var(HOST) {
        return be_a_host(&kind);
    }
    alone(test, || {
        adopt_orphans();
        both(|config| kill_a_host(test, &format!("{kind} {}", way(config))));
    });
}

#[test]
fn a_hundred_workers_die_with_their_host() {
    kill_hosts(
        "deaths::hosts::a_hundred_workers_die_with_their_host",
        "plain",
    );
}

#[test]
fn workers_die_with_a_host_whose_forked_child_lives_on() {
    kill_hosts(
        "deaths::hosts::workers_die_with_a_host_whose_forked_child_lives_on",
        "forking",
    );
}

/// A host with several engines, of which each starts one worker after another, until somebody kills
/// it: at each moment some of the workers are between the clone and their wish to die with it.
fn be_a_starting_host(kind: &str) {
    let config = &if kind == "direct" {
        config().direct(true)
    } else {
        config()
    };
    std::thread::scope(|scope| {
        for number in 0..3 {
            scope.spawn(move || {
                let engine = Engine::new(config).unwrap();
                let module = parts(&assemble(calling)).build(&engine).unwrap();
                drop(engine.instantiate(&module).unwrap());
                if number == 0 {
                    println!("workers 0");
                }
                loop {
                    drop(engine.instantiate(&module).unwrap());
                }
            });
        }
    });
}

/// Reaps whatever is this process' child, until nothing is.
fn reap_orphans(bound: Duration) {
    eventually(bound, "no worker is left", || {
        let orphans = child_processes();
        for orphan in orphans.iter().filter_map(|number| Pid::from_raw(*number)) {
            let orphan = pidfd_open(orphan, PidfdFlags::empty()).expect("nobody else reaps it");
            let _ = waitid_pidfd(&orphan, WaitFlags::NOHANG | WaitFlags::ALL);
        }
        orphans.is_empty()
    });
}

/// Wherever the start of a worker is when its host dies, the worker dies too: also between the
/// clone and its wish to.
#[test]
fn workers_that_are_starting_die_with_their_host() {
    const TEST: &str = "deaths::hosts::workers_that_are_starting_die_with_their_host";
    if let Ok(kind) = std::env::var(HOST) {
        return be_a_starting_host(&kind);
    }
    alone(TEST, || {
        adopt_orphans();
        both(|config| {
            for attempt in 0..100 {
                let (mut host, mut lines) = start_host(TEST, way(config));
                told(&mut lines, "workers ");
                std::thread::sleep(Duration::from_micros(5_000 + 47 * attempt));
                host.kill().unwrap();
                host.wait().unwrap();
                reap_orphans(GONE);
            }
        });
    });
}
