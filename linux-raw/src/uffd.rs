#![expect(
    unsafe_code,
    reason = "changes what is mapped, maybe in another process"
)]
//! Page faults that user space answers (`userfaultfd`).
//!
//! A descriptor belongs to the memory of the process that made it, and works from whichever process
//! it was passed to: addresses are that memory's, hence plain numbers. All of them, and all
//! lengths, are in bytes and multiples of the page size.
//!
//! It is meant for [`Features::SIGBUS`], with which a fault raises that signal in its own thread
//! and nobody ever sleeps on the descriptor: hence nothing here wakes anybody, or reads events.

use bitflags::bitflags;
use linux_raw_sys::{general as sys, ioctl as number};

use crate::arch;
use crate::errno::Errno;
use crate::fd::{AsFd, OwnedFd};
use crate::nr;

bitflags! {
    /// What a descriptor can do beyond missing pages of anonymous memory.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Features: u64 {
        /// Tells writes to protected pages of anonymous memory. Since Linux 5.7.
        const WRITE_PROTECT = sys::UFFD_FEATURE_PAGEFAULT_FLAG_WP as u64;
        /// Missing pages of memory files. Since Linux 4.11.
        const MISSING_SHMEM = sys::UFFD_FEATURE_MISSING_SHMEM as u64;
        /// A fault is a `SIGBUS` instead of an event to wait for. Since Linux 4.14.
        const SIGBUS = sys::UFFD_FEATURE_SIGBUS as u64;
        /// Pages that a memory file has and the page table lacks. Since Linux 5.14.
        const MINOR_SHMEM = sys::UFFD_FEATURE_MINOR_SHMEM as u64;
        /// Writes to protected pages of memory files and huge pages. Since Linux 5.19.
        const WRITE_PROTECT_SHMEM = sys::UFFD_FEATURE_WP_HUGETLBFS_SHMEM as u64;
    }
}

bitflags! {
    /// Which faults of a range are told.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Modes: u64 {
        /// Of pages that are nowhere yet.
        const MISSING = sys::UFFDIO_REGISTER_MODE_MISSING as u64;
        /// Of writes to pages that [`write_protect`] protects. Since Linux 5.7.
        const WRITE_PROTECT = sys::UFFDIO_REGISTER_MODE_WP as u64;
        /// Of pages that the file has and the page table lacks. Since Linux 5.14, for memory files.
        const MINOR = sys::UFFDIO_REGISTER_MODE_MINOR as u64;
    }
}

/// [`copy`] wakes nobody.
const COPY_DONTWAKE: u64 = sys::UFFDIO_COPY_MODE_DONTWAKE as u64;
/// [`copy`] protects what it maps.
const COPY_WP: u64 = sys::UFFDIO_COPY_MODE_WP as u64;
/// [`zero`] wakes nobody.
const ZEROPAGE_DONTWAKE: u64 = sys::UFFDIO_ZEROPAGE_MODE_DONTWAKE as u64;
/// [`resume`] wakes nobody (`UFFDIO_CONTINUE_MODE_DONTWAKE`).
pub const CONTINUE_DONTWAKE: u64 = 1 << 0;
/// [`resume`] protects what it maps (`UFFDIO_CONTINUE_MODE_WP`).
pub const CONTINUE_WP: u64 = 1 << 1;
/// [`write_protect`] protects (`UFFDIO_WRITEPROTECT_MODE_WP`), which wakes nobody anyway.
pub const WRITEPROTECT_WP: u64 = 1 << 0;
/// [`write_protect`] wakes nobody (`UFFDIO_WRITEPROTECT_MODE_DONTWAKE`); not beside the former.
pub const WRITEPROTECT_DONTWAKE: u64 = 1 << 1;
/// Has `/dev/userfaultfd` make a descriptor (`ioctl`). Since Linux 6.1.
pub const USERFAULTFD_IOC_NEW: u32 = 0xaa00;

/// A descriptor for the faults of this process' memory: those of user code only, which needs no
/// privilege. It is close-on-exec, and can do nothing before [`enable`].
///
/// A system call that meets such a page fails with `EFAULT`.
///
/// Since Linux 5.11.
///
/// # Errors
///
/// `EINVAL` on an older kernel, `ENOSYS` on one without it, `EMFILE`, `ENFILE`, `ENOMEM`.
pub fn userfaultfd() -> Result<OwnedFd, Errno> {
    let flags = sys::UFFD_USER_MODE_ONLY | sys::O_CLOEXEC | sys::O_NONBLOCK;
    // SAFETY: nothing is passed but flags.
    let answer = unsafe { arch::syscall1(nr::USERFAULTFD, flags.into()) };
    // SAFETY: userfaultfd answers with a descriptor it has just opened.
    unsafe { answer.fd() }
}

/// Turns features on, once for a descriptor, and answers all that the kernel offers, of which some
/// may have no name here (`UFFDIO_API`).
///
/// Since Linux 4.3.
///
/// # Errors
///
/// `EINVAL` if the kernel lacks one of them, or if the descriptor was enabled already.
pub fn enable(fd: impl AsFd, wanted: Features) -> Result<Features, Errno> {
    let mut api = sys::uffdio_api {
        api: sys::UFFD_API.into(),
        features: wanted.bits(),
        ioctls: 0,
    };
    // SAFETY: the struct is the operation's, and no memory is watched yet.
    unsafe { ioctl(fd, number::UFFDIO_API, &mut api) }?;
    Ok(Features::from_bits_retain(api.features))
}

/// Has the faults of a range told: what is mapped there, not what may be mapped later. A range
/// that is registered already gets the new modes (`UFFDIO_REGISTER`).
///
/// Since Linux 4.3.
///
/// # Errors
///
/// `EINVAL` for no modes, a range that is unaligned or where nothing is mapped, and memory whose
/// faults cannot be told in these modes; `EPERM` for a mapping that can never become writable;
/// `EBUSY` if another descriptor has it, and on Linux 7.3 if it is registered in modes that are not
/// among these; `ENOMEM`, also if the process has ended.
///
/// # Safety
///
/// If the memory is this process' own, no Rust object may live in the range.
pub unsafe fn register(fd: impl AsFd, address: u64, bytes: u64, modes: Modes) -> Result<(), Errno> {
    let mut asked = sys::uffdio_register {
        range: range(address, bytes),
        mode: modes.bits(),
        ioctls: 0,
    };
    // SAFETY: the struct is the operation's; the caller answers for the range.
    unsafe { ioctl(fd, number::UFFDIO_REGISTER, &mut asked) }
}

/// Has the faults of a range told no more, and lets writes through: what is missing reads as zeroes
/// or as the file (`UFFDIO_UNREGISTER`).
///
/// Since Linux 4.3.
///
/// # Errors
///
/// `EINVAL` for a range that is unaligned, where nothing is mapped, or with memory that could not
/// be registered; `ENOMEM`, also if the process has ended.
///
/// # Safety
///
/// If the memory is this process' own, no Rust object may live in the range.
pub unsafe fn unregister(fd: impl AsFd, address: u64, bytes: u64) -> Result<(), Errno> {
    let mut asked = range(address, bytes);
    // SAFETY: the struct is the operation's; the caller answers for the range.
    unsafe { ioctl(fd, number::UFFDIO_UNREGISTER, &mut asked) }
}

/// Maps zeroes where pages are missing, and answers how many bytes: fewer than asked for if
/// something was in the way after some (`UFFDIO_ZEROPAGE`).
///
/// Since Linux 4.3.
///
/// # Errors
///
/// If not even the first page was mapped: `EEXIST` if it is there, `ENOENT` if no single registered
/// mapping has the range, `EAGAIN` while the process changes its mappings, `ENOMEM`, `ESRCH` if
/// it has ended, `EINVAL` for a range that is unaligned.
///
/// # Safety
///
/// If the memory is this process' own, no Rust object may live in the range.
#[inline]
pub unsafe fn zero(fd: impl AsFd, address: u64, bytes: u64) -> Result<u64, Errno> {
    let mut asked = sys::uffdio_zeropage {
        range: range(address, bytes),
        mode: ZEROPAGE_DONTWAKE,
        zeropage: 0,
    };
    // SAFETY: the struct is the operation's; the caller answers for the range.
    let answer = unsafe { ioctl(fd, number::UFFDIO_ZEROPAGE, &mut asked) };
    done(answer, asked.zeropage)
}

/// Maps copies of what is at `from`, in this process, where pages are missing, and answers how many
/// bytes: fewer than asked for if something was in the way after some (`UFFDIO_COPY`).
///
/// Since Linux 4.3; `write_protected` since 5.7 for anonymous memory and 5.19 for files, where the
/// range is registered for it.
///
/// # Errors
///
/// As [`zero`]; `EFAULT` if `from` cannot be read, `EINVAL` for `write_protected` where the range
/// is not registered for that.
///
/// # Safety
///
/// `from` must be valid for reads of `bytes`. If the memory is this process' own, no Rust object
/// may live in the range.
#[inline]
pub unsafe fn copy(
    fd: impl AsFd,
    address: u64,
    from: *const u8,
    bytes: u64,
    write_protected: bool,
) -> Result<u64, Errno> {
    let mut asked = sys::uffdio_copy {
        dst: address,
        // Exposed: the kernel reads through it.
        src: from.expose_provenance() as u64,
        len: bytes,
        mode: COPY_DONTWAKE | if write_protected { COPY_WP } else { 0 },
        copy: 0,
    };
    // SAFETY: the struct is the operation's; the caller answers for the source and the range.
    let answer = unsafe { ioctl(fd, number::UFFDIO_COPY, &mut asked) };
    done(answer, asked.copy)
}

/// Maps the file's own pages where only the page table lacks them, and answers how many bytes:
/// fewer than asked for if something was in the way after some (`UFFDIO_CONTINUE`).
///
/// Since Linux 5.14 for memory files; `write_protected` since 6.4.
///
/// # Errors
///
/// As [`zero`]; `EFAULT` if the file has no such page, `EINVAL` for `write_protected` on an older
/// kernel or where the range is not registered for that.
///
/// # Safety
///
/// If the memory is this process' own, no Rust object may live in the range.
#[inline]
pub unsafe fn resume(
    fd: impl AsFd,
    address: u64,
    bytes: u64,
    write_protected: bool,
) -> Result<u64, Errno> {
    let mut asked = sys::uffdio_continue {
        range: range(address, bytes),
        mode: CONTINUE_DONTWAKE | if write_protected { CONTINUE_WP } else { 0 },
        mapped: 0,
    };
    // SAFETY: the struct is the operation's; the caller answers for the range.
    let answer = unsafe { ioctl(fd, number::UFFDIO_CONTINUE, &mut asked) };
    done(answer, asked.mapped)
}

/// Makes writes to a range fault, or lets them through again (`UFFDIO_WRITEPROTECT`).
///
/// A page of anonymous memory that is missing stays unprotected.
///
/// Since Linux 5.7; for memory files since 5.19.
///
/// # Errors
///
/// `ENOENT` if some of the range is not registered for it, `EAGAIN` while the process changes its
/// mappings, `ENOMEM`, `ESRCH` if it has ended, `EINVAL` for a range that is unaligned.
///
/// # Safety
///
/// If the memory is this process' own, no Rust object may live in the range.
#[inline]
pub unsafe fn write_protect(
    fd: impl AsFd,
    address: u64,
    bytes: u64,
    on: bool,
) -> Result<(), Errno> {
    let mut asked = sys::uffdio_writeprotect {
        range: range(address, bytes),
        mode: if on {
            WRITEPROTECT_WP
        } else {
            WRITEPROTECT_DONTWAKE
        },
    };
    // SAFETY: the struct is the operation's; the caller answers for the range.
    unsafe { ioctl(fd, number::UFFDIO_WRITEPROTECT, &mut asked) }
}

/// A range as the kernel takes it.
#[inline]
const fn range(address: u64, bytes: u64) -> sys::uffdio_range {
    sys::uffdio_range {
        start: address,
        len: bytes,
    }
}

/// How many bytes a call has filled. Having stopped half-way it fails with `EAGAIN`, and `count` is
/// positive; without any progress it is not.
#[inline]
fn done(answer: Result<(), Errno>, count: i64) -> Result<u64, Errno> {
    match answer {
        Err(errno) if errno != Errno::EAGAIN || count <= 0 => Err(errno),
        _ => Ok(count.cast_unsigned()),
    }
}

/// One `ioctl` on a descriptor.
///
/// # Safety
///
/// `argument` must be the struct of the operation, which must be sound with it.
#[inline]
unsafe fn ioctl<T>(fd: impl AsFd, operation: u32, argument: &mut T) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    let answer = unsafe {
        arch::syscall3(
            nr::IOCTL,
            fd.as_fd().into(),
            operation.into(),
            core::ptr::from_mut(argument).into(),
        )
    };
    answer.done()
}
