#![expect(unsafe_code, reason = "makes the calls on tracees")]
//! What a tracer asks of a child that lets itself be traced.

use core::mem::size_of;

use linux_raw_sys::elf_uapi::NT_386_IOPERM;
use linux_raw_sys::general::iovec;
use linux_raw_sys::ptrace as sys;

use crate::arch;
use crate::errno::Errno;
use crate::nr;
use crate::process::Pid;

/// Lets the parent trace this process (`PTRACE_TRACEME`).
///
/// Since Linux 1.0. From then on it stops at every signal, until the parent says more.
///
/// # Errors
///
/// `EPERM` if it is traced already, or where a security module forbids it.
pub fn let_the_parent_trace() -> Result<(), Errno> {
    // SAFETY: nothing is passed but a number.
    unsafe { arch::syscall1(nr::PTRACE, sys::PTRACE_TRACEME.into()) }.done()
}

/// The first ports' part of the map that says which I/O ports a stopped tracee reaches by `ioperm`.
///
/// Since Linux 2.6.34.
///
/// # Errors
///
/// `ENXIO` if it has no such map: it reaches none. `ESRCH` if it is no tracee of this thread's, or
/// is not stopped.
pub fn port_map_of(tracee: Pid) -> Result<u64, Errno> {
    let mut first = 0_u64;
    let mut place = iovec {
        iov_base: (&raw mut first).cast(),
        iov_len: size_of::<u64>() as u64,
    };
    // SAFETY: the kernel writes into the eight bytes that `place` names, and their number there.
    let answer = unsafe {
        arch::syscall4(
            nr::PTRACE,
            sys::PTRACE_GETREGSET.into(),
            tracee.raw().into(),
            NT_386_IOPERM.into(),
            (&raw mut place).into(),
        )
    };
    answer.done().map(|()| first)
}
