//! Measures Cellwall, the peer and the machine's limits, and prints them side by side.
//!
//! The table goes to the standard output, progress to the standard error.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;

use bench::{Failure, Measure, Topic, limits, ours, polkavm, table};
use clap::Parser;

/// Guest memory in figures: ours, a peer's, and the machine's own limits.
#[derive(Parser)]
struct Options {
    /// Measure only topics whose name has this in it.
    #[arg(long)]
    only: Option<String>,
    /// Also write the figures there as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    if cfg!(debug_assertions) {
        eprintln!("this build is not optimised: its figures mean nothing (--release)");
    }
    let others = limits::MEASURES.iter().chain(&polkavm::MEASURES);
    let measures: Vec<&Measure> = ours::MEASURES.iter().chain(others).collect();
    let is_wanted = |topic: &Topic| {
        let only = options.only.as_deref();
        only.is_none_or(|only| topic.name().contains(only))
    };
    let mut figures = Vec::new();
    // By topic: a drift of the machine's speed meets all sides alike.
    for topic in Topic::ALL.into_iter().filter(is_wanted) {
        for measure in measures.iter().filter(|measure| measure.topic == topic) {
            eprintln!("measuring {}: {} ...", topic.name(), measure.how);
            figures.push(measure.run());
        }
    }
    println!("{}\n\n{}", machine(), table(&figures));
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_string_pretty(&figures)?)?;
    }
    Ok(())
}

/// The machine in one line, since no figure means anything without it.
fn machine() -> String {
    let cpus = available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let paging = fs::read_to_string(polkavm::PAGING_SYSCTL).unwrap_or_default();
    format!(
        "{cpus} CPUs, Linux {}, vm.unprivileged_userfaultfd={}",
        kernel.trim(),
        paging.trim()
    )
}
