//! Exit statuses, as `cellwall run --help` promises them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::asm::{finish, forge};
use crate::harness::{file, image, run, run_with_input};

#[test]
fn a_guest_finishes_with_a_status_of_its_own() {
    assert_eq!(run(&["run", "hello"]).status, 0);
    // What is no gzip file is the guest's own error.
    let refused = run_with_input(&["run", "gunzip"], b"no gzip file at all");
    assert_eq!(refused.status, 1);
    assert!(refused.stderr.starts_with("gunzip: "), "{}", refused.stderr);
    assert!(!refused.stderr.contains("cellwall"), "{}", refused.stderr);
    let png = run_with_input(&["run", "png"], b"no picture either");
    assert_eq!(png.status, 1);
    let usage = run(&["run", "crash"]);
    assert_eq!(usage.status, 2);
}

#[test]
fn values_up_to_255_are_statuses() {
    for value in [0, 1, 124, 255] {
        let outcome = finish(value);
        assert_eq!(
            (outcome.status, outcome.stderr.as_str()),
            (i32::try_from(value).unwrap(), "")
        );
    }
    for value in [256, 1 << 32, u64::MAX] {
        let outcome = finish(value);
        assert_eq!(outcome.status, 255);
        assert!(
            outcome.stderr.contains(&value.to_string()),
            "{}",
            outcome.stderr
        );
    }
}

#[test]
fn traps_are_shown_as_a_shell_shows_signals() {
    let expected = [
        ("null", 139, "memory trap, reading 0x0, at pc 0x"),
        ("gp", 139, "memory trap"),
        ("unaligned-ac", 135, "bus trap"),
        ("write-code", 139, "memory trap, writing 0x"),
        ("jump-data", 139, "memory trap, executing 0x"),
        ("jump-null", 139, "memory trap, executing 0x0, at pc 0x0"),
        ("divide", 136, "arithmetic trap, at pc 0x"),
        ("ud2", 132, "illegal instruction, at pc 0x"),
        ("int3", 133, "breakpoint, at pc 0x"),
        ("privileged", 139, "memory trap"),
        ("stack", 139, "--stack gives it more"),
        ("panic", 101, "the guest panicked: "),
        ("syscall", 159, "forbidden system call"),
        ("syscall-32", 159, "forbidden system call"),
        ("exit-group", 134, "exit_group(3)"),
    ];
    for (misdeed, status, message) in expected {
        let outcome = run(&["run", "crash", misdeed]);
        assert_eq!(outcome.status, status, "{misdeed}: {}", outcome.stderr);
        assert!(
            outcome.stderr.starts_with("cellwall: "),
            "{misdeed}: {}",
            outcome.stderr
        );
        assert!(
            outcome.stderr.contains(message),
            "{misdeed}: {}",
            outcome.stderr
        );
        assert_eq!(
            outcome.stderr.lines().count(),
            1,
            "{misdeed}: {}",
            outcome.stderr
        );
        assert!(outcome.stdout.is_empty(), "{misdeed}");
    }
}

#[test]
fn wrong_hostcalls_are_answered_with_an_errno() {
    let expected = [
        ("badcall", "badcall: ENOSYS\n"),
        ("badptr", "badptr: EFAULT\n"),
        ("badptr-null", "badptr-null: EFAULT\n"),
        ("badptr-wrap", "badptr-wrap: EFAULT\n"),
        ("badptr-read", "badptr-read: EFAULT\n"),
    ];
    for (misdeed, answer) in expected {
        let outcome = run(&["run", "crash", misdeed]);
        assert_eq!(outcome.status, 0, "{misdeed}: {}", outcome.stderr);
        assert_eq!(String::from_utf8(outcome.stdout).as_deref(), Ok(answer));
    }
}

#[test]
fn a_guest_without_memory_panics() {
    let outcome = run(&["run", "--heap", "8M", "leak"]);
    assert_eq!(outcome.status, 101);
    assert!(
        outcome.stderr.contains("memory allocation"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_forged_state_is_the_guests_end() {
    let outcome = forge(0xffff_ffff);
    assert_eq!(outcome.status, 137, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("state"), "{}", outcome.stderr);
}

#[test]
fn there_is_no_such_guest() {
    for name in [
        "no-such-guest",
        "./no-such-guest",
        "/no/such/guest",
        "",
        "Hello",
    ] {
        let outcome = run(&["run", name]);
        assert_eq!(outcome.status, 127, "{name}: {}", outcome.stderr);
        assert!(
            outcome.stderr.starts_with("cellwall: there is no guest"),
            "{}",
            outcome.stderr
        );
    }
    let outcome = run(&[OsStr::new("run"), OsStr::from_bytes(b"no\xff\x1b[31m")]);
    assert_eq!(outcome.status, 127);
    assert!(
        outcome.stderr.contains(r#""no\xff\u{1b}[31m""#),
        "{}",
        outcome.stderr
    );
}

#[test]
fn what_is_no_guest_is_refused() {
    let hello = image("hello");
    let mut other_machine = hello.to_vec();
    other_machine[18] = 0xb7; // AArch64
    let files = [
        file("empty", b""),
        file("truncated", &hello[..100]),
        file("headers-only", &hello[..1000]),
        file("script", b"#!/bin/sh\n"),
        file("other-machine", &other_machine),
    ];
    let paths = files.iter().map(|file| file.path.as_path());
    // The second is no path to a file: its last-but-one part is none to a directory.
    for path in paths.chain(["/etc/passwd", "/etc/passwd/x", "/", "/dev/null"].map(Path::new)) {
        let outcome = run(&[OsStr::new("run"), path.as_os_str()]);
        assert_eq!(
            outcome.status,
            126,
            "{}: {}",
            path.display(),
            outcome.stderr
        );
        assert!(
            outcome.stderr.starts_with("cellwall: "),
            "{}",
            outcome.stderr
        );
        assert!(outcome.stdout.is_empty());
    }
}

#[test]
fn a_guest_runs_from_a_file() {
    let guest = file("hello", image("hello"));
    let outcome = run(&[
        OsString::from("run"),
        guest.path.clone().into(),
        "again".into(),
    ]);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert!(
        String::from_utf8(outcome.stdout)
            .unwrap()
            .contains("argument 1: again\n")
    );
}

#[test]
fn a_wrong_command_line_is_125() {
    for args in [
        &["run"][..],
        &["run", "--deadline", "soon", "hello"],
        &["run", "--heap", "lots", "hello"],
        &["run", "--unknown", "hello"],
        &["walk"],
        &[],
    ] {
        let outcome = run(args);
        assert_eq!(outcome.status, 125, "{args:?}");
        assert!(outcome.stderr.contains("--help"), "{}", outcome.stderr);
        assert!(outcome.stdout.is_empty());
    }
}

#[test]
fn memory_that_does_not_fit_is_125() {
    let outcome = run(&["run", "--heap", "5G", "hello"]);
    assert_eq!(outcome.status, 125);
    assert!(outcome.stderr.contains("--heap"), "{}", outcome.stderr);
    let outcome = run(&["run", "--heap", "3G", "--stack", "64M", "hello"]);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
}

#[test]
fn arguments_that_do_not_fit_are_125() {
    let outcome = run(&["run", "hello", &"x".repeat(100_000)]);
    assert_eq!(outcome.status, 125);
    assert!(
        outcome.stderr.contains("bytes of arguments"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn help_is_the_manual() {
    let help = run(&["run", "--help"]);
    assert_eq!(help.status, 0);
    let text = String::from_utf8(help.stdout).unwrap();
    for part in [
        "cellwall run [OPTIONS] GUEST [ARGS]...",
        "--deadline",
        "--heap",
        "--stack",
        "124       the deadline passed",
        "139       trap: memory",
        "159       trap: forbidden system call",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert_eq!(run(&["--version"]).status, 0);
    let all = String::from_utf8(run(&["--help"]).stdout).unwrap();
    for command in ["run", "guests", "probe"] {
        assert!(all.contains(&format!("\n  {command} ")), "{all}");
    }
}
