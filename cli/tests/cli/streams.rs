//! Standard input and output, and arguments: through the wall and back, byte for byte.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::harness::{Outcome, cellwall, file, is_worker, run, run_with_input, worker};

pub(crate) fn gzip(data: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that are neither all alike nor hard to make.
fn data(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut data = Vec::with_capacity(bytes + 8);
    while data.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend_from_slice(&(state & 0x0f0f_00ff_ff00_0f0f).to_le_bytes());
    }
    data.truncate(bytes);
    data
}

#[test]
fn pipes_carry_everything() {
    // Stored, so that input and output are both large.
    let data = data(24 << 20);
    let outcome = run_with_input(&["run", "gunzip"], &gzip(&data, Compression::none()));
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert!(
        outcome.stdout == data,
        "{} of {} bytes",
        outcome.stdout.len(),
        data.len()
    );
}

#[test]
fn files_carry_everything() {
    let data = data(5 << 20);
    let packed = file("data.gz", &gzip(&data, Compression::fast()));
    let unpacked = file("data", b"");
    let outcome: Outcome = cellwall(&["run", "--deadline", "5m", "gunzip"])
        .stdin(File::open(&packed.path).unwrap())
        .stdout(File::create(&unpacked.path).unwrap())
        .output()
        .unwrap()
        .into();
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert!(std::fs::read(&unpacked.path).unwrap() == data);
}

#[test]
fn a_closed_standard_input_is_empty() {
    let outcome = run(&["run", "gunzip"]);
    assert_eq!(outcome.status, 1);
    assert!(outcome.stderr.starts_with("gunzip: "), "{}", outcome.stderr);
}

#[test]
fn arguments_are_the_guests() {
    let args = [
        "run",
        "hello",
        "--deadline",
        "1ms",
        "-h",
        "--",
        "",
        "two words",
    ];
    let outcome = run(&args);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let expected = "Hello from a Cellwall guest!\nargument 1: --deadline\nargument 2: 1ms\n\
                    argument 3: -h\nargument 4: --\nargument 5: \nargument 6: two words\n";
    assert_eq!(String::from_utf8(outcome.stdout).unwrap(), expected);
    let raw = [
        OsStr::new("run"),
        OsStr::new("hello"),
        OsStr::from_bytes(b"\xff\xfe"),
    ];
    assert!(run(&raw).stdout.ends_with(b"argument 1: \xff\xfe\n"));
}

/// `cellwall run gunzip < zeros.gz | head -c 1`.
#[test]
fn a_reader_that_leaves_early_is_the_guests_epipe() {
    let packed = file("zeros.gz", &gzip(&vec![0; 64 << 20], Compression::fast()));
    let mut child = cellwall(&["run", "gunzip"])
        .stdin(File::open(&packed.path).unwrap())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    // It cannot have finished: most of its output has no room in the pipe.
    let worker = worker(&child);
    drop(stdout);
    let outcome: Outcome = child.wait_with_output().unwrap().into();
    assert_eq!(outcome.status, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("EPIPE"), "{}", outcome.stderr);
    assert!(!is_worker(worker), "an orphan");
}

#[test]
fn nobody_needs_to_listen_at_all() {
    let mut command = cellwall(&["run", "crash", "null"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = command
        .stdout(Stdio::null())
        .stderr(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(139));
    for args in [&["guests"][..], &["probe"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = cellwall(args).stdout(writer).status().unwrap();
        assert_eq!(status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn built_in_guests_are_listed() {
    let list = String::from_utf8(run(&["guests"]).stdout).unwrap();
    let names: Vec<_> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let expected: Vec<_> = cellwall_guests::all()
        .iter()
        .map(|guest| guest.name)
        .collect();
    assert_eq!(names, expected);
}

#[test]
fn a_file_comes_before_a_built_in_of_its_name() {
    let guest = file("png", crate::harness::image("hello"));
    let outcome: Outcome = cellwall(&[OsString::from("run"), "png".into()])
        .current_dir(guest.path.parent().unwrap())
        .output()
        .unwrap()
        .into();
    assert!(outcome.stdout.starts_with(b"Hello"), "{}", outcome.stderr);
}
