#![expect(unsafe_code, reason = "takes over the descriptor that the call opens")]
//! Counters that can be waited for like any descriptor: one thread adds, another one wakes.

use bitflags::bitflags;
use linux_raw_sys::general as sys;

use crate::arch;
use crate::errno::Errno;
use crate::fd::{AsFd, OwnedFd};
use crate::io;
use crate::nr;

bitflags! {
    /// How [`eventfd`] makes its counter.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct EventfdFlags: u32 {
        /// Closed at an exec.
        const CLOEXEC = sys::O_CLOEXEC;
        /// [`add`] and [`take`] answer `EAGAIN` instead of waiting.
        const NONBLOCK = sys::O_NONBLOCK;
    }
}

/// A counter that starts at `initial` and is readable while it is not zero (`eventfd2`).
///
/// Since Linux 2.6.27.
///
/// # Errors
///
/// `EINVAL` for an unknown flag, `EMFILE`, `ENFILE`, `ENOMEM`.
///
/// ```
/// use linux_raw::eventfd::{EventfdFlags, add, eventfd, take};
///
/// let counter = eventfd(0, EventfdFlags::CLOEXEC)?;
/// add(&counter, 2)?;
/// add(&counter, 3)?;
/// assert_eq!(take(&counter)?, 5);
/// # Ok::<(), linux_raw::Errno>(())
/// ```
pub fn eventfd(initial: u32, flags: EventfdFlags) -> Result<OwnedFd, Errno> {
    // SAFETY: nothing is passed but numbers.
    let answer = unsafe { arch::syscall2(nr::EVENTFD2, initial.into(), flags.bits().into()) };
    // SAFETY: eventfd2 answers with a descriptor it has just opened.
    unsafe { answer.fd() }
}

/// Adds to a counter, and wakes who waits for it. It waits while the sum would be `u64::MAX`.
///
/// Since Linux 2.6.22.
///
/// # Errors
///
/// `EAGAIN` instead of waiting, with [`EventfdFlags::NONBLOCK`]; `EINTR` by a signal; `EINVAL` for
/// `u64::MAX`.
pub fn add(eventfd: impl AsFd, count: u64) -> Result<(), Errno> {
    io::write(eventfd, &count.to_ne_bytes()).map(drop)
}

/// Answers what a counter is at, and sets it to zero. It waits while it is zero.
///
/// Since Linux 2.6.22.
///
/// # Errors
///
/// `EAGAIN` instead of waiting, with [`EventfdFlags::NONBLOCK`]; `EINTR` by a signal.
pub fn take(eventfd: impl AsFd) -> Result<u64, Errno> {
    let mut count = [0; size_of::<u64>()];
    io::read(eventfd, &mut count)?;
    Ok(u64::from_ne_bytes(count))
}
