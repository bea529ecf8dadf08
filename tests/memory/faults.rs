//! Faults: what the guest finds when it goes on, whatever it was doing, and whatever the host, the
//! kernel or somebody with a signal did meanwhile.

mod claims;
mod deaths;
mod edges;
mod forks;
mod instructions;
mod lanes;
mod many;
mod nested;
mod pagers;
mod refusals;
mod registers;
mod scarcity;
mod supervised;

use cellwall::{Access, Engine, Instance, Interrupt, Module, PageFault, Protection};
use iced_x86::code_asm::CodeAssembler;

use crate::harness::{assemble, call, engine, parts};

const PAGE: u64 = 0x1000;
/// Where nothing is: far from all that the tests' modules have.
const NOWHERE: u64 = 0x40_0000;

/// An engine that pages, or a note that there is none here.
fn paging_engine() -> Option<Engine> {
    let engine = engine();
    if engine.can_change_maps() {
        return Some(engine);
    }
    absence::absent("userfaultfd", "the map is fixed here");
    None
}

/// A module of this code that pages dynamically.
fn paged(engine: &Engine, write: impl FnOnce(&mut CodeAssembler)) -> Module {
    let module = parts(&assemble(write)).dynamic_paging();
    module.build(engine).expect("a module")
}

/// An instance of one, called with these arguments.
fn called(engine: &Engine, args: &[u64], write: impl FnOnce(&mut CodeAssembler)) -> Instance {
    let module = paged(engine, write);
    let mut instance = engine.instantiate(&module).expect("an instance");
    call(&mut instance, args);
    instance
}

/// Runs up to the next page fault.
fn next_fault(instance: &mut Instance) -> PageFault {
    match instance.run().expect("a turn") {
        Interrupt::PageFault(fault) => fault,
        other => panic!("no page fault: {other}"),
    }
}

/// Maps the page of a fault, zero and writable.
fn map(instance: &mut Instance, fault: &PageFault) {
    let mapped = instance.map_zero(fault.page(), PAGE, Protection::ReadWrite);
    mapped.expect("a page");
}

/// Runs and maps each page that is asked for. Gives what came then, and what was asked for.
fn run_mapping(instance: &mut Instance) -> (Interrupt, Vec<(u64, Access)>) {
    let mut faults = Vec::new();
    loop {
        match instance.run().expect("a turn") {
            Interrupt::PageFault(fault) => {
                faults.push((fault.address, fault.access));
                map(instance, &fault);
            }
            other => return (other, faults),
        }
    }
}

/// A guest that finishes; it has nothing to do with the fault before.
fn still_runs(instance: &mut Instance, args: &[u64], value: u64) {
    call(instance, args);
    let (interrupt, _) = run_mapping(instance);
    assert_eq!(interrupt, Interrupt::Finished(value));
}
