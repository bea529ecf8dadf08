//! Allocates and touches memory until there is none, which is a panic.
#![cfg_attr(cellwall_freestanding, no_std, no_main)]

use cellwall_guest::Args;

cellwall_guest::entry!(run);

#[cfg(cellwall_freestanding)]
fn run(_: Args) -> u8 {
    extern crate alloc;

    loop {
        // Not zero, or the pages would stay untouched.
        core::hint::black_box(alloc::vec![0xa5_u8; 1 << 20].leak());
    }
}

/// An ordinary program would take the whole machine's memory.
#[cfg(not(cellwall_freestanding))]
fn run(_: Args) -> u8 {
    cellwall_guest_programs::streams::complain("leak", &"does this only behind the wall")
}
