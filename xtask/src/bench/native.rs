//! Decompressing 64 MiB behind the wall, against the same code as an ordinary program.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;
use freestanding::{Link, Request};

use super::Bench;
use super::figure::{Figure, quantiles};
use crate::{Failure, target};

const MEBIBYTE: usize = 1 << 20;
const INPUT_BYTES: usize = 64 * MEBIBYTE;
const PAIRS: usize = 10;

pub(super) fn measure(bench: &Bench<'_>) -> Result<Vec<Figure>, Failure> {
    let work = target(bench.root).join("bench");
    fs::create_dir_all(&work)?;
    let input = input(&work)?;
    let native = native_program(bench.root, &work)?;
    let cellwall = cellwall_program(bench.root)?;
    check_same_output(&native, &cellwall, &input)?;
    let pairs = if bench.quick { 3 } else { PAIRS };
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..pairs {
        // In turn, so that a drift of the machine's speed meets both alike.
        let (sandboxed, bare) = if pair % 2 == 0 {
            let sandboxed = time(&cellwall, &["run", "gunzip"], &input)?;
            (sandboxed, time(&native, &[], &input)?)
        } else {
            let bare = time(&native, &[], &input)?;
            (time(&cellwall, &["run", "gunzip"], &input)?, bare)
        };
        ours.push(sandboxed);
        theirs.push(bare);
        ratios.push(sandboxed / bare);
    }
    let mut figure = Figure::with_limit(
        "native: gunzip of 64 MiB, whole processes",
        "ms",
        quantiles(ours),
        ("the same code, not sandboxed", quantiles(theirs)),
    );
    // Of the pairs, not of the medians: a pair shares the machine's mood.
    figure.ratio_to_limit = Some(quantiles(ratios).p50);
    Ok(vec![figure])
}

/// Text-like data that compresses about as well as text does, the same on every machine.
fn input(work: &Path) -> Result<PathBuf, Failure> {
    let path = work.join("input.gz");
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut words = Vec::new();
    for _ in 0..4096 {
        let mut word = Vec::new();
        for _ in 0..2 + next(&mut random) % 9 {
            word.push(b'a' + u8::try_from(next(&mut random) % 26)?);
        }
        words.push(word);
    }
    let mut text = Vec::with_capacity(INPUT_BYTES + 16);
    while text.len() < INPUT_BYTES {
        // The product of two draws makes some words common and most of them rare, as in texts.
        let pick = (next(&mut random) % 4096) * (next(&mut random) % 4096) / 4096;
        text.extend_from_slice(&words[usize::try_from(pick)?]);
        text.push(if next(&mut random).is_multiple_of(12) {
            b'\n'
        } else {
            b' '
        });
    }
    text.truncate(INPUT_BYTES);
    let mut encoder = GzEncoder::new(File::create(&path)?, Compression::default());
    encoder.write_all(&text)?;
    encoder.finish()?;
    Ok(path)
}

/// xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016.
fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
}

fn native_program(root: &Path, work: &Path) -> Result<PathBuf, Failure> {
    let built = freestanding::build(&Request {
        workspace: root,
        package: "cellwall-guest-programs",
        bins: &["gunzip"],
        target_dir: &work.join("native"),
        link: Link::Native,
        strip: true,
        cfgs: &[],
    })?;
    built
        .into_iter()
        .next()
        .ok_or_else(|| "no native gunzip was built".into())
}

/// The command, built as the README builds it.
fn cellwall_program(root: &Path) -> Result<PathBuf, Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "-p", "cellwall-cli"])
        .current_dir(root)
        .status()?;
    if !status.success() {
        return Err("the cellwall command did not build".into());
    }
    Ok(target(root).join("release/cellwall"))
}

fn check_same_output(native: &Path, cellwall: &Path, input: &Path) -> Result<(), Failure> {
    let bare = Command::new(native).stdin(File::open(input)?).output()?;
    let sandboxed = Command::new(cellwall)
        .args(["run", "gunzip"])
        .stdin(File::open(input)?)
        .output()?;
    if bare.stdout.len() != INPUT_BYTES || bare.stdout != sandboxed.stdout {
        return Err("the two programs do not give the same 64 MiB".into());
    }
    Ok(())
}

/// Milliseconds from start to end of a whole process.
fn time(program: &Path, arguments: &[&str], input: &Path) -> Result<f64, Failure> {
    let start = Instant::now();
    let status = Command::new(program)
        .args(arguments)
        .stdin(File::open(input)?)
        .stdout(Stdio::null())
        .status()?;
    let elapsed = start.elapsed();
    if !status.success() {
        return Err(format!("{} ended with {status}", program.display()).into());
    }
    Ok(elapsed.as_secs_f64() * 1e3)
}
