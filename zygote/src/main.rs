//! The zygote: a process without libc that jails itself, then gives its one thread to a guest.
//!
//! `entry` starts on the kernel's stack, `boot` maps the shared pages, `lockdown` takes the steps
//! of the start in order, and `trampoline` is all that runs from then on: it hands the turn to
//! the host and takes it back, enters the guest, and is what the guest calls. `signal` turns a
//! fault into a report. `nursery` is the other life that the same image can lead: it takes the
//! steps that can be inherited once, and then clones workers that take the rest.
//!
//! There are no writable globals. Once a guest runs, everything here is in hostile hands: nothing
//! of the wall depends on this code any more.
#![cfg_attr(cellwall_freestanding, no_std, no_main)]
#![cfg_attr(
    cellwall_freestanding,
    deny(
        clippy::panic,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing
    )
)]

#[cfg(cellwall_freestanding)]
mod address;
#[cfg(cellwall_freestanding)]
mod boot;
#[cfg(cellwall_freestanding)]
mod entry;
#[cfg(cellwall_freestanding)]
mod intrinsics;
#[cfg(cellwall_freestanding)]
mod last_words;
#[cfg(cellwall_freestanding)]
mod lockdown;
#[cfg(cellwall_freestanding)]
mod nursery;
#[cfg(cellwall_freestanding)]
mod signal;
#[cfg(cellwall_freestanding)]
mod trampoline;

/// An ordinary build of the workspace makes an empty program: the image is built with
/// `--cfg cellwall_freestanding` and the flags that it needs.
#[cfg(not(cellwall_freestanding))]
fn main() {}
