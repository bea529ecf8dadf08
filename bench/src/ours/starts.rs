//! Starting a worker.

use std::time::Instant;

use cellwall::{Config, Engine};

use super::guest::{identity, parts};
use crate::measure::{Failure, Sampler, batch, each};

/// From `instantiate` to the first value back: no worker was prepared.
pub(crate) fn cold(config: &Config) -> Result<Sampler, Failure> {
    let engine = Engine::new(config)?;
    let module = parts().build(&engine)?;
    Ok(Box::new(move || {
        batch(5, || {
            let start = Instant::now();
            let mut instance = engine.instantiate(&module)?;
            identity(&mut instance, 7)?;
            Ok(each(start, 1))
        })
    }))
}
