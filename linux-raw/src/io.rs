#![expect(unsafe_code, reason = "hands buffers to the kernel")]
//! Reading, writing, opening and waiting.

use core::ffi::CStr;
use core::marker::PhantomData;

use bitflags::bitflags;
use linux_raw_sys::general as sys;

use crate::arch;
use crate::arg::Arg;
use crate::errno::Errno;
use crate::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use crate::nr;
use crate::time::Timespec;

bitflags! {
    /// How [`open`] opens.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct OpenFlags: u32 {
        /// For reading only: no bit at all.
        const RDONLY = sys::O_RDONLY;
        /// For writing only.
        const WRONLY = sys::O_WRONLY;
        /// For both.
        const RDWR = sys::O_RDWR;
        /// Closed at an exec.
        const CLOEXEC = sys::O_CLOEXEC;
        /// Names a place without opening it.
        const PATH = sys::O_PATH;
        /// Does not wait.
        const NONBLOCK = sys::O_NONBLOCK;
        /// A terminal does not become the process's own.
        const NOCTTY = sys::O_NOCTTY;
    }
}

/// Opens a path that is there, relative to the working directory (`openat`).
///
/// Since Linux 2.6.16.
///
/// # Errors
///
/// `ENOENT`, `EACCES`, `ELOOP`, `EMFILE` and whatever the file system adds.
pub fn open(path: &CStr, flags: OpenFlags) -> Result<OwnedFd, Errno> {
    // SAFETY: the kernel reads the path up to its NUL, which `CStr` guarantees.
    let answer = unsafe {
        arch::syscall4(
            nr::OPENAT,
            sys::AT_FDCWD.into(),
            path.as_ptr().into(),
            flags.bits().into(),
            Arg::NULL, // no mode: nothing is created
        )
    };
    // SAFETY: openat answers with a descriptor it has just opened.
    unsafe { answer.fd() }
}

/// Reads up to `buffer.len()` bytes and answers how many; 0 is the end.
///
/// Since Linux 1.0.
///
/// # Errors
///
/// `EAGAIN` on a descriptor that does not wait, `EINTR` by a signal before anything was read, and
/// what the file adds.
pub fn read(fd: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the buffer is ours alone and initialised, and the length is its own.
    let answer = unsafe {
        arch::syscall3(
            nr::READ,
            fd.as_fd().into(),
            buffer.as_mut_ptr().into(),
            buffer.len().into(),
        )
    };
    answer.value()
}

/// Writes up to `bytes.len()` bytes and answers how many.
///
/// Since Linux 1.0.
///
/// # Errors
///
/// `EAGAIN`, `EINTR`, `EPIPE` (with `SIGPIPE`, unless ignored), `EPERM` for a sealed memfd, and
/// what the file adds.
pub fn write(fd: impl AsFd, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel only reads the bytes, and the length is their own.
    let answer = unsafe {
        arch::syscall3(
            nr::WRITE,
            fd.as_fd().into(),
            bytes.as_ptr().into(),
            bytes.len().into(),
        )
    };
    answer.value()
}

/// Reads from an offset in bytes, without moving the file position (`pread64`).
///
/// Since Linux 2.2.
///
/// # Errors
///
/// As [`read`]; `ESPIPE` on what cannot seek.
pub fn pread(fd: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    // SAFETY: the buffer is ours alone and initialised, and the length is its own.
    let answer = unsafe {
        arch::syscall4(
            nr::PREAD64,
            fd.as_fd().into(),
            buffer.as_mut_ptr().into(),
            buffer.len().into(),
            offset.into(),
        )
    };
    answer.value()
}

/// Writes at an offset in bytes, without moving the file position (`pwrite64`).
///
/// Since Linux 2.2.
///
/// # Errors
///
/// As [`write()`]; `ESPIPE` on what cannot seek.
pub fn pwrite(fd: impl AsFd, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
    // SAFETY: the bytes are readable, and the length is their own.
    unsafe { pwrite_from(fd, bytes.as_ptr(), bytes.len(), offset) }
}

/// As [`pwrite`], from memory that need not be initialised throughout, as padding is not.
///
/// Since Linux 2.2.
///
/// # Errors
///
/// As [`pwrite`].
///
/// # Safety
///
/// So many bytes are mapped there, and nobody writes them meanwhile.
pub unsafe fn pwrite_from(
    fd: impl AsFd,
    from: *const u8,
    bytes: usize,
    offset: u64,
) -> Result<usize, Errno> {
    // SAFETY: the kernel only reads the bytes, which are the caller's promise.
    let answer = unsafe {
        arch::syscall4(
            nr::PWRITE64,
            fd.as_fd().into(),
            from.into(),
            bytes.into(),
            offset.into(),
        )
    };
    answer.value()
}

/// Where the next data is, in bytes from the start: at `offset` or after it. `None` if there is
/// none until the end (`SEEK_DATA`).
///
/// It moves the file position, which all descriptors of one opening share.
///
/// Since Linux 3.1; for memory files since 3.8.
///
/// # Errors
///
/// `ESPIPE` on what cannot seek, `EINVAL` for what is not a file.
pub fn seek_data(fd: impl AsFd, offset: u64) -> Result<Option<u64>, Errno> {
    match seek(fd, offset, sys::SEEK_DATA) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Where the next hole is, in bytes from the start: at `offset` or after it. The end of the file
/// counts as one (`SEEK_HOLE`).
///
/// It moves the file position, which all descriptors of one opening share.
///
/// Since Linux 3.1; for memory files since 3.8.
///
/// # Errors
///
/// `ENXIO` if `offset` is at the end or beyond, `ESPIPE` on what cannot seek, `EINVAL` for what is
/// not a file.
pub fn seek_hole(fd: impl AsFd, offset: u64) -> Result<u64, Errno> {
    seek(fd, offset, sys::SEEK_HOLE)
}

/// Moves the file position and answers where it is now.
fn seek(fd: impl AsFd, offset: u64, whence: u32) -> Result<u64, Errno> {
    // SAFETY: nothing is passed but numbers.
    let answer =
        unsafe { arch::syscall3(nr::LSEEK, fd.as_fd().into(), offset.into(), whence.into()) };
    answer.value().map(|found| found as u64)
}

bitflags! {
    /// What [`poll`] waits for and what it finds.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct PollFlags: u16 {
        /// Something to read.
        const IN = bit(sys::POLLIN);
        /// Room to write.
        const OUT = bit(sys::POLLOUT);
        /// Found without asking: an error.
        const ERR = bit(sys::POLLERR);
        /// Found without asking: the other end is gone; a pidfd's process is dead and reaped.
        const HUP = bit(sys::POLLHUP);
        /// Found without asking: not an open descriptor.
        const NVAL = bit(sys::POLLNVAL);
        /// The other end will not write any more.
        const RDHUP = bit(sys::POLLRDHUP);
    }
}

/// A generated flag, in the field's own type.
#[expect(
    clippy::cast_possible_truncation,
    reason = "asserted, and at compile time"
)]
const fn bit(flag: u32) -> u16 {
    assert!(flag <= u16::MAX as u32, "poll: no flag is that large");
    flag as u16
}

/// One descriptor in a [`poll`].
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PollFd<'fd> {
    fd: RawFd,
    events: u16,
    found: u16,
    borrow: PhantomData<BorrowedFd<'fd>>,
}

same_layout!(PollFd<'_>, sys::pollfd: fd = fd, events = events, found = revents);

impl<'fd> PollFd<'fd> {
    /// Waits for `events` on `fd`.
    #[must_use]
    pub const fn new(fd: BorrowedFd<'fd>, events: PollFlags) -> Self {
        Self {
            fd: fd.as_raw(),
            events: events.bits(),
            found: 0,
            borrow: PhantomData,
        }
    }

    /// What the last [`poll`] found.
    #[must_use]
    pub const fn found(&self) -> PollFlags {
        PollFlags::from_bits_retain(self.found)
    }
}

/// Waits until a descriptor is ready and answers how many are; 0 is a timeout (`ppoll`).
///
/// `timeout` is relative; `None` waits without end.
///
/// Since Linux 2.6.16.
///
/// # Errors
///
/// `EINTR` by a signal, `EINVAL` for more descriptors than the limit, `ENOMEM`.
pub fn poll(fds: &mut [PollFd<'_>], timeout: Option<Timespec>) -> Result<usize, Errno> {
    // A copy, since the kernel writes the rest of the time back.
    let mut timeout = timeout;
    let timeout = timeout
        .as_mut()
        .map_or(Arg::NULL, |timeout| Arg::from(&raw mut *timeout));
    // SAFETY: the array has the layout of `struct pollfd` and its own length, the time is null or
    // a local that outlives the call, and no signal mask is given.
    let answer = unsafe {
        arch::syscall5(
            nr::PPOLL,
            fds.as_mut_ptr().into(),
            fds.len().into(),
            timeout,
            Arg::NULL,
            Arg::NULL,
        )
    };
    answer.value()
}
