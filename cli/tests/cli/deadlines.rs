//! The deadline: of a guest that computes, and of one that waits.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flate2::Compression;

use crate::harness::{Outcome, cellwall};
use crate::streams::gzip;

const LIMIT: Duration = Duration::from_millis(300);

/// Bounds on time are asserted at ten times the figure.
fn stopped_in_time(command: &mut Command, input: Stdio) {
    let start = Instant::now();
    let outcome: Outcome = command.stdin(input).output().expect("an end").into();
    let took = start.elapsed();
    assert_eq!(outcome.status, 124, "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("deadline of 300ms"),
        "{}",
        outcome.stderr
    );
    assert!(took >= LIMIT && took < LIMIT * 10, "{took:?}");
}

#[test]
fn of_a_guest_that_loops() {
    stopped_in_time(
        &mut cellwall(&["run", "--deadline", "300ms", "spin"]),
        Stdio::null(),
    );
}

#[test]
fn of_a_guest_that_waits_for_input() {
    let (reader, writer) = std::io::pipe().unwrap();
    stopped_in_time(
        &mut cellwall(&["run", "--deadline", "300ms", "gunzip"]),
        reader.into(),
    );
    drop(writer);
}

#[test]
fn of_a_guest_that_waits_for_its_reader() {
    let (reader, writer) = std::io::pipe().unwrap();
    let input = crate::harness::file("zeros.gz", &gzip(&vec![0; 4 << 20], Compression::fast()));
    let input = std::fs::File::open(&input.path).unwrap();
    let mut command = cellwall(&["run", "--deadline", "300ms", "gunzip"]);
    stopped_in_time(command.stdout(writer), input.into());
    drop(reader);
}

#[test]
fn of_a_guest_that_has_ended_before() {
    let outcome: Outcome = cellwall(&["run", "--deadline", "1m", "hello"])
        .output()
        .unwrap()
        .into();
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
}

#[test]
fn that_has_passed_already() {
    let outcome: Outcome = cellwall(&["run", "--deadline", "0ms", "spin"])
        .output()
        .unwrap()
        .into();
    assert_eq!(outcome.status, 124, "{}", outcome.stderr);
}
