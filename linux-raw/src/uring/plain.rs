//! Transfers without a ring: `poll(2)`, then `read(2)` or `write(2)`.

use core::time::Duration;

use super::clock;
use crate::errno::Errno;
use crate::fd::BorrowedFd;
use crate::io::{self, PollFd, PollFlags};
use crate::time::Timespec;

/// The most that is written at once under a deadline: what a pipe that polls as writable takes
/// without blocking (`PIPE_BUF`), while it has no other writer.
const WRITE_BYTES_MAX: usize = 4096;

/// As [`Transfer::read`](super::Transfer::read). Exact as to time where nobody else reads from the
/// same file: who comes second finds it empty again, and blocks.
pub(super) fn read(
    fd: BorrowedFd<'_>,
    into: &mut [u8],
    deadline: Option<Duration>,
) -> Result<usize, Errno> {
    attempt(fd, PollFlags::IN, deadline, || io::read(fd, into))
}

/// As [`Transfer::write`](super::Transfer::write); with the same reservation.
pub(super) fn write(
    fd: BorrowedFd<'_>,
    from: &[u8],
    deadline: Option<Duration>,
) -> Result<usize, Errno> {
    let part = match deadline {
        Some(_) => from.get(..WRITE_BYTES_MAX).unwrap_or(from),
        None => from,
    };
    attempt(fd, PollFlags::OUT, deadline, || io::write(fd, part))
}

/// Makes `call` when `fd` is ready for it, until it says something else than "try again".
fn attempt(
    fd: BorrowedFd<'_>,
    ready: PollFlags,
    deadline: Option<Duration>,
    mut call: impl FnMut() -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    // Without a deadline the call itself may do the waiting.
    if deadline.is_some() {
        wait(fd, ready, deadline)?;
    }
    loop {
        match call() {
            // The descriptor does not block and is not ready, or not any more.
            Err(Errno::EAGAIN) => wait(fd, ready, deadline)?,
            // A signal: its handler has run. The deadline still holds.
            Err(Errno::EINTR) if deadline.is_some() => wait(fd, ready, deadline)?,
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Waits until `fd` is ready, or has anything else to say: then the call will tell what.
fn wait(fd: BorrowedFd<'_>, ready: PollFlags, deadline: Option<Duration>) -> Result<(), Errno> {
    loop {
        let left = deadline.map(clock::left).map(Timespec::from);
        match io::poll(&mut [PollFd::new(fd, ready)], left) {
            Ok(0) => return Err(Errno::ETIME),
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {} // a signal: its handler has run, wait for the rest
            Err(other) => return Err(other),
        }
    }
}
