//! Figures, each beside the machine's own limit, measured in one run by one program.

mod deaths;
mod figure;
mod lockdown;
mod native;
mod start;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use self::figure::{Figure, table};
use crate::Failure;

#[derive(Args)]
pub(crate) struct Options {
    /// Measure only this: native, death, start, lockdown, call or hostcall.
    #[arg(long)]
    only: Option<String>,
    /// Fewer samples.
    #[arg(long)]
    quick: bool,
    /// Also write the figures there as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What a measurement may use.
struct Bench<'a> {
    root: &'a Path,
    quick: bool,
}

type Measure = fn(&Bench<'_>) -> Result<Vec<Figure>, Failure>;

const MEASURES: [(&str, Measure); 6] = [
    ("native", native::measure),
    ("death", deaths::measure),
    ("start", start::starts),
    ("lockdown", lockdown::measure),
    ("call", start::calls),
    ("hostcall", start::hostcalls),
];

pub(crate) fn run(root: &Path, options: &Options) -> Result<(), Failure> {
    if let Some(only) = &options.only
        && !MEASURES.iter().any(|(name, _)| name == only)
    {
        let names: Vec<&str> = MEASURES.iter().map(|(name, _)| *name).collect();
        return Err(format!("no figure \"{only}\"; there are {}", names.join(", ")).into());
    }
    println!("{}", machine());
    let bench = Bench {
        root,
        quick: options.quick,
    };
    let mut figures = Vec::new();
    for (name, measure) in MEASURES {
        if options.only.as_deref().is_none_or(|only| only == name) {
            eprintln!("measuring {name} ...");
            figures.extend(measure(&bench)?);
        }
    }
    println!("{}", table(&figures));
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_string_pretty(&figures)?)?;
    }
    Ok(())
}

/// The machine in one line, since no figure means anything without it.
fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown CPU", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cpus} x {model}, Linux {}", kernel.trim())
}
