//! The library under load: sixteen threads make guests of many kinds on engines of many kinds,
//! while workers and nurseries are killed and memory is taken. Every call returns, every answer is
//! right unless its worker was killed, and after each round nothing is left.
//!
//! | file | what |
//! |---|---|
//! | `world`, `thread` | a round, and one of its threads |
//! | `site` | the engines |
//! | `deeds/` | what is done with instances |
//! | `tenant` | an instance, and what it may answer |
//! | `lands`, `guests` | guest memory and machine code |
//! | `chaos`, `victim`, `pressure` | who kills and takes memory, and how others know |
//! | `seat` | what each thread is doing, for when it never returns |
//! | `standing`, `ledger` | what is left behind; the report |

mod chaos;
mod deeds;
mod guests;
mod lands;
mod ledger;
mod pressure;
mod seat;
mod site;
mod standing;
mod tenant;
mod thread;
mod victim;
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::ledger::Ledger;
use crate::standing::{Amounts, Standing};
use crate::world::Plan;

/// How long the engines of a round live, and how many rounds there are at least.
const ROUND: Duration = Duration::from_secs(20);
const ROUNDS_MIN: u32 = 2;

/// Hammers the library and checks all that it answers; exits with 1 if anything was wrong.
#[derive(Parser)]
struct Arguments {
    /// How long, in minutes
    #[arg(long, default_value_t = 2)]
    minutes: u64,
    /// How long, in seconds
    #[arg(long, conflicts_with = "minutes")]
    seconds: Option<u64>,
    /// What all that is random comes from: the same deeds in each thread, though not in the same
    /// order between threads. A new one by default
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, default_value_t = 16)]
    threads: usize,
    /// Only deeds whose names begin so
    #[arg(long, value_name = "DEED", default_value = "")]
    only: String,
    /// Kill nobody, and take no memory
    #[arg(long)]
    calm: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seconds = arguments.seconds.unwrap_or(arguments.minutes * 60);
    let plan = Plan {
        threads: arguments.threads.max(1),
        seed: arguments.seed.unwrap_or_else(|| fastrand::u64(..1 << 32)),
        only: arguments.only,
        is_calm: arguments.calm,
    };
    if !deeds::DEEDS
        .iter()
        .any(|deed| deed.name.starts_with(&plan.only))
    {
        eprintln!("soak: no deed begins with {}", plan.only);
        return ExitCode::FAILURE;
    }
    eprintln!("soak: {seconds} s, seed {}", plan.seed);
    let ledger = Ledger::new();
    let wrong = soak(&plan, &ledger, Duration::from_secs(seconds));
    println!("{}", ledger.report());
    for what in &wrong {
        println!("WRONG: {what}");
    }
    println!("seed {}: {} wrong", plan.seed, wrong.len());
    if wrong.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Round after round, until the time is over or something is wrong.
fn soak(plan: &Plan, ledger: &Ledger, length: Duration) -> Vec<String> {
    let begun = Instant::now();
    let round = ROUND.min(length / ROUNDS_MIN);
    let before = Standing::now();
    let mut amounts = Vec::new();
    for number in 0.. {
        let mut wrong = world::round(plan, ledger, number, round)
            .unwrap_or_else(|error| vec![format!("no engines: {error}")]);
        wrong.extend(before.differs());
        amounts.push(Amounts::after(ledger.deeds()));
        if !wrong.is_empty() {
            return wrong;
        }
        if begun.elapsed() >= length {
            return standing::grown(&amounts);
        }
    }
    Vec::new()
}
