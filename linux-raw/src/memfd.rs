#![expect(unsafe_code, reason = "makes the calls on memory files")]
//! Files in memory, and the seals that make promises about them.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use bitflags::bitflags;
use linux_raw_sys::general as sys;

use crate::arch;
use crate::errno::Errno;
use crate::fd::{AsFd, OwnedFd};
use crate::io::{self, OpenFlags};
use crate::nr;
use crate::text::Text;

bitflags! {
    /// How [`memfd_create`] creates.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct MemfdFlags: u32 {
        /// Closed at an exec.
        const CLOEXEC = sys::MFD_CLOEXEC;
        /// Takes seals.
        const ALLOW_SEALING = sys::MFD_ALLOW_SEALING;
        /// Executable, said so on purpose. Since Linux 6.3.
        const EXEC = sys::MFD_EXEC;
    }
}

bitflags! {
    /// What nobody can do with a memory file any more.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Seals: u32 {
        /// Add seals.
        const SEAL = sys::F_SEAL_SEAL;
        /// Make it shorter.
        const SHRINK = sys::F_SEAL_SHRINK;
        /// Make it longer.
        const GROW = sys::F_SEAL_GROW;
        /// Write to it; refused while a writable mapping exists.
        const WRITE = sys::F_SEAL_WRITE;
        /// Write to it, but through mappings that exist already. Since Linux 5.1.
        const FUTURE_WRITE = sys::F_SEAL_FUTURE_WRITE;
        /// Change whether it is executable. Since Linux 6.3.
        const EXEC = sys::F_SEAL_EXEC;
    }
}

/// Creates an empty memory file. The name is for `/proc` only; at most 249 bytes.
///
/// Since Linux 3.17.
///
/// # Errors
///
/// `EINVAL` for a flag the kernel does not know or a long name, `EACCES` where
/// `vm.memfd_noexec=2` refuses executable ones, `EMFILE`, `ENFILE`, `ENOMEM`.
pub fn memfd_create(name: &CStr, flags: MemfdFlags) -> Result<OwnedFd, Errno> {
    // SAFETY: the kernel reads the name up to its NUL, which `CStr` guarantees.
    let answer =
        unsafe { arch::syscall2(nr::MEMFD_CREATE, name.as_ptr().into(), flags.bits().into()) };
    // SAFETY: memfd_create answers with a descriptor it has just opened.
    unsafe { answer.fd() }
}

/// Adds seals; none can be removed.
///
/// Since Linux 3.17.
///
/// # Errors
///
/// `EPERM` if [`Seals::SEAL`] is there already or the descriptor is read-only, `EBUSY` for
/// [`Seals::WRITE`] while a writable mapping exists, `EINVAL` for what is not a memory file or a
/// seal the kernel does not know.
pub fn add_seals(fd: impl AsFd, seals: Seals) -> Result<(), Errno> {
    // SAFETY: nothing is passed but numbers; seals only take abilities away.
    let answer = unsafe {
        arch::syscall3(
            nr::FCNTL,
            fd.as_fd().into(),
            sys::F_ADD_SEALS.into(),
            seals.bits().into(),
        )
    };
    answer.done()
}

/// Sets a file's length in bytes. What is added reads as zeroes.
///
/// Shortening a file under a mapping makes touching the lost pages a `SIGBUS`.
///
/// Since Linux 1.0.
///
/// # Errors
///
/// `EPERM` for what a seal forbids, `EINVAL` for a length out of range, `EFBIG` beyond the limit.
pub fn ftruncate(fd: impl AsFd, bytes: u64) -> Result<(), Errno> {
    // SAFETY: nothing is passed but numbers. A mapping of lost pages faults, it does not dangle.
    let answer = unsafe { arch::syscall2(nr::FTRUNCATE, fd.as_fd().into(), bytes.into()) };
    answer.done()
}

/// Gives `bytes` from `offset` back to the system: they read as zeroes, through mappings too, and
/// the length stays. What is no whole page is written with zeroes instead.
///
/// Since Linux 3.5, as files in memory.
///
/// # Errors
///
/// `EPERM` for a file sealed against writing, `EBADF` for a descriptor that cannot write, `EINVAL`
/// for zero bytes, `EFBIG` for a range out of range, `EINTR`.
pub fn punch_hole(fd: impl AsFd, offset: u64, bytes: u64) -> Result<(), Errno> {
    // SAFETY: nothing is passed but numbers. It is a write to the file, as `pwrite` is.
    let answer = unsafe {
        arch::syscall4(
            nr::FALLOCATE,
            fd.as_fd().into(),
            (sys::FALLOC_FL_PUNCH_HOLE | sys::FALLOC_FL_KEEP_SIZE).into(),
            offset.into(),
            bytes.into(),
        )
    };
    answer.done()
}

/// How many bytes of memory a file really holds: whole pages, also those that are swapped out.
///
/// Since Linux 1.0.
///
/// # Errors
///
/// `EBADF` only, for a memory file.
pub fn allocated_bytes(fd: impl AsFd) -> Result<u64, Errno> {
    /// What blocks are counted in, whatever the file system's own are.
    const BLOCK_BYTES: u64 = 512;
    Ok(status(fd)?.st_blocks.cast_unsigned() * BLOCK_BYTES)
}

/// A file's length in bytes, holes included.
///
/// Since Linux 1.0.
///
/// # Errors
///
/// `EBADF` only, for a memory file.
pub fn length(fd: impl AsFd) -> Result<u64, Errno> {
    Ok(status(fd)?.st_size.cast_unsigned())
}

/// What the kernel knows about a file (`fstat`).
fn status(fd: impl AsFd) -> Result<sys::stat, Errno> {
    let mut status = MaybeUninit::<sys::stat>::uninit();
    // SAFETY: the kernel writes one `struct stat` there, which there is room for.
    let answer =
        unsafe { arch::syscall2(nr::FSTAT, fd.as_fd().into(), status.as_mut_ptr().into()) };
    answer.done()?;
    // SAFETY: the call succeeded, so the kernel has written all of it.
    Ok(unsafe { status.assume_init() })
}

/// Opens the file behind `fd` once more, for reading only and close-on-exec.
///
/// A mapping of the new descriptor can never be made writable, whatever `fd` allows. It goes
/// through `/proc/self/fd`, which must be mounted.
///
/// Since Linux 3.17, as memory files.
///
/// # Errors
///
/// As [`io::open`]; `ENOENT` or `ENOTDIR` without `/proc`.
pub fn reopen_read_only(fd: impl AsFd) -> Result<OwnedFd, Errno> {
    let number = u32::try_from(fd.as_fd().as_raw()).map_err(|_| Errno::EBADF)?;
    let path = Text::<32>::new()
        .push(b"/proc/self/fd/")
        .push_number(number);
    let path = path.c_str().ok_or(Errno::ENAMETOOLONG)?;
    io::open(path, OpenFlags::RDONLY | OpenFlags::CLOEXEC)
}
