//! An instance for each run, where another one has just ended.

use std::time::Instant;

use cellwall::{Config, Module, PoolConfig, Protection};

use super::guest::{DATA, PAGE, Pages, WRITE, engine_with, finish, parts_with};
use crate::measure::{Failure, Sampler, batch, each};

/// Pages that each run writes.
const PAGES: u64 = 4;

/// `instantiate`, a run that writes four pages, and drop, again and again: of one module or of two
/// in turn, of 100 KiB each. Every so often the next one is seen to find the pages clean; cleaning
/// is within what is measured.
pub(crate) fn runs(modules: u8, tenants: Tenants) -> Result<Sampler, Failure> {
    const RUNS: u32 = 20;
    let engine = engine_with(config(tenants))?;
    let build = |which| -> Result<Module, Failure> {
        let padding = if modules == 1 { 0 } else { 100 << 10 };
        let parts = parts_with(&vec![0xc0 + which; padding]);
        let parts = parts.zeroed(DATA, PAGES * PAGE, Protection::ReadWrite);
        Ok(parts.build(&engine)?)
    };
    let modules: Vec<Module> = (0..modules).map(build).collect::<Result<_, _>>()?;
    Ok(Box::new(move || {
        let samples = batch(5, || {
            let start = Instant::now();
            for (module, _) in modules.iter().cycle().zip(0..RUNS) {
                let mut instance = engine.instantiate(module)?;
                finish(&mut instance, WRITE, &Pages::together(PAGES).args())?;
            }
            Ok(each(start, RUNS))
        });
        for module in &modules {
            let instance = &mut engine.instantiate(module)?;
            let found = instance.read(DATA, PAGES * PAGE)?;
            if found.iter().any(|byte| *byte != 0) {
                return Err("what the last run wrote is still there".into());
            }
        }
        samples
    }))
}

/// Whether the next instance may be another tenant's, for whom the worker is taken away from the
/// one before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tenants {
    One,
    Many,
}

fn config(tenants: Tenants) -> Config {
    Config::default()
        .single_tenant(tenants == Tenants::One)
        .pool(PoolConfig::new())
}
