//! `io_uring` against the running kernel: the raw ring, and transfers with and without one.
#![expect(
    unsafe_code,
    reason = "gives memory to operations, handles signals and forks"
)]

use std::io::{PipeReader, PipeWriter};

use linux_raw::uring::op::{self, Position, Target};
use linux_raw::uring::{Cqe, Ring, Setup, Sqe};
use linux_raw::{BorrowedFd, Errno};

#[path = "uring/disturbed.rs"]
mod disturbed;
#[path = "uring/ops.rs"]
mod ops;
#[path = "uring/queues.rs"]
mod queues;
#[path = "uring/registered.rs"]
mod registered;
#[path = "uring/stress.rs"]
mod stress;
#[path = "uring/transfer.rs"]
mod transfer;

/// The descriptor of a standard library's file, pipe or socket.
fn lend(file: &impl std::os::fd::AsRawFd) -> BorrowedFd<'_> {
    // SAFETY: the file is borrowed for as long as the descriptor is, and keeps it open.
    unsafe { BorrowedFd::borrow_raw(file.as_raw_fd()) }
}

/// What was made, or `None` after saying that the kernel does not let us.
fn allowed<T>(made: Result<T, Errno>) -> Option<T> {
    match made {
        Ok(made) => Some(made),
        Err(errno @ (Errno::ENOSYS | Errno::EPERM | Errno::EACCES)) => {
            absence::absent("io_uring", errno);
            None
        }
        Err(errno) => panic!("io_uring: {errno}"),
    }
}

fn ring(setup: Setup) -> Option<Ring> {
    allowed(setup.build())
}

fn pipe() -> (PipeReader, PipeWriter) {
    std::io::pipe().unwrap()
}

/// Fills a pipe until it takes nothing more, and says how many bytes that took.
fn fill(pipe: &PipeWriter) -> usize {
    set_nonblocking(pipe, true);
    let mut bytes = 0;
    while let Ok(written) = linux_raw::io::write(lend(pipe), &[7; 4096]) {
        bytes += written;
    }
    set_nonblocking(pipe, false);
    bytes
}

fn set_nonblocking(file: &impl std::os::fd::AsRawFd, on: bool) {
    const F_SETFL: u32 = 4;
    let flags = if on {
        linux_raw::sys::general::O_NONBLOCK
    } else {
        0
    };
    // SAFETY: nothing is passed but numbers.
    let answer = unsafe {
        linux_raw::arch::syscall3(
            linux_raw::nr::FCNTL,
            lend(file).into(),
            F_SETFL.into(),
            flags.into(),
        )
    };
    answer.done().unwrap();
}

/// Pushes `entries`, numbered from one, waits for all of them, and answers with their results in
/// that order.
fn run<const N: usize>(ring: &mut Ring, entries: [Sqe; N]) -> [Result<u32, Errno>; N] {
    push(ring, entries);
    let mut results = [const { None }; N];
    while results.iter().any(Option::is_none) {
        ring.submit_and_wait(1, None).unwrap();
        for cqe in ring.completions() {
            results[index(&cqe)] = Some(cqe.result());
        }
    }
    results.map(Option::unwrap)
}

/// Pushes `entries` with 1, 2, 3... as their user data.
fn push<const N: usize>(ring: &mut Ring, entries: [Sqe; N]) {
    for (number, entry) in (1..).zip(entries) {
        ring.push(entry.with_user_data(number)).unwrap();
    }
}

/// Which of the entries of [`push`] a completion is of.
fn index(cqe: &Cqe) -> usize {
    usize::try_from(cqe.user_data()).unwrap() - 1
}

/// Waits for one completion.
fn next(ring: &mut Ring) -> Cqe {
    assert!(ring.submit_and_wait(1, None).unwrap() >= 1);
    ring.completions().next().unwrap()
}

/// Reads over the ring, alone.
fn read_now(
    ring: &mut Ring,
    target: impl Target,
    into: &mut [u8],
    at: Position,
) -> Result<u32, Errno> {
    let bytes = into.len().try_into().unwrap();
    // SAFETY: the slice is borrowed until `run` has reaped the completion.
    let entry = unsafe { op::read(target, into.as_mut_ptr(), bytes, at) };
    let [result] = run(ring, [entry]);
    result
}

/// Writes over the ring, alone.
fn write_now(
    ring: &mut Ring,
    target: impl Target,
    from: &[u8],
    at: Position,
) -> Result<u32, Errno> {
    let bytes = from.len().try_into().unwrap();
    // SAFETY: the slice is borrowed until `run` has reaped the completion.
    let entry = unsafe { op::write(target, from.as_ptr(), bytes, at) };
    let [result] = run(ring, [entry]);
    result
}
