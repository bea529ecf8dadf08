//! The nursery, and starts without it.

use std::time::Instant;

use cellwall::{Config, Engine};

use super::starts::cold;
use crate::measure::{Failure, Measure, Sampler, Side, batch, each};
use crate::remote::remote;
use crate::target::{Of, Target};

/// To be measured along with [`crate::measures::starts`].
pub(crate) const MEASURES: &[Measure] = &[
    Measure::new(
        "spawn_direct",
        "from `instantiate` to the first value back, in namespaces of the worker's own",
        |_| cold(&Config::default().direct(true)),
    )
    .limit(Side::new("clone of a small process", |plan| {
        remote(plan, "clone")
    }))
    .targets(&[Target::AtMost(600.0, Of::Itself)]),
    Measure::new(
        "engine_new",
        "from `Engine::new` to a nursery that is ready",
        |_| ready(),
    )
    .targets(&[Target::AtMost(1000.0, Of::Itself)]),
];

/// An engine, and a nursery that waits for requests.
fn ready() -> Result<Sampler, Failure> {
    Ok(Box::new(|| {
        batch(3, || {
            let start = Instant::now();
            let engine = Engine::new(&Config::default())?;
            engine.warm_up()?;
            let took = each(start, 1);
            drop(engine);
            Ok(took)
        })
    }))
}
