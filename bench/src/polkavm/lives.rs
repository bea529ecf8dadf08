//! Its instances: started cold, from the pool, dropped, idle.

use std::thread;
use std::time::Instant;

use super::guest::{Compiled, Guest, Program, WORKERS, engine};
use super::memory::SMALL;
use crate::machine::memory_of_each;
use crate::measure::{Failure, Plan, Sampler, batch, each};

/// From `instantiate` to the end of a first run, by an engine that keeps no worker.
pub(crate) fn cold() -> Result<Sampler, Failure> {
    let program = Compiled::on(&engine(SMALL, 0)?, SMALL, Program::Return)?;
    Ok(Box::new(move || {
        let start = Instant::now();
        let mut guest = program.instance()?;
        guest.finish(0)?;
        Ok(vec![each(start, 1)])
    }))
}

/// The drop of an instance that has run, where no worker is kept.
pub(crate) fn drops() -> Result<Sampler, Failure> {
    let program = Compiled::on(&engine(SMALL, 0)?, SMALL, Program::Return)?;
    Ok(Box::new(move || {
        let mut guest = program.instance()?;
        guest.finish(0)?;
        let start = Instant::now();
        drop(guest);
        Ok(vec![each(start, 1)])
    }))
}

/// `instantiate`, a run that writes four pages, and drop, with a worker that is kept: of one module
/// or of two in turn, of 100 KiB each.
pub(crate) fn pooled(modules: usize) -> Result<Sampler, Failure> {
    const RUNS: u32 = 20;
    const PAGES: u32 = 4;
    let engine = engine(SMALL, WORKERS)?;
    let compiled = |value| {
        // Four bytes each, compiled.
        let padding = if modules == 1 { 0 } else { 25_000 };
        Compiled::on(&engine, SMALL, Program::TouchPagesOf(padding, value))
    };
    let programs: Result<Vec<Compiled>, Failure> =
        [1, 2][..modules].iter().copied().map(compiled).collect();
    let programs = programs?;
    Ok(Box::new(move || {
        batch(10, || {
            let start = Instant::now();
            for program in programs.iter().cycle().zip(0..RUNS) {
                program.0.instance()?.finish(PAGES)?;
            }
            Ok(each(start, RUNS))
        })
    }))
}

/// Memory of each live instance that has run once, in KiB.
pub(crate) fn idle_memory(plan: &Plan) -> Result<Sampler, Failure> {
    // A start takes a tenth of a second, most of which it sleeps.
    const AT_ONCE: u32 = 20;
    let each = plan.choose(5, 15);
    let program = Compiled::on(&engine(SMALL, 0)?, SMALL, Program::Return)?;
    let start = move || -> Result<Vec<Guest>, Failure> {
        let one = |_| {
            let mut guest = program.instance()?;
            guest.finish(0)?;
            Ok(guest)
        };
        (0..each).map(one).collect()
    };
    Ok(Box::new(move || {
        let all = || {
            thread::scope(|scope| {
                let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(&start)).collect();
                let guests = threads.into_iter().map(|thread| {
                    let guests = thread.join();
                    guests.map_err(|_| "a thread panicked")?
                });
                guests.collect::<Result<Vec<_>, Failure>>()
            })
        };
        Ok(vec![memory_of_each(AT_ONCE * each, all)?])
    }))
}
