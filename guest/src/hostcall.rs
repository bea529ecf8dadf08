#![expect(unsafe_code, reason = "calls the worker's trampolines")]
//! The way out of the sandbox: one call, numbered, with six arguments and an answer.
//!
//! The numbers that this crate uses are the `cellwall` command's. A machine of your own may
//! answer others; [`hostcall`] reaches them.

use core::arch::asm;

use vmctx::{map, native};

use crate::{Errno, Handle};

/// Makes a hostcall and gives the host's answer.
///
/// # Safety
///
/// The host may read and write guest memory that the arguments lead it to: where they are
/// addresses, the memory there must be valid for what the hostcall does with it.
pub unsafe fn hostcall(number: u32, args: [u64; 6]) -> u64 {
    let answer;
    // SAFETY: the worker maps its trampoline at this address before it enters a guest. The
    // trampoline preserves all registers but the three named here and the flags, and needs some
    // stack below the pointer, which asm blocks without `nostack` provide. What the host does with
    // memory is the caller's promise.
    unsafe {
        asm!(
            "call r11",
            inout("r11") map::HOSTCALL => _,
            inout("rax") u64::from(number) => answer,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            inout("rcx") args[3] => _,
            in("r8") args[4],
            in("r9") args[5],
        );
    }
    answer
}

/// Ends the guest with a 64-bit value: the host sees it as finished. The `cellwall` command takes
/// it as the exit status, and a value above 255 as 255.
pub fn finish(value: u64) -> ! {
    // SAFETY: the worker maps its exit trampoline at this address before it enters a guest, and
    // the trampoline neither returns nor needs anything of the guest but the value.
    unsafe {
        asm!("jmp r11", in("r11") map::FINISH, in("rax") value, options(noreturn));
    }
}

pub(crate) fn read(handle: Handle, buffer: &mut [u8]) -> Result<usize, Errno> {
    let length = buffer.len();
    let args = transfer(handle, buffer.as_mut_ptr().expose_provenance(), length);
    // SAFETY: the host writes at most `length` bytes at the address, which are the exclusively
    // borrowed buffer.
    let answer = unsafe { hostcall(native::READ, args) };
    Errno::from_answer(answer).map(|bytes| moved(bytes, length))
}

pub(crate) fn write(handle: Handle, bytes: &[u8]) -> Result<usize, Errno> {
    let length = bytes.len();
    let args = transfer(handle, bytes.as_ptr().expose_provenance(), length);
    // SAFETY: the host only reads, at most `length` bytes at the address, which are borrowed.
    let answer = unsafe { hostcall(native::WRITE, args) };
    Errno::from_answer(answer).map(|bytes| moved(bytes, length))
}

pub(crate) fn log(line: &str) {
    tell(native::LOG, line);
}

/// Gives the host the last words of a panic and ends the guest.
pub(crate) fn give_up(message: &str) -> ! {
    tell(native::PANIC, message);
    finish(native::PANIC_STATUS)
}

pub(crate) fn exit(status: u8) -> ! {
    finish(u64::from(status))
}

fn tell(number: u32, text: &str) {
    let address = text.as_ptr().expose_provenance() as u64;
    // SAFETY: the host only reads, at most the text's bytes at its address, which are borrowed.
    unsafe { hostcall(number, [address, text.len() as u64, 0, 0, 0, 0]) };
}

fn transfer(handle: Handle, address: usize, length: usize) -> [u64; 6] {
    [handle.raw(), address as u64, length as u64, 0, 0, 0]
}

/// The host moves no more than it was asked to; a wrong answer must not reach past the buffer.
fn moved(bytes: u64, length: usize) -> usize {
    usize::try_from(bytes).unwrap_or(length).min(length)
}
