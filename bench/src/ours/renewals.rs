//! Back to the beginning, back to a snapshot, and a second instance of one.

use std::fs;
use std::time::Instant;

use cellwall::{Config, Engine, Instance, Module, Protection, Snapshot};

use super::guest::{DATA, PAGE, Pages, READ, WRITE, engine, engine_with, finish, parts};
use crate::figure::{Failure, Quantiles, each, quantiles};

/// How much memory the guest has.
const BYTES: u64 = 64 << 20;

/// Where the pages are that the guest writes.
#[derive(Clone, Copy)]
pub(super) enum Spread {
    Together,
    Scattered,
}

impl Spread {
    fn pages(self, count: u64) -> Pages {
        match self {
            Self::Together => Pages::together(count),
            Self::Scattered => Pages {
                count,
                stride: BYTES / count,
            },
        }
    }
}

/// What the guest reads before.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Reads {
    Nothing,
    All,
}

/// Who runs after the reset.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Next {
    Anybody,
    SameTenant,
}

/// `reset` after the guest has written so many pages, from the second one on.
pub(super) fn resets(count: u64, spread: Spread, next: Next) -> Result<Quantiles, Failure> {
    let engine = engine_with(Config::default().single_tenant(next == Next::SameTenant))?;
    let mut instance = engine.instantiate(&module(&engine)?)?;
    let pages = spread.pages(count);
    let samples = renewals(
        &mut instance,
        200,
        pages,
        Reads::Nothing,
        0,
        Instance::reset,
    )?;
    quantiles(samples)
}

/// `restore` after the guest has written 16 pages, from the second one on.
pub(super) fn restores(spread: Spread, reads: Reads) -> Result<Quantiles, Failure> {
    let engine = engine()?;
    let mut instance = engine.instantiate(&module(&engine)?)?;
    let snapshot = snapshot(&mut instance)?;
    instance.restore(&snapshot)?;
    let rounds = if reads == Reads::All { 20 } else { 200 };
    let pages = spread.pages(16);
    let restore = |instance: &mut Instance| instance.restore(&snapshot);
    quantiles(renewals(
        &mut instance,
        rounds,
        pages,
        reads,
        FILLING,
        restore,
    )?)
}

/// How long it takes to go back, so many times, after which the last page begins with `filling`.
fn renewals(
    instance: &mut Instance,
    rounds: u32,
    pages: Pages,
    reads: Reads,
    filling: u8,
    renew: impl Fn(&mut Instance) -> Result<(), cellwall::Error>,
) -> Result<Vec<f64>, Failure> {
    finish(instance, WRITE, &pages.args())?;
    if instance.load::<u8>(pages.last())? != 1 {
        return Err("the guest did not write".into());
    }
    renew(instance)?;
    let mut samples = Vec::new();
    for _ in 0..rounds {
        if reads == Reads::All {
            finish(instance, READ, &Pages::together(BYTES / PAGE).args())?;
        }
        finish(instance, WRITE, &pages.args())?;
        let start = Instant::now();
        renew(instance)?;
        samples.push(each(start, 1));
        if instance.load::<u8>(pages.last())? != filling {
            return Err("the memory is not as it was".into());
        }
    }
    Ok(samples)
}

/// `restore` of the snapshot into an instance that has not run, alone or with a first run that
/// touches one page.
pub(super) fn instances(run: bool) -> Result<Quantiles, Failure> {
    let engine = engine()?;
    let module = module(&engine)?;
    let snapshot = snapshot(&mut engine.instantiate(&module)?)?;
    let mut samples = Vec::new();
    for _ in 0..100 {
        let mut instance = engine.instantiate(&module)?;
        let start = Instant::now();
        instance.restore(&snapshot)?;
        if run {
            finish(&mut instance, WRITE, &Pages::together(1).args())?;
        }
        samples.push(each(start, 1));
    }
    quantiles(samples)
}

/// How much memory each further instance of the snapshot takes, in KiB, all of them alive.
pub(super) fn instance_memory(run: bool) -> Result<Quantiles, Failure> {
    let engine = engine()?;
    let module = module(&engine)?;
    let snapshot = snapshot(&mut engine.instantiate(&module)?)?;
    let mut instances = Vec::new();
    let mut samples = Vec::new();
    for _ in 0..32 {
        let mut instance = engine.instantiate(&module)?;
        let before = held_kib(&mut instance)?;
        instance.restore(&snapshot)?;
        if run {
            finish(&mut instance, WRITE, &Pages::together(1).args())?;
        }
        samples.push(f64::from(held_kib(&mut instance)?) - f64::from(before));
        instances.push(instance);
    }
    quantiles(samples)
}

/// What is in the guest's memory, and what host and worker have of their own: page tables, heap.
fn held_kib(instance: &mut Instance) -> Result<u32, Failure> {
    let mut kib = u32::try_from(instance.memory_stats()?.resident >> 10)?;
    for process in ["self", &instance.process_id().to_string()] {
        for (file, key) in [("status", "VmPTE:"), ("smaps_rollup", "Anonymous:")] {
            let text = fs::read_to_string(format!("/proc/{process}/{file}"))?;
            let mut values = text.lines().filter_map(|line| line.strip_prefix(key));
            let value = values.next().ok_or_else(|| format!("no {key} in {file}"))?;
            kib += value.trim().trim_end_matches(" kB").parse::<u32>()?;
        }
    }
    Ok(kib)
}

fn module(engine: &Engine) -> Result<Module, Failure> {
    let parts = parts().zeroed(DATA, BYTES, Protection::ReadWrite);
    Ok(parts.build(engine)?)
}

const FILLING: u8 = 7;

/// A snapshot in which no page is zero.
fn snapshot(instance: &mut Instance) -> Result<Snapshot, Failure> {
    instance.write(DATA, &vec![FILLING; usize::try_from(BYTES)?])?;
    let snapshot = instance.snapshot()?;
    if snapshot.bytes() < BYTES {
        return Err("there are zero pages in the snapshot".into());
    }
    Ok(snapshot)
}
