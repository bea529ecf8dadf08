//! Measures Cellwall, its peers and the machine's limits, and prints them side by side.
//!
//! The table goes to the standard output, progress to the standard error.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use bench::{
    Failure, Figure, Plan, TOPICS, Topic, chart, configuration, machine, serve, table, take,
};
use clap::Parser;
use linux_raw::process::{Resource, get_limit, set_limit};

/// Figures of Cellwall, of its peers and of the machine, side by side.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench")]
struct Options {
    /// Measure only these: a figure, a topic (turns, memory, start, lives), or what a name of a
    /// figure begins with up to an underscore.
    #[arg(value_name = "NAME")]
    figures: Vec<String>,
    /// The same.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Fewer samples: all of it in less than a minute.
    #[arg(long)]
    quick: bool,
    /// Say what can be measured, and measure nothing.
    #[arg(long)]
    list: bool,
    /// Also write the figures there as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the table there, and not to the standard output.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Also write the medians there as bars.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Be a side that is measured in a process of its own.
    #[arg(long, hide = true)]
    side: Option<String>,
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
    // Thousands of instances take thousands of descriptors.
    let files = get_limit(Resource::Files)?;
    set_limit(Resource::Files, files.hard, files.hard)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let quick = options.quick;
    let plan = Plan {
        quick,
        root,
        target,
    };
    if let Some(side) = &options.side {
        return serve(&plan, side);
    }
    if options.list {
        return Ok(stdout().write_all(list().as_bytes())?);
    }
    if cfg!(debug_assertions) {
        eprintln!("this build is not optimised: its figures mean nothing (--release)");
    }
    let wanted: Vec<&str> = options
        .figures
        .iter()
        .chain(&options.only)
        .map(|name| &**name)
        .collect();
    check(&wanted)?;
    let about = format!("{}\n\n{}", machine(), configuration()?);
    let start = Instant::now();
    let mut figures = Vec::new();
    for topic in TOPICS {
        figures.extend(measure(topic, &wanted, &plan)?);
    }
    let seconds = start.elapsed().as_secs();
    let text = format!("{about}\n\n{}\n{seconds} s in all.\n", table(&figures));
    match &options.markdown {
        Some(path) => fs::write(path, text)?,
        None => stdout().write_all(text.as_bytes())?,
    }
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_string_pretty(&figures)?)?;
    }
    if let Some(path) = &options.svg {
        fs::write(path, chart(&figures))?;
    }
    Ok(())
}

/// The figures of a topic, as far as they are wanted.
fn measure(topic: &Topic, wanted: &[&str], plan: &Plan) -> Result<Vec<Figure>, Failure> {
    let is_wanted = |name: &str| {
        wanted.is_empty() || wanted.iter().any(|wanted| covers(wanted, topic.name, name))
    };
    let mut figures = Vec::new();
    for measure in topic.measures().filter(|one| is_wanted(one.name)) {
        let begun = begin(measure.name);
        let figure = take(measure, plan);
        end(begun);
        for (side, why) in &figure.absent {
            eprintln!("  not measured: {side}: {why}");
        }
        figures.push(figure);
    }
    for whole in topic.wholes.iter().filter(|one| is_wanted(one.name)) {
        let begun = begin(whole.name);
        figures.extend((whole.take)(plan)?);
        end(begun);
    }
    Ok(figures)
}

/// Says what is being measured.
fn begin(name: &str) -> Instant {
    eprint!("measuring {name} ...");
    Instant::now()
}

/// And how long that took.
fn end(begun: Instant) {
    eprintln!(" {:.1} s", begun.elapsed().as_secs_f64());
}

/// Whether a wish is for the figure or for its topic.
fn covers(wanted: &str, topic: &str, name: &str) -> bool {
    let rest = name.strip_prefix(wanted);
    wanted == topic || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

/// A wish for nothing is a mistake.
fn check(wanted: &[&str]) -> Result<(), Failure> {
    for wanted in wanted {
        let covers = |topic: &Topic| topic.names().any(|name| covers(wanted, topic.name, name));
        if !TOPICS.iter().any(covers) {
            return Err(format!("no figure or topic \"{wanted}\"; --list lists them").into());
        }
    }
    Ok(())
}

/// What can be measured, and what is to be reached.
fn list() -> String {
    let mut list = String::new();
    for topic in TOPICS {
        let _ = writeln!(list, "{}:", topic.name);
        for measure in topic.measures() {
            let targets: Vec<String> = measure.targets.iter().map(ToString::to_string).collect();
            let (name, unit, what) = (measure.name, measure.unit, measure.what);
            let _ = writeln!(list, "  {name}, {unit}: {what}");
            if !targets.is_empty() {
                let _ = writeln!(list, "    {}", targets.join(", "));
            }
        }
        for whole in topic.wholes {
            let _ = writeln!(list, "  {}_...: {}", whole.name, whole.what);
        }
    }
    list
}
