#![expect(unsafe_code, reason = "makes the calls on I/O ports")]
//! The I/O ports of x86, which a privileged process may let itself reach without a system call, and
//! what it makes too: the right survives a clone and an exec.

use crate::arch;
use crate::arg::Arg;
use crate::called::{Called as _, Failed};
use crate::errno::Errno;
use crate::nr;

/// How many ports there are.
const PORTS: u32 = 1 << 16;

/// Whether there are calls that give ports. It changes nothing: it asks for none of them.
///
/// Since Linux 1.0.
#[must_use]
pub fn can_be_had() -> bool {
    // SAFETY: nothing is passed but numbers; a range of no port is refused before it is looked at.
    let answer = unsafe { arch::syscall3(nr::IOPERM, Arg::NULL, Arg::NULL, Arg::NULL) };
    answer.done() != Err(Errno::ENOSYS)
}

/// Gives up what `iopl` gave: all ports at once.
///
/// Since Linux 1.0.
///
/// # Errors
///
/// `ENOSYS` on a kernel without `CONFIG_X86_IOPL_IOPERM`, where nobody has any port.
pub fn give_up_level() -> Result<(), Errno> {
    // SAFETY: nothing is passed but a number, and no code of ours uses a port.
    unsafe { arch::syscall1(nr::IOPL, Arg::NULL) }.done()
}

/// Gives up what `ioperm` gave: single ports.
///
/// Since Linux 1.0.
///
/// # Errors
///
/// As [`give_up_level`].
pub fn give_up_each() -> Result<(), Errno> {
    // SAFETY: nothing is passed but numbers, and no code of ours uses a port.
    unsafe { arch::syscall3(nr::IOPERM, Arg::NULL, PORTS.into(), Arg::NULL) }.done()
}

/// Gives up all ports, or does without where it cannot and `has_none` says that there is none to be
/// given up: on a kernel on which nobody has any, and behind a filter that forbids it, as container
/// engines have around all that may not take ports. What was taken before a filter came is still
/// there behind it, so that `has_none` takes a proof.
///
/// Since Linux 1.0.
///
/// # Errors
///
/// The call that failed: of two answers the odd one is told.
pub fn give_up(has_none: bool) -> Result<(), Failed> {
    match (give_up_level(), give_up_each()) {
        (Err(level), Err(each)) if level == each && has_none => Ok(()),
        (Err(Errno::ENOSYS), Err(errno)) if errno != Errno::ENOSYS => {
            Err(Failed(nr::IOPERM, errno))
        }
        (level, each) => {
            level.called(nr::IOPL)?;
            each.called(nr::IOPERM)
        }
    }
}
