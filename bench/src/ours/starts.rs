//! Starting a worker.

use std::path::Path;
use std::thread::yield_now;
use std::time::{Duration, Instant};

use cellwall::{Config, Engine, Instance, Module};

use super::guest::{engine_with, identity, parts};
use crate::measure::{Failure, Sampler, batch, each};

/// How long a dropped worker may take to be gone.
const GONE: Duration = Duration::from_secs(1);

/// How long the engine's thread may take to make its place as new.
const RENEWED: Duration = Duration::from_micros(100);

/// From `instantiate` to the first value back: no worker was prepared, and none is on its way out.
///
/// The limit beside it waits for its child in the same way. Without that each start shares the
/// CPUs with the end of the one before, which the engine puts off for up to a millisecond. The
/// first of a batch is not counted: a peer's timeouts may have let the machine sleep for half a
/// second, and that start pays for what others have put into the caches meanwhile. As in other
/// figures host and workers have a CPU each: a kernel that packs them onto one after such a sleep
/// keeps them there for a while, and then this would be a figure of that.
pub(crate) fn cold(config: &Config) -> Result<Sampler, Failure> {
    let engine = engine_with(config.clone())?;
    let module = parts().build(&engine)?;
    Ok(Box::new(move || {
        end(start(&engine, &module)?.1)?;
        batch(10, || {
            let (took, instance) = start(&engine, &module)?;
            end(instance)?;
            Ok(took)
        })
    }))
}

fn start(engine: &Engine, module: &Module) -> Result<(f64, Instance), Failure> {
    let start = Instant::now();
    let mut instance = engine.instantiate(module)?;
    identity(&mut instance, 7)?;
    Ok((each(start, 1), instance))
}

/// Drops it and waits until nothing is left of its worker.
fn end(instance: Instance) -> Result<(), Failure> {
    let worker = format!("/proc/{}", instance.process_id());
    drop(instance);
    let dropped = Instant::now();
    while Path::new(&worker).exists() {
        if dropped.elapsed() > GONE {
            return Err("a dropped worker does not end".into());
        }
        yield_now();
    }
    let gone = Instant::now();
    while gone.elapsed() < RENEWED {
        yield_now();
    }
    Ok(())
}
