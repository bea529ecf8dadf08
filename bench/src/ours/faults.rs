//! Faults: a touch of a page, what the host does about it, and the guest's way on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use cellwall::{Error, Instance, Interrupt, PageFault, Paged, Protection, Template};

use super::guest::{DATA, PAGE, Pages, READ, WRITE, engine, finish, parts, unexpected};
use crate::measure::{Failure, Sampler, each};

/// Pages that a guest touches in one run where each fault can be seen.
const PAGES: u32 = 2048;

/// Faults that the pager answers with so many zero pages, for each page: from a fault in its hands
/// to the next one.
pub(crate) fn by_pager(pages_each: u32) -> Result<Sampler, Failure> {
    let engine = engine()?;
    let mut instance = engine.instantiate(&parts().dynamic_paging().build(&engine)?)?;
    let times = Arc::new(Mutex::new(Vec::new()));
    let of_pager = Arc::clone(&times);
    instance.set_pager(move |fault: &PageFault, instance: &mut Instance| {
        let now = Instant::now();
        of_pager
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(now);
        fill(instance, fault, pages_each)?;
        Ok(Paged::Retry)
    });
    Ok(Box::new(move || {
        finish(&mut instance, WRITE, &Pages::together(PAGES.into()).args())?;
        let mut times = times.lock().map_err(|_| "the pager panicked")?;
        check(times.len(), pages_each)?;
        let between = times.windows(2).map(|two| (two[1] - two[0]).as_secs_f64());
        let each = between.map(|seconds| seconds * 1e6 / f64::from(pages_each));
        let samples = each.collect();
        times.clear();
        instance.unmap(DATA, u64::from(PAGES) * PAGE)?;
        Ok(samples)
    }))
}

/// The same faults, each of which comes out of `run`.
pub(crate) fn by_run(pages_each: u32) -> Result<Sampler, Failure> {
    let engine = engine()?;
    let module = parts().dynamic_paging().build(&engine)?;
    let mut instance = engine.instantiate(&module)?;
    Ok(Box::new(move || {
        let mut samples = Vec::new();
        instance.call(WRITE, &Pages::together(PAGES.into()).args())?;
        // The first run wakes the worker: not part of a fault.
        let mut interrupt = instance.run()?;
        let mut faults = 0;
        while let Interrupt::PageFault(fault) = interrupt {
            let start = Instant::now();
            fill(&mut instance, &fault, pages_each)?;
            interrupt = instance.run()?;
            samples.push(each(start, pages_each));
            faults += 1;
        }
        let Interrupt::Finished(_) = interrupt else {
            return Err(unexpected(interrupt));
        };
        check(faults, pages_each)?;
        instance.unmap(DATA, u64::from(PAGES) * PAGE)?;
        Ok(samples)
    }))
}

fn fill(instance: &mut Instance, fault: &PageFault, pages: u32) -> Result<(), Error> {
    let around = match pages {
        1 => fault.page()..fault.page() + PAGE,
        _ => instance.absent_around(fault.address, pages),
    };
    instance.map_zero(
        around.start,
        around.end - around.start,
        Protection::ReadWrite,
    )
}

fn check(faults: usize, pages_each: u32) -> Result<(), Failure> {
    if faults == usize::try_from(PAGES / pages_each)? {
        Ok(())
    } else {
        Err(format!("{faults} faults for {PAGES} pages, {pages_each} each").into())
    }
}

/// Pages that a guest touches in one call where the host settles each fault by itself: enough that
/// the call is nothing beside them.
const BATCH: u32 = 64;

/// How many batches there are room for.
const BATCHES: u32 = 8;

const ROOM: u64 = (BATCH * BATCHES) as u64 * PAGE;

/// Pages that the host has written, and that the guest may only read.
pub(crate) fn of_the_input() -> Result<Sampler, Failure> {
    let engine = engine()?;
    let module = parts().input(DATA, ROOM).build(&engine)?;
    Ok(settled(engine.instantiate(&module)?, READ, |instance| {
        // So many zeros are no pages at all, in the guest's page table neither.
        instance.set_input(&[])?;
        instance.set_input(&vec![1; usize::try_from(ROOM)?])?;
        Ok(())
    }))
}

/// Pages that the host has written, and that the guest may write.
pub(crate) fn of_a_template() -> Result<Sampler, Failure> {
    let engine = engine()?;
    let module = parts().dynamic_paging().build(&engine)?;
    let template = Template::new(&engine, &vec![1; usize::try_from(ROOM)?])?;
    Ok(settled(
        engine.instantiate(&module)?,
        WRITE,
        move |instance| {
            instance.unmap(DATA, ROOM)?;
            instance.map_template(DATA, &template, Protection::ReadWrite)?;
            for page in (DATA..DATA + ROOM).step_by(usize::try_from(PAGE)?) {
                instance.write(page, &[2])?;
            }
            Ok(())
        },
    ))
}

/// Calls that touch pages which `prepare` has put into memory, for each page.
fn settled(
    mut instance: Instance,
    entry: u64,
    prepare: impl Fn(&mut Instance) -> Result<(), Failure> + 'static,
) -> Sampler {
    Box::new(move || {
        prepare(&mut instance)?;
        let bytes = u64::from(BATCH) * PAGE;
        // Wakes the worker.
        finish(&mut instance, entry, &[DATA, DATA + 1, PAGE])?;
        let mut samples = Vec::new();
        for first in (DATA..DATA + ROOM).step_by(usize::try_from(bytes)?).skip(1) {
            let start = Instant::now();
            finish(&mut instance, entry, &[first, first + bytes, PAGE])?;
            samples.push(each(start, BATCH));
        }
        Ok(samples)
    })
}
