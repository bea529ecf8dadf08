#![expect(unsafe_code, reason = "waits on a word in memory")]
//! Waiting for a word to change, across processes.
//!
//! The shared kind: a word is known by the file and offset behind it, so that two processes can
//! wait on it at different addresses.

use core::sync::atomic::AtomicU32;

use linux_raw_sys::general as sys;

use crate::arch;
use crate::arg::Arg;
use crate::errno::Errno;
use crate::nr;
use crate::time::Timespec;

/// Sleeps while the word is `expected`, until woken. A timeout is relative.
///
/// Success does not mean that the word has changed: look again.
///
/// Since Linux 2.6.
///
/// # Errors
///
/// `EAGAIN` if the word was not `expected`, `ETIMEDOUT`, `EINTR` by a signal.
#[inline]
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Timespec>) -> Result<(), Errno> {
    let timeout = timeout
        .as_ref()
        .map_or(Arg::NULL, |timeout| Arg::from(&raw const *timeout));
    // SAFETY: the kernel only compares the word, and the time is null or a local.
    let answer = unsafe {
        arch::syscall4(
            nr::FUTEX,
            word.as_ptr().into(),
            sys::FUTEX_WAIT.into(),
            expected.into(),
            timeout,
        )
    };
    answer.done()
}

/// Wakes up to `waiters` sleepers on the word and answers how many.
///
/// Since Linux 2.6.
///
/// # Errors
///
/// `EFAULT` where the word's memory is not mapped.
#[inline]
pub fn wake(word: &AtomicU32, waiters: u32) -> Result<u32, Errno> {
    // SAFETY: the kernel uses the address as a key and writes nothing.
    let answer = unsafe {
        arch::syscall3(
            nr::FUTEX,
            word.as_ptr().into(),
            sys::FUTEX_WAKE.into(),
            waiters.into(),
        )
    };
    answer.word()
}
