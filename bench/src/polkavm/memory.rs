//! Its guest memory.
//!
//! It has two kinds, and both are measured. By default a worker maps zeroes or the module's data by
//! itself, and the host reaches it by `process_vm_readv` and `process_vm_writev`. With dynamic
//! paging it is a memory file that the host maps too, and the host answers every fault by
//! userfaultfd.

use std::hint::black_box;
use std::thread::sleep;
use std::time::{Duration, Instant};

use polkavm::InterruptKind;

use self::Access::{Nothing, Read, Write};
use super::guest::Memory::{self, Paged};
use super::guest::{Compiled, Guest, PAGE, Program, expect};
use crate::measure::{Failure, Sampler, batch, each};

/// For the host's accesses.
pub(crate) const SMALL: Memory = Memory::Zeroes(0x1_0000);
/// For resets and instances.
pub(crate) const LARGE: Memory = Memory::Zeroes(64 << 20);
/// As large, and all of it comes with the module.
pub(crate) const DATA: Memory = Memory::Data(64 << 20);

/// No pause between two instances: the next one comes while the worker still cleans up.
pub(crate) const AWAKE: Duration = Duration::ZERO;

/// Long enough for a worker to clean up and fall asleep.
pub(crate) const ASLEEP: Duration = Duration::from_millis(1);

/// From a fault in the host's hands to the next one, for each page: so many zero pages, and the
/// guest's run through them.
pub(crate) fn faults(pages_each: u32) -> Result<Sampler, Failure> {
    const PAGES: u32 = 2048;
    let program = Compiled::new(Paged, Program::TouchPages)?;
    let mut guest = program.instance()?;
    Ok(Box::new(move || {
        let mut samples = Vec::new();
        guest.instance.reset_memory()?;
        guest.start(PAGES);
        // The first run wakes the worker: not part of a fault.
        let mut interrupt = guest.instance.run()?;
        let mut faults = 0;
        while let InterruptKind::Segfault(fault) = interrupt {
            let start = Instant::now();
            guest.fill(fault.page_address, pages_each)?;
            interrupt = guest.instance.run()?;
            samples.push(each(start, pages_each));
            faults += 1;
        }
        if interrupt != InterruptKind::Finished || faults != PAGES / pages_each {
            return Err(format!("{interrupt:?} after {faults} faults").into());
        }
        Ok(samples)
    }))
}

/// What the host does with 64 bytes of guest memory.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    Nothing,
    Read,
    Write,
}

/// Hostcalls, each with one access, in batches.
pub(crate) fn hostcalls(memory: Memory, access: Access) -> Result<Sampler, Failure> {
    const BATCH: u32 = 1000;
    let program = Compiled::new(memory, Program::Hostcalls)?;
    Ok(Box::new(move || {
        let mut guest = waiting(&program, memory)?;
        // The first hostcall wakes the worker.
        expect(&guest.instance.run()?, &InterruptKind::Ecalli(0))?;
        batch(10, || {
            let start = Instant::now();
            for _ in 0..BATCH {
                expect(&guest.instance.run()?, &InterruptKind::Ecalli(0))?;
                perform(&mut guest, access)?;
            }
            Ok(each(start, BATCH))
        })
    }))
}

/// Accesses in one hostcall, in batches, each batch in a fresh one.
pub(crate) fn accesses(memory: Memory, access: Access) -> Result<Sampler, Failure> {
    const BATCH: u32 = 1000;
    let program = Compiled::new(memory, Program::Hostcalls)?;
    Ok(Box::new(move || {
        let mut guest = waiting(&program, memory)?;
        batch(10, || {
            expect(&guest.instance.run()?, &InterruptKind::Ecalli(0))?;
            let start = Instant::now();
            for _ in 0..BATCH {
                perform(&mut guest, access)?;
            }
            Ok(each(start, BATCH))
        })
    }))
}

/// A guest for one batch: its worker spins until the hostcall is answered, and the next side would
/// meet it. It is in its first hostcall, and its memory the host has been seen to read and write.
fn waiting(program: &Compiled, memory: Memory) -> Result<Guest, Failure> {
    let mut guest = program.instance()?;
    guest.start(0);
    expect(&guest.instance.run()?, &InterruptKind::Ecalli(0))?;
    if let Paged = memory {
        guest.fill(guest.data, 1)?;
    }
    perform(&mut guest, Write)?;
    if guest.instance.read_memory(guest.data, 64)? != PATTERN {
        return Err("the host reads something else than it wrote".into());
    }
    Ok(guest)
}

const PATTERN: [u8; 64] = [0x5a; 64];

fn perform(guest: &mut Guest, access: Access) -> Result<(), Failure> {
    match access {
        Nothing => {}
        Read => {
            let mut bytes = [0u8; 64];
            guest.instance.read_memory_into(guest.data, &mut bytes)?;
            black_box(bytes);
        }
        Write => guest
            .instance
            .write_memory(guest.data, black_box(&PATTERN))?,
    }
    Ok(())
}

/// `reset_memory` after the guest has written one byte of so many pages.
pub(crate) fn resets(memory: Memory, pages: u32) -> Result<Sampler, Failure> {
    let program = Compiled::new(memory, Program::TouchPages)?;
    let mut guest = program.instance()?;
    Ok(Box::new(move || {
        batch(5, || {
            guest.start(pages);
            if let Paged = memory {
                guest.fill(guest.data, pages)?;
            }
            expect(&guest.instance.run()?, &InterruptKind::Finished)?;
            let last = guest.data + (pages - 1) * PAGE;
            if guest.instance.read_u8(last)? != 1 {
                return Err("the guest did not write".into());
            }
            let start = Instant::now();
            guest.instance.reset_memory()?;
            let took = each(start, 1);
            // Paged memory is gone instead, and cannot be read.
            if guest.instance.read_u8(last).is_ok_and(|byte| byte != 0) {
                return Err("the memory was not reset".into());
            }
            Ok(took)
        })
    }))
}

/// From `instantiate` on a worker that is there already to the end of a run that touches one page,
/// so long after the last instance was dropped.
pub(crate) fn instances(memory: Memory, pause: Duration) -> Result<Sampler, Failure> {
    let program = Compiled::new(memory, Program::TouchPages)?;
    // Spawns the worker that all the others get.
    drop(program.instance()?);
    Ok(Box::new(move || {
        batch(10, || {
            if !pause.is_zero() {
                sleep(pause);
            }
            let start = Instant::now();
            let mut guest = program.instance()?;
            guest.start(1);
            let mut interrupt = guest.instance.run()?;
            if let InterruptKind::Segfault(fault) = interrupt {
                guest.fill(fault.page_address, 1)?;
                interrupt = guest.instance.run()?;
            }
            expect(&interrupt, &InterruptKind::Finished)?;
            Ok(each(start, 1))
        })
    }))
}
