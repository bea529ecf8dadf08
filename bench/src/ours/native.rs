//! Decompressing 64 MiB behind the wall, and by the same code as an ordinary program.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;
use freestanding::{Link, Request};

use crate::measure::{Failure, Plan, Sampler};

const INPUT_BYTES: usize = 64 << 20;

/// Whole processes of the `cellwall` command, in milliseconds.
pub(crate) fn sandboxed(plan: &Plan) -> Result<Sampler, Failure> {
    sampler(plan, cellwall_program(plan)?, &["run", "gunzip"])
}

/// Whole processes of the guest as an ordinary program.
pub(crate) fn bare(plan: &Plan) -> Result<Sampler, Failure> {
    sampler(plan, native_program(plan)?, &[])
}

fn sampler(
    plan: &Plan,
    program: PathBuf,
    arguments: &'static [&'static str],
) -> Result<Sampler, Failure> {
    let text = text()?;
    let input = input(&work(plan)?, &text)?;
    let mut command = Command::new(&program);
    let output = command
        .args(arguments)
        .stdin(File::open(&input)?)
        .output()?;
    if output.stdout != text {
        return Err(format!("{} gives something else", program.display()).into());
    }
    Ok(Box::new(move || {
        Ok(vec![time(&program, arguments, &input)?])
    }))
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

fn work(plan: &Plan) -> Result<PathBuf, Failure> {
    let work = plan.target.join("bench");
    fs::create_dir_all(&work)?;
    Ok(work)
}

fn native_program(plan: &Plan) -> Result<PathBuf, Failure> {
    let built = freestanding::build(&Request {
        workspace: &plan.root,
        package: "cellwall-guest-programs",
        bins: &["gunzip"],
        target_dir: &work(plan)?.join("native"),
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
fn cellwall_program(plan: &Plan) -> Result<PathBuf, Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "-p", "cellwall-cli"])
        .arg("--target-dir")
        .arg(&plan.target)
        .current_dir(&plan.root)
        .status()?;
    if !status.success() {
        return Err("the cellwall command did not build".into());
    }
    Ok(plan.target.join("release/cellwall"))
}

/// The text compressed, in a file that is written once.
fn input(work: &Path, text: &[u8]) -> Result<PathBuf, Failure> {
    let path = work.join("input.gz");
    if !path.exists() {
        let unfinished = work.join("input.gz.new");
        let mut encoder = GzEncoder::new(File::create(&unfinished)?, Compression::default());
        encoder.write_all(text)?;
        encoder.finish()?;
        fs::rename(unfinished, &path)?;
    }
    Ok(path)
}

/// Data that compresses about as well as text does, the same on every machine.
fn text() -> Result<Vec<u8>, Failure> {
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
        let is_end = next(&mut random).is_multiple_of(12);
        text.push(if is_end { b'\n' } else { b' ' });
    }
    text.truncate(INPUT_BYTES);
    Ok(text)
}

/// xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016.
fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
}
