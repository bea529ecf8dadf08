//! What PolkaVM 0.37 needs, measured through its public interface: compiler and Linux sandbox, the
//! host's thread and the worker each pinned to a CPU by itself, as it does unless told otherwise.
//!
//! It has two kinds of guest memory, and both are measured. By default a worker maps zeroes or the
//! module's data by itself, and the host reaches it by `process_vm_readv` and `process_vm_writev`.
//! With dynamic paging it is a memory file that the host maps too, and the host answers every fault
//! by userfaultfd.

mod guest;

use std::hint::black_box;
use std::thread::sleep;
use std::time::{Duration, Instant};

use polkavm::InterruptKind;

use self::Access::{Nothing, Read, Write};
use self::guest::Memory::{self, Paged};
pub use self::guest::PAGING_SYSCTL;
use self::guest::{Compiled, Guest, PAGE, Program};
use crate::figure::{Failure, Measure, Quantiles, Side, Topic, each, quantiles};

/// All of them.
pub const MEASURES: [Measure; 22] = [
    peer(Topic::FaultZero, PAGING, || faults(1)),
    peer(Topic::FaultZero16, PAGING, || faults(16)),
    peer(Topic::Hostcall, "ecalli", || hostcalls(SMALL, Nothing)),
    peer(Topic::Read64, DEFAULT, || accesses(SMALL, Read)),
    peer(Topic::Read64, PAGING, || accesses(Paged, Read)),
    peer(Topic::Write64, DEFAULT, || accesses(SMALL, Write)),
    peer(Topic::Write64, PAGING, || accesses(Paged, Write)),
    peer(Topic::HostcallRead64, DEFAULT, || hostcalls(SMALL, Read)),
    peer(Topic::HostcallRead64, PAGING, || hostcalls(Paged, Read)),
    peer(Topic::HostcallWrite64, DEFAULT, || hostcalls(SMALL, Write)),
    peer(Topic::HostcallWrite64, PAGING, || hostcalls(Paged, Write)),
    peer(Topic::Reset16, DEFAULT, || resets(LARGE, 16)),
    peer(Topic::Reset16, PAGING, || resets(Paged, 16)),
    peer(Topic::Reset256, DEFAULT, || resets(LARGE, 256)),
    peer(Topic::Reset256, PAGING, || resets(Paged, 256)),
    peer(Topic::Reset4096, DEFAULT, || resets(LARGE, 4096)),
    peer(Topic::Reset4096, PAGING, || resets(Paged, 4096)),
    peer(Topic::Instance, "zero, awake", || instances(LARGE, AWAKE)),
    peer(Topic::Instance, "zero, asleep", || instances(LARGE, ASLEEP)),
    peer(Topic::Instance, "data, awake", || instances(DATA, AWAKE)),
    peer(Topic::Instance, "paging, awake", || instances(Paged, AWAKE)),
    peer(Topic::Instance, "paging, asleep", || {
        instances(Paged, ASLEEP)
    }),
];

const DEFAULT: &str = "by default";
const PAGING: &str = "dynamic paging";

/// For the host's accesses.
const SMALL: Memory = Memory::Zeroes(0x1_0000);
/// For resets and instances.
const LARGE: Memory = Memory::Zeroes(64 << 20);
/// As large, and all of it comes with the module.
const DATA: Memory = Memory::Data(64 << 20);

/// No pause between two instances: the next one comes while the worker still cleans up.
const AWAKE: Duration = Duration::ZERO;

/// Long enough for a worker to clean up and fall asleep.
const ASLEEP: Duration = Duration::from_millis(1);

const fn peer(topic: Topic, how: &'static str, run: fn() -> Result<Quantiles, Failure>) -> Measure {
    Measure {
        topic,
        side: Side::Peer,
        how,
        run,
    }
}

/// From a fault in the host's hands to the next one, for each page: so many zero pages, and the
/// guest's run through them.
fn faults(pages_each: u32) -> Result<Quantiles, Failure> {
    const PAGES: u32 = 2048;
    let program = Compiled::new(Paged, Program::TouchPages)?;
    let mut guest = program.instance()?;
    let mut samples = Vec::new();
    for _ in 0..10 {
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
    }
    quantiles(samples)
}

/// What the host does with 64 bytes of guest memory.
#[derive(Clone, Copy)]
enum Access {
    Nothing,
    Read,
    Write,
}

/// Hostcalls, each with one access, in batches.
fn hostcalls(memory: Memory, access: Access) -> Result<Quantiles, Failure> {
    const BATCH: u32 = 1000;
    let program = Compiled::new(memory, Program::Hostcalls)?;
    let mut guest = waiting(&program, memory)?;
    let mut samples = Vec::new();
    for _ in 0..300 {
        let start = Instant::now();
        for _ in 0..BATCH {
            expect(&guest.instance.run()?, &InterruptKind::Ecalli(0))?;
            perform(&mut guest, access)?;
        }
        samples.push(each(start, BATCH));
    }
    quantiles(samples)
}

/// Accesses in one hostcall, in batches, each batch in a fresh one.
fn accesses(memory: Memory, access: Access) -> Result<Quantiles, Failure> {
    const BATCH: u32 = 1000;
    let program = Compiled::new(memory, Program::Hostcalls)?;
    let mut guest = waiting(&program, memory)?;
    let mut samples = Vec::new();
    for _ in 0..300 {
        expect(&guest.instance.run()?, &InterruptKind::Ecalli(0))?;
        let start = Instant::now();
        for _ in 0..BATCH {
            perform(&mut guest, access)?;
        }
        samples.push(each(start, BATCH));
    }
    quantiles(samples)
}

/// A guest in its first hostcall, whose memory the host has been seen to read and write.
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
fn resets(memory: Memory, pages: u32) -> Result<Quantiles, Failure> {
    let program = Compiled::new(memory, Program::TouchPages)?;
    let mut guest = program.instance()?;
    let mut samples = Vec::new();
    for _ in 0..100 {
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
        samples.push(each(start, 1));
        // Paged memory is gone instead, and cannot be read.
        if guest.instance.read_u8(last).is_ok_and(|byte| byte != 0) {
            return Err("the memory was not reset".into());
        }
    }
    quantiles(samples)
}

/// From `instantiate` on a worker that is there already to the end of a run that touches one page,
/// so long after the last instance was dropped.
fn instances(memory: Memory, pause: Duration) -> Result<Quantiles, Failure> {
    let program = Compiled::new(memory, Program::TouchPages)?;
    // Spawns the worker that all the others get.
    drop(program.instance()?);
    let mut samples = Vec::new();
    for _ in 0..300 {
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
        samples.push(each(start, 1));
    }
    quantiles(samples)
}

fn expect(found: &InterruptKind, expected: &InterruptKind) -> Result<(), Failure> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("expected {expected:?}, found {found:?}").into())
    }
}
