#![expect(unsafe_code, reason = "makes the system call")]
//! membarrier(2): making other CPUs pass through the kernel.

use crate::arch;
use crate::errno::Errno;
use crate::nr;
use linux_raw_sys::general::membarrier_cmd as sys;

/// Lets [`global_expedited`] reach this process.
///
/// Since Linux 4.16.
///
/// # Errors
///
/// `ENOSYS` on a kernel without it.
pub fn register_global_expedited() -> Result<(), Errno> {
    call(sys::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED)
}

/// Interrupts every CPU that runs a thread of a process that has registered, and waits until each
/// has been in the kernel. Such a thread takes its pending signals before it executes its next
/// instruction (kernel/entry/common.c, `exit_to_user_mode_loop`); one that is not running does so
/// before it runs (kernel/sched/membarrier.c).
///
/// Since Linux 4.16.
///
/// # Errors
///
/// `ENOSYS` on a kernel without it; whatever a filter answers.
pub fn global_expedited() -> Result<(), Errno> {
    call(sys::MEMBARRIER_CMD_GLOBAL_EXPEDITED)
}

fn call(command: sys) -> Result<(), Errno> {
    // SAFETY: only numbers are passed.
    let answer = unsafe {
        arch::syscall3(
            nr::MEMBARRIER,
            (command as u32).into(),
            0u32.into(),
            0u32.into(),
        )
    };
    answer.done()
}
