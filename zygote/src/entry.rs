#![expect(unsafe_code, reason = "the first instructions of the process")]
//! `_start`: from the kernel's stack to one of our own.

use core::arch::naked_asm;

use vmctx::map;

use crate::lockdown::Wall;
use crate::{boot, lockdown, nursery};

/// Where the kernel enters the image, with the initial stack in `rsp`.
///
/// # Safety
///
/// Only the kernel may jump there.
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.entry")]
unsafe extern "C" fn _start() -> ! {
    naked_asm!(
        "xor ebp, ebp",
        "mov rdi, rsp",
        "and rsp, -16",
        "call {boot}",
        // `boot` has mapped a stack of our own: the kernel's is about to be unmapped.
        "movabs rsp, {stack}",
        "mov rdi, rax",
        "call {lockdown}",
        "ud2",
        boot = sym boot::boot,
        lockdown = sym lockdown::lockdown,
        stack = const map::STACK.end,
    )
}

/// Leaves the stack that is written by whoever clones workers, for one that they get copies of.
///
/// # Safety
///
/// `boot` has mapped that stack. `wall` is read before anything else is written to the old one.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn on_nursery_stack(wall: *const Wall) -> ! {
    naked_asm!(
        "movabs rsp, {stack}",
        "xor ebp, ebp",
        "call {serve}",
        "ud2",
        stack = const map::NURSERY_STACK.end,
        serve = sym nursery::serve,
    )
}

/// Leaves the copy of the nursery's stack for the worker's own.
///
/// # Safety
///
/// The worker's pages are mapped. `wall` is on the old stack.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn on_worker_stack(wall: *const Wall) -> ! {
    naked_asm!(
        "movabs rsp, {stack}",
        "xor ebp, ebp",
        "call {lockdown}",
        "ud2",
        stack = const map::STACK.end,
        lockdown = sym lockdown::of_worker,
    )
}
