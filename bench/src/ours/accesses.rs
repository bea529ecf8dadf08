//! Hostcalls, and the host's accesses to guest memory meanwhile.

use std::hint::black_box;
use std::time::Instant;

use cellwall::{Error, Instance, Interrupt, Protection};

use super::guest::{DATA, HOSTCALLS, PAGE, engine, parts, unexpected};
use crate::measure::{Failure, Sampler, batch, each};

/// What the host does in a hostcall.
type Access = fn(&mut Instance) -> Result<(), Error>;

const PATTERN: [u8; 64] = [0x5a; 64];

/// Operations in a sample.
const BATCH: u32 = 1000;

/// Samples in a batch of them.
const SAMPLES: usize = 10;

pub(crate) fn nothing(_: &mut Instance) -> Result<(), Error> {
    Ok(())
}

pub(crate) fn read(instance: &mut Instance) -> Result<(), Error> {
    let mut bytes = [0u8; 64];
    instance.read_into(black_box(DATA), &mut bytes)?;
    black_box(bytes);
    Ok(())
}

pub(crate) fn write(instance: &mut Instance) -> Result<(), Error> {
    instance.write(black_box(DATA), black_box(&PATTERN))
}

pub(crate) fn load(instance: &mut Instance) -> Result<(), Error> {
    black_box(instance.load::<u64>(black_box(DATA))?);
    Ok(())
}

pub(crate) fn store(instance: &mut Instance) -> Result<(), Error> {
    instance.store(black_box(DATA), black_box(7u64))
}

/// Hostcalls, each with one access.
pub(crate) fn hostcalls(access: Access) -> Result<Sampler, Failure> {
    let mut instance = waiting()?;
    Ok(Box::new(move || {
        // The first hostcall wakes the worker.
        next(&mut instance)?;
        batch(SAMPLES, || {
            let start = Instant::now();
            for _ in 0..BATCH {
                next(&mut instance)?;
                access(&mut instance)?;
            }
            Ok(each(start, BATCH))
        })
    }))
}

/// Accesses in one hostcall, each batch in a fresh one.
pub(crate) fn in_one_hostcall(access: Access) -> Result<Sampler, Failure> {
    let mut instance = waiting()?;
    Ok(Box::new(move || {
        batch(SAMPLES, || {
            next(&mut instance)?;
            let start = Instant::now();
            for _ in 0..BATCH {
                access(&mut instance)?;
            }
            Ok(each(start, BATCH))
        })
    }))
}

/// A guest in its first hostcall, whose memory the host has been seen to read and write.
fn waiting() -> Result<Instance, Failure> {
    let engine = engine()?;
    let module = parts().zeroed(DATA, PAGE, Protection::ReadWrite);
    let mut instance = engine.instantiate(&module.build(&engine)?)?;
    instance.call(HOSTCALLS, &[])?;
    arrive(&mut instance)?;
    write(&mut instance)?;
    if instance.read(DATA, 64)? != PATTERN {
        return Err("the host reads something else than it wrote".into());
    }
    Ok(instance)
}

/// The guest's next hostcall.
fn next(instance: &mut Instance) -> Result<(), Failure> {
    instance.answer(0)?;
    arrive(instance)
}

fn arrive(instance: &mut Instance) -> Result<(), Failure> {
    match instance.run()? {
        Interrupt::Hostcall(_) => Ok(()),
        other => Err(unexpected(other)),
    }
}
