//! Calls into a guest, and more guests than there are CPUs.

use std::thread::sleep;
use std::time::{Duration, Instant};

use cellwall::{Config, Engine, Interrupt, Protection};

use super::guest::{DATA, HOSTCALLS, PAGE, engine, identity, parts, unexpected};
use crate::crowd::{Done, Step, crowd};
use crate::measure::{Failure, Sampler, batch, each};

/// A call and its return, the worker awake.
pub(crate) fn calls_awake() -> Result<Sampler, Failure> {
    const CALLS: u32 = 100;
    let engine = engine()?;
    let mut instance = engine.instantiate(&parts().build(&engine)?)?;
    Ok(Box::new(move || {
        // Wakes it.
        identity(&mut instance, 0)?;
        batch(20, || {
            let start = Instant::now();
            for value in 0..CALLS {
                identity(&mut instance, value.into())?;
            }
            Ok(each(start, CALLS))
        })
    }))
}

/// The same after 1 ms without a call.
pub(crate) fn calls_asleep() -> Result<Sampler, Failure> {
    let engine = engine()?;
    let mut instance = engine.instantiate(&parts().build(&engine)?)?;
    Ok(Box::new(move || {
        batch(5, || {
            sleep(Duration::from_millis(1));
            let start = Instant::now();
            identity(&mut instance, 7)?;
            Ok(each(start, 1))
        })
    }))
}

/// Guests that do nothing but hostcalls, all at once, on whatever CPUs there are.
pub(crate) fn oversubscribed(
    instances: usize,
    sample: fn(&Done) -> f64,
) -> Result<Sampler, Failure> {
    let engine = Engine::new(&Config::default())?;
    let module = parts().zeroed(DATA, PAGE, Protection::ReadWrite);
    let module = module.build(&engine)?;
    let prepare = move |_| -> Result<Step, Failure> {
        let mut instance = engine.instantiate(&module)?;
        instance.call(HOSTCALLS, &[])?;
        let mut answers = false;
        Ok(Box::new(move || {
            if answers {
                instance.answer(0)?;
            }
            answers = true;
            match instance.run()? {
                Interrupt::Hostcall(_) => Ok(()),
                other => Err(unexpected(other)),
            }
        }))
    };
    Ok(Box::new(move || {
        Ok(vec![sample(&crowd(instances, &prepare)?)])
    }))
}
