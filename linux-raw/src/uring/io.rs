#![expect(
    unsafe_code,
    reason = "lends borrowed buffers to the kernel for one operation"
)]
//! Reading and writing with a deadline, over a ring where there is one.

use core::time::Duration;

use super::Sqe;
use super::abi::Features;
use super::clock;
use super::flight::{Flight, fly};
use super::op::{self, Fd, Op, Position};
use super::plain;
use super::ring::Ring;
use crate::errno::Errno;
use crate::fd::BorrowedFd;
use crate::io::PollFlags;

/// A transfer, its cancellation, and what waiting needs on old kernels.
const ENTRIES: u32 = 4;

/// No call moves more than this many bytes (the kernel's `MAX_RW_COUNT`, with 4 KiB pages).
pub const TRANSFER_BYTES_MAX: u32 = 0x7fff_f000;

/// How often in a row an operation may be interrupted without being cancelled before that is
/// reported: some files do so each time they would have to wait.
const INTERRUPTED_MAX: u32 = 16;

/// How long a transfer may take that is tried although its deadline has passed. Where it cannot be
/// tried without waiting (pipes, on Linux 6.1), the kernel gives it to a thread of its own, and a
/// cancellation that comes before that thread does ends it untried.
const TRY: Duration = Duration::from_millis(20);

/// What a ring must be able to do to serve transfers.
const NEEDED_FEATURES: Features = Features::NODROP
    .union(Features::SUBMIT_STABLE)
    .union(Features::RW_CUR_POS);

/// Reads and writes, one at a time, each with a deadline.
///
/// Over `io_uring` where the kernel has it and lets us, otherwise with `poll(2)`, `read(2)` and
/// `write(2)`; [`kind`](Self::kind) tells which. Works with files, pipes, sockets, terminals and
/// devices, blocking or not, at the file's own position, which moves. Two transfers at once on the
/// same open file, from different threads, may use the same position.
///
/// It uses a ring of its own that is empty between calls, so it can be dropped at any time.
///
/// In a process that was forked from the one that made it, it works plainly.
#[derive(Debug)]
pub struct Transfer {
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// Idle between calls: nobody else has it.
    Uring(Ring),
    /// And why not a ring, unless that was asked for.
    Plain(Option<Errno>),
}

impl Default for Transfer {
    fn default() -> Self {
        Self::new()
    }
}

impl Transfer {
    /// The operations that a ring must have.
    pub const NEEDED_OPS: [Op; 5] = [
        Op::Read,
        Op::Write,
        Op::PollAdd,
        Op::AsyncCancel,
        Op::Timeout,
    ];

    /// Over `io_uring` if possible, otherwise plainly.
    #[must_use]
    pub fn new() -> Self {
        // Forbidden (EPERM, EACCES), unknown (ENOSYS, EINVAL), too old (EOPNOTSUPP) or no
        // resources left (ENOMEM, EMFILE): whichever it is, plain calls do the same, and
        // `plain_because` tells.
        Self::uring().unwrap_or_else(|errno| Self {
            way: Way::Plain(Some(errno)),
        })
    }

    /// Over `io_uring` or not at all.
    ///
    /// # Errors
    ///
    /// As for [`Setup::build`](super::Setup::build), and `EOPNOTSUPP` if the kernel's rings lack
    /// what transfers need (before Linux 5.6).
    pub fn uring() -> Result<Self, Errno> {
        Self::over(Ring::new(ENTRIES)?)
    }

    /// With plain system calls.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            way: Way::Plain(None),
        }
    }

    fn over(ring: Ring) -> Result<Self, Errno> {
        if !ring.features().contains(NEEDED_FEATURES) {
            return Err(Errno::EOPNOTSUPP);
        }
        let probe = ring.probe()?;
        if !Self::NEEDED_OPS.iter().all(|op| probe.supports(*op)) {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(Self {
            way: Way::Uring(ring),
        })
    }

    /// `"io_uring"` or `"plain"`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.way {
            Way::Uring(_) => "io_uring",
            Way::Plain(_) => "plain",
        }
    }

    /// Why transfers go plainly although a ring was preferred.
    #[must_use]
    pub fn plain_because(&self) -> Option<Errno> {
        match self.way {
            Way::Uring(_) => None,
            Way::Plain(reason) => reason,
        }
    }

    /// Reads what there is, up to the length of `into`; zero bytes are the end of the file.
    ///
    /// Waits until there is something, no longer than to `deadline`, a time of
    /// [`monotonic`](crate::time::monotonic); without one, as long as it takes. It is tried once
    /// even if the deadline has passed.
    ///
    /// # Errors
    ///
    /// - `ETIME`: the deadline passed, and nothing was read.
    /// - `EINTR`: the file interrupts each attempt.
    /// - what `read(2)` fails with; never `EAGAIN`: a descriptor that does not block is waited for.
    pub fn read(
        &mut self,
        fd: BorrowedFd<'_>,
        into: &mut [u8],
        deadline: Option<Duration>,
    ) -> Result<usize, Errno> {
        self.transfer(fd, Bytes::Into(into), deadline)
    }

    /// Writes a part of `from` and says how long that part is; waits as [`read`](Self::read) does.
    ///
    /// Writing to a pipe or socket that has no reader is `EPIPE`, and raises `SIGPIPE` as
    /// `write(2)` does, on either way. A Rust program ignores that signal unless told otherwise;
    /// one that does not will be killed by it.
    ///
    /// # Errors
    ///
    /// - `ETIME`: the deadline passed, and nothing was written.
    /// - `EINTR`: the file interrupts each attempt.
    /// - what `write(2)` fails with; never `EAGAIN`.
    ///
    /// Plainly, a terminal whose output is stopped can hold a write past its deadline.
    pub fn write(
        &mut self,
        fd: BorrowedFd<'_>,
        from: &[u8],
        deadline: Option<Duration>,
    ) -> Result<usize, Errno> {
        self.transfer(fd, Bytes::From(from), deadline)
    }

    fn transfer(
        &mut self,
        fd: BorrowedFd<'_>,
        mut bytes: Bytes<'_>,
        deadline: Option<Duration>,
    ) -> Result<usize, Errno> {
        if let Way::Uring(ring) = &mut self.way
            && !ring.is_forked()
        {
            match over_ring(ring, fd, &mut bytes, deadline) {
                Flight::Landed(result) => {
                    return result.and_then(|n| usize::try_from(n).map_err(|_| Errno::EOVERFLOW));
                }
                // A filter forbids the ring by now: it is of no more use.
                Flight::Grounded(reason @ (Errno::EPERM | Errno::EACCES | Errno::ENOSYS)) => {
                    self.way = Way::Plain(Some(reason));
                }
                // No memory for a request, this time.
                Flight::Grounded(_) => {}
            }
        }
        match bytes {
            Bytes::Into(into) => plain::read(fd, into, deadline),
            Bytes::From(from) => plain::write(fd, from, deadline),
        }
    }
}

/// What to move, and where.
enum Bytes<'a> {
    Into(&'a mut [u8]),
    From(&'a [u8]),
}

impl Bytes<'_> {
    /// The entry that moves them.
    ///
    /// # Safety
    ///
    /// The entry must be used up while `self` is borrowed: completed and reaped, or given up.
    unsafe fn entry(&mut self, fd: BorrowedFd<'_>) -> Sqe {
        let fd = Fd::new(&fd);
        let clamp = |bytes: usize| {
            u32::try_from(bytes).map_or(TRANSFER_BYTES_MAX, |bytes| bytes.min(TRANSFER_BYTES_MAX))
        };
        match self {
            Self::Into(into) => {
                let bytes = clamp(into.len());
                // SAFETY: the slice is borrowed exclusively for as long as the caller promises.
                unsafe { op::read(fd, into.as_mut_ptr(), bytes, Position::Current) }
            }
            Self::From(from) => {
                let bytes = clamp(from.len());
                // SAFETY: the slice is borrowed for as long as the caller promises.
                unsafe { op::write(fd, from.as_ptr(), bytes, Position::Current) }
            }
        }
    }

    fn awaited(&self) -> PollFlags {
        match self {
            Self::Into(_) => PollFlags::IN,
            Self::From(_) => PollFlags::OUT,
        }
    }
}

fn over_ring(
    ring: &mut Ring,
    fd: BorrowedFd<'_>,
    bytes: &mut Bytes<'_>,
    deadline: Option<Duration>,
) -> Flight {
    let mut interrupted = 0;
    loop {
        // SAFETY: `fly` returns when the entry has completed and has been reaped, or was given up.
        let entry = unsafe { bytes.entry(fd) };
        match fly(
            ring,
            entry,
            deadline.map(|time| time.max(clock::after(TRY))),
        ) {
            // The descriptor does not block, and nothing is there yet: wait for it.
            Flight::Landed(Err(Errno::EAGAIN)) => interrupted = 0,
            // A signal, or a file that does not like to be waited on: wait beside it.
            Flight::Landed(Err(Errno::EINTR)) if interrupted < INTERRUPTED_MAX => interrupted += 1,
            landed_or_grounded => return landed_or_grounded,
        }
        match fly(ring, op::poll_add(Fd::new(&fd), bytes.awaited()), deadline) {
            Flight::Landed(Ok(_) | Err(Errno::EINTR)) => {}
            landed_or_grounded => return landed_or_grounded,
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::io::{Write, pipe};
    use std::os::fd::AsRawFd;

    use super::{ENTRIES, Features, Transfer};
    use crate::errno::Errno;
    use crate::fd::BorrowedFd;
    use crate::time::monotonic;
    use crate::uring::Setup;

    #[test]
    fn without_timeouts_as_arguments() {
        let ring = match Setup::new(ENTRIES).without(Features::EXT_ARG).build() {
            Ok(ring) => ring,
            Err(errno) => return absence::absent("io_uring", errno.name()),
        };
        let mut transfer = Transfer::over(ring).unwrap();
        let (reader, mut writer) = pipe().unwrap();
        // SAFETY: the pipe stays open to the end of the test.
        let fd = unsafe { BorrowedFd::borrow_raw(reader.as_raw_fd()) };
        let mut into = [0; 4];
        for _ in 0..20 {
            let deadline = monotonic() + Duration::from_millis(5);
            assert_eq!(
                transfer.read(fd, &mut into, Some(deadline)),
                Err(Errno::ETIME)
            );
            assert!(monotonic() >= deadline);
            writer.write_all(b"abc").unwrap();
            let deadline = monotonic() + Duration::from_secs(60);
            assert_eq!(transfer.read(fd, &mut into, Some(deadline)), Ok(3));
        }
    }

    #[test]
    fn rings_that_are_too_old() {
        for lacking in [
            Features::NODROP,
            Features::RW_CUR_POS,
            Features::SUBMIT_STABLE,
        ] {
            match Setup::new(ENTRIES).without(lacking).build() {
                Ok(ring) => {
                    assert_eq!(Transfer::over(ring).err(), Some(Errno::EOPNOTSUPP));
                }
                Err(errno) => absence::absent("io_uring", errno.name()),
            }
        }
    }
}
