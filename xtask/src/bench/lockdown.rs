//! What each step of a worker's start costs.

use std::collections::BTreeMap;

use cellwall::{Config, Engine, Module, Step, Tier};

use super::Bench;
use super::figure::{Figure, micros, quantiles};
use crate::Failure;

const STARTS: usize = 300;

pub(super) fn measure(bench: &Bench<'_>) -> Result<Vec<Figure>, Failure> {
    let starts = if bench.quick { STARTS / 10 } else { STARTS };
    let mut figures = Vec::new();
    for tier in [Tier::Full, Tier::WithoutNamespaces] {
        figures.extend(of_tier(tier, starts)?);
    }
    Ok(figures)
}

fn of_tier(tier: Tier, starts: usize) -> Result<Vec<Figure>, Failure> {
    let engine = Engine::new(&Config::default().tier(tier))?;
    let module = Module::builder()
        .code(&[0xc3])
        .stack(0x10_0000, 0x1_0000)
        .build(&engine)?;
    let mut steps: BTreeMap<u8, Vec<f64>> = BTreeMap::new();
    let mut lockdowns = Vec::new();
    for _ in 0..starts {
        let times = engine.profile_start(&module)?;
        // A round in which the two sides shared a CPU missed some steps.
        if times.last().is_none_or(|last| last.step != Step::Seccomp) {
            continue;
        }
        let in_zygote = times.iter().filter(|time| time.step != Step::Exec);
        lockdowns.push(in_zygote.map(|time| micros(time.took)).sum());
        for time in times {
            steps
                .entry(time.step as u8)
                .or_default()
                .push(micros(time.took));
        }
    }
    let name = format!("lockdown, {}: all of the zygote's steps", tier.name());
    let mut figures = vec![Figure::part(name, "us", quantiles(lockdowns))];
    for (number, samples) in steps {
        let step = Step::from_number(number).ok_or("a step without a name")?;
        let name = match step {
            Step::Exec => "clone, and up to the zygote's first step",
            step => step.name(),
        };
        let name = format!("lockdown, {}: {name}", tier.name());
        figures.push(Figure::part(name, "us", quantiles(samples)));
    }
    Ok(figures)
}
