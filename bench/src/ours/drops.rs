//! Getting rid of an instance.

use std::time::Instant;

use cellwall::{Config, Engine};

use super::guest::{identity, parts};
use crate::measure::{Failure, Sampler, batch, each};

/// `drop` of a live instance that has run, on the caller's thread.
pub(crate) fn on_the_caller() -> Result<Sampler, Failure> {
    let engine = Engine::new(&Config::default())?;
    let module = parts().build(&engine)?;
    Ok(Box::new(move || {
        batch(5, || {
            let mut instance = engine.instantiate(&module)?;
            identity(&mut instance, 7)?;
            let start = Instant::now();
            drop(instance);
            Ok(each(start, 1))
        })
    }))
}
