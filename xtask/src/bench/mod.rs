//! Figures, each beside the machine's own limit, measured in one run by one program.

mod deaths;
mod figure;
mod lockdown;
mod memory;
mod native;
mod start;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use self::figure::{Figure, table};
use crate::Failure;

#[derive(Args)]
pub(crate) struct Options {
    /// Measure only this: native, death, start, lockdown, call, hostcall or memory.
    #[arg(value_name = "FIGURE")]
    figure: Option<String>,
    /// The same.
    #[arg(long, value_name = "FIGURE", conflicts_with = "figure")]
    only: Option<String>,
    /// Fewer samples, but for memory.
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

/// What is measured by another program, which prints a table of its own.
const MEMORY: &str = "memory";

pub(crate) fn run(root: &Path, options: &Options) -> Result<(), Failure> {
    let only = options.figure.as_deref().or(options.only.as_deref());
    let mut names: Vec<&str> = MEASURES.iter().map(|(name, _)| *name).collect();
    names.push(MEMORY);
    if let Some(only) = only
        && !names.contains(&only)
    {
        return Err(format!("no figure \"{only}\"; there are {}", names.join(", ")).into());
    }
    let is_wanted = |name| only.is_none_or(|only| only == name);
    let bench = Bench {
        root,
        quick: options.quick,
    };
    let mut figures = Vec::new();
    for (name, measure) in MEASURES.into_iter().filter(|(name, _)| is_wanted(*name)) {
        eprintln!("measuring {name} ...");
        figures.extend(measure(&bench)?);
    }
    if !figures.is_empty() {
        println!("{}\n{}", machine(), table(&figures));
    }
    let mut all = Vec::new();
    for figure in &figures {
        all.push(serde_json::to_value(figure)?);
    }
    if is_wanted(MEMORY) {
        all.extend(memory::measure(root)?);
    }
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_string_pretty(&all)?)?;
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
