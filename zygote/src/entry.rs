#![expect(unsafe_code, reason = "the first instructions of the process")]
//! `_start`: from the kernel's stack to one of our own.

use core::arch::naked_asm;

use vmctx::map;

use crate::{boot, lockdown};

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
