#![expect(
    unsafe_code,
    reason = "lends the standard descriptors by their numbers"
)]
//! The standard descriptors, without buffers, and without a panic where nobody reads.

use std::time::Duration;

use linux_raw::Errno;
use linux_raw::fd::{BorrowedFd, RawFd};
use linux_raw::time::monotonic;
use linux_raw::uring::Transfer;
use vmctx::native;

/// How long a reader of our own messages may keep us from ending.
const PATIENCE: Duration = Duration::from_secs(1);

/// The descriptor behind a guest's handle, if it knows such a handle for reading.
pub(crate) fn readable(handle: u64) -> Option<BorrowedFd<'static>> {
    (handle == native::STDIN).then(|| standard(0))
}

/// The descriptor behind a guest's handle, if it knows such a handle for writing.
pub(crate) fn writable(handle: u64) -> Option<BorrowedFd<'static>> {
    match handle {
        native::STDOUT => Some(standard(1)),
        native::STDERR => Some(standard(2)),
        _ => None,
    }
}

/// The standard error.
pub(crate) fn stderr() -> BorrowedFd<'static> {
    standard(2)
}

fn standard(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: Rust's start-up opens /dev/null for each of the three that is closed, and nothing in
    // this program closes them.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// A line of ours on the standard error.
pub(crate) fn complain(message: &str) {
    let deadline = monotonic().saturating_add(PATIENCE);
    let line = format!("cellwall: {message}\n");
    // Nobody is left to be told that nobody listens.
    let _ = write_all(
        &mut Transfer::plain(),
        stderr(),
        line.as_bytes(),
        Some(deadline),
    );
}

/// Text on the standard output. A reader that has seen enough is no error.
pub(crate) fn print(text: &str) -> Result<(), Errno> {
    match write_all(&mut Transfer::plain(), standard(1), text.as_bytes(), None) {
        Err(Errno::EPIPE) => Ok(()),
        result => result,
    }
}

/// Writes all of the bytes.
pub(crate) fn write_all(
    transfer: &mut Transfer,
    to: BorrowedFd<'_>,
    mut bytes: &[u8],
    deadline: Option<Duration>,
) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match transfer.write(to, bytes, deadline)? {
            0 => return Err(Errno::EIO),
            written => bytes = bytes.get(written..).unwrap_or_default(),
        }
    }
    Ok(())
}
