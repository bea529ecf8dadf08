//! Calls into its guests, and more guests than there are CPUs.

use std::thread::sleep;
use std::time::{Duration, Instant};

use polkavm::InterruptKind;

use super::guest::{Compiled, Program, engine, expect};
use super::memory::SMALL;
use crate::crowd::{Done, Step, crowd};
use crate::measure::{Failure, Sampler, batch, each};

/// A call and its return, the worker awake.
pub(crate) fn calls_awake() -> Result<Sampler, Failure> {
    const CALLS: u32 = 100;
    let mut guest = Compiled::new(SMALL, Program::Return)?.instance()?;
    Ok(Box::new(move || {
        // Wakes it.
        guest.finish(0)?;
        batch(20, || {
            let start = Instant::now();
            for _ in 0..CALLS {
                guest.finish(0)?;
            }
            Ok(each(start, CALLS))
        })
    }))
}

/// The same after 1 ms without a call.
pub(crate) fn calls_asleep() -> Result<Sampler, Failure> {
    let mut guest = Compiled::new(SMALL, Program::Return)?.instance()?;
    Ok(Box::new(move || {
        batch(5, || {
            sleep(Duration::from_millis(1));
            let start = Instant::now();
            guest.finish(0)?;
            Ok(each(start, 1))
        })
    }))
}

/// Guests that do nothing but hostcalls, all at once, on the CPUs that it chooses.
pub(crate) fn oversubscribed(
    instances: usize,
    sample: fn(&Done) -> f64,
) -> Result<Sampler, Failure> {
    // Workers for all of them, since a start takes a tenth of a second.
    let engine = engine(SMALL, instances)?;
    let program = Compiled::on(&engine, SMALL, Program::Hostcalls)?;
    let prepare = move |_| -> Result<Step, Failure> {
        let mut guest = program.instance()?;
        guest.start(0);
        Ok(Box::new(move || {
            expect(&guest.instance.run()?, &InterruptKind::Ecalli(0))
        }))
    };
    Ok(Box::new(move || {
        Ok(vec![sample(&crowd(instances, &prepare)?)])
    }))
}
