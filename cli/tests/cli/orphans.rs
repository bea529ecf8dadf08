//! Whatever ends the command or the worker, nothing is left behind.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Outcome, cellwall, eventually, is_worker, worker};

fn kill(signal: &str, process: u32) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{signal} {process}")])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_killed_worker_ends_the_command_at_once() {
    let child = cellwall(&["run", "spin"]).spawn().unwrap();
    let worker = worker(&child);
    let start = Instant::now();
    kill("KILL", worker);
    let outcome: Outcome = child.wait_with_output().unwrap().into();
    assert_eq!(outcome.status, 137, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("SIGKILL"), "{}", outcome.stderr);
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

/// While it waits for input on behalf of the guest, it looks after the worker all the same.
#[test]
fn a_worker_that_dies_while_input_is_awaited_ends_the_command() {
    let mut child = cellwall(&["run", "gunzip"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let silent = child.stdin.take().unwrap();
    let worker = worker(&child);
    kill("KILL", worker);
    let start = Instant::now();
    let outcome: Outcome = child.wait_with_output().unwrap().into();
    assert_eq!(outcome.status, 137, "{}", outcome.stderr);
    assert!(start.elapsed() < Duration::from_secs(2));
    drop(silent);
}

/// Whoever starts the command may ignore SIGCHLD, with which the kernel would forget what became
/// of the worker.
#[test]
fn an_ignored_sigchld_hides_no_status() {
    let outcome: Outcome = Command::new("env")
        .args(["--ignore-signal=CHLD", env!("CARGO_BIN_EXE_cellwall")])
        .args(["run", "crash", "syscall"])
        .output()
        .expect("env, of coreutils")
        .into();
    assert_eq!(outcome.status, 159, "{}", outcome.stderr);
}

#[test]
fn a_killed_command_takes_its_worker_along() {
    for signal in ["KILL", "TERM", "INT"] {
        // A shell's background jobs ignore SIGINT, and so would whatever they start.
        let mut child = Command::new("env")
            .args(["--default-signal=INT,TERM", env!("CARGO_BIN_EXE_cellwall")])
            .args(["run", "spin"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("env, of coreutils");
        let worker = worker(&child);
        kill(signal, child.id());
        assert_eq!(child.wait().unwrap().code(), None);
        assert!(
            eventually(|| !is_worker(worker)),
            "an orphan after {signal}"
        );
    }
}

#[test]
fn every_ending_is_the_workers_too() {
    let mut child = cellwall(&["run", "--deadline", "300ms", "spin", "ready"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let worker = worker(&child);
    assert_eq!(child.wait().unwrap().code(), Some(124));
    assert!(!is_worker(worker), "an orphan");
}
