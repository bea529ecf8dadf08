//! Back to the beginning, back to a snapshot, and a second instance of one.

use std::time::Instant;

use cellwall::{Config, Engine, Instance, Module, Protection, Snapshot};

use super::guest::{DATA, PAGE, Pages, READ, WRITE, engine, engine_with, finish, parts};
use crate::machine::value;
use crate::measure::{Failure, Sampler, batch, each};

/// How much memory the guest has.
const BYTES: u64 = 64 << 20;

/// Where the pages are that the guest writes.
#[derive(Clone, Copy)]
pub(crate) enum Spread {
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
pub(crate) enum Reads {
    Nothing,
    All,
}

/// Who runs after the reset.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Next {
    Anybody,
    SameTenant,
}

/// `reset` after the guest has written so many pages, from the second one on.
pub(crate) fn resets(count: u64, spread: Spread, next: Next) -> Result<Sampler, Failure> {
    let engine = engine_with(Config::default().single_tenant(next == Next::SameTenant))?;
    let instance = engine.instantiate(&module(&engine)?)?;
    let pages = spread.pages(count);
    renewals(instance, pages, Reads::Nothing, 0, Instance::reset)
}

/// `restore` after the guest has written 16 pages, from the second one on.
pub(crate) fn restores(spread: Spread, reads: Reads) -> Result<Sampler, Failure> {
    let engine = engine()?;
    let mut instance = engine.instantiate(&module(&engine)?)?;
    let snapshot = snapshot(&mut instance)?;
    instance.restore(&snapshot)?;
    let pages = spread.pages(16);
    let restore = move |instance: &mut Instance| instance.restore(&snapshot);
    renewals(instance, pages, reads, FILLING, restore)
}

/// How long it takes to go back, after which the last page begins with `filling`.
fn renewals(
    mut instance: Instance,
    pages: Pages,
    reads: Reads,
    filling: u8,
    renew: impl Fn(&mut Instance) -> Result<(), cellwall::Error> + 'static,
) -> Result<Sampler, Failure> {
    finish(&mut instance, WRITE, &pages.args())?;
    if instance.load::<u8>(pages.last())? != 1 {
        return Err("the guest did not write".into());
    }
    renew(&mut instance)?;
    let samples = if reads == Reads::All { 1 } else { 5 };
    Ok(Box::new(move || {
        batch(samples, || {
            if reads == Reads::All {
                finish(&mut instance, READ, &Pages::together(BYTES / PAGE).args())?;
            }
            finish(&mut instance, WRITE, &pages.args())?;
            let start = Instant::now();
            renew(&mut instance)?;
            let took = each(start, 1);
            if instance.load::<u8>(pages.last())? != filling {
                return Err("the memory is not as it was".into());
            }
            Ok(took)
        })
    }))
}

/// `restore` of the snapshot into an instance that has not run, alone or with a first run that
/// touches one page.
pub(crate) fn instances(run: bool) -> Result<Sampler, Failure> {
    let engine = engine()?;
    let module = module(&engine)?;
    let snapshot = snapshot(&mut engine.instantiate(&module)?)?;
    Ok(Box::new(move || {
        batch(3, || {
            let mut instance = engine.instantiate(&module)?;
            let start = Instant::now();
            instance.restore(&snapshot)?;
            if run {
                finish(&mut instance, WRITE, &Pages::together(1).args())?;
            }
            Ok(each(start, 1))
        })
    }))
}

/// How much memory each further instance of the snapshot takes, in KiB, all of them alive.
pub(crate) fn instance_memory(run: bool) -> Result<Sampler, Failure> {
    let engine = engine()?;
    let module = module(&engine)?;
    let snapshot = snapshot(&mut engine.instantiate(&module)?)?;
    Ok(Box::new(move || {
        let mut instances = Vec::new();
        batch(32, || {
            let mut instance = engine.instantiate(&module)?;
            let before = held_kib(&mut instance)?;
            instance.restore(&snapshot)?;
            if run {
                finish(&mut instance, WRITE, &Pages::together(1).args())?;
            }
            let more = held_kib(&mut instance)? - before;
            instances.push(instance);
            Ok(more)
        })
    }))
}

/// What is in the guest's memory, and what host and worker have of their own: page tables, heap.
fn held_kib(instance: &mut Instance) -> Result<f64, Failure> {
    let mut kib = instance.memory_stats()?.resident >> 10;
    for process in ["self", &instance.process_id().to_string()] {
        for (file, key) in [("status", "VmPTE:"), ("smaps_rollup", "Anonymous:")] {
            kib += value(&format!("/proc/{process}/{file}"), key)?;
        }
    }
    Ok(f64::from(u32::try_from(kib)?))
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
