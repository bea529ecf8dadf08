#![expect(unsafe_code, reason = "maps memory")]
//! Mapping, protecting and advising memory.
//!
//! Addresses are plain numbers here: most callers lay out an address space that no Rust object
//! lives in. A mapping's pointer comes from the kernel with its provenance exposed.

use core::ptr::{NonNull, with_exposed_provenance_mut};

use bitflags::bitflags;
use linux_raw_sys::general as sys;

use crate::arch;
use crate::arg::Arg;
use crate::errno::Errno;
use crate::fd::BorrowedFd;
use crate::nr;

/// Has a process' `pagemap` name pages of some kind (`ioctl`, `struct pm_scan_arg`). Since Linux
/// 6.7.
pub const PAGEMAP_SCAN: u32 = 0xc060_6610;

bitflags! {
    /// What may be done with a page.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Prot: u32 {
        /// Nothing: no bit at all.
        const NONE = sys::PROT_NONE;
        /// Reading.
        const READ = sys::PROT_READ;
        /// Writing.
        const WRITE = sys::PROT_WRITE;
        /// Executing.
        const EXEC = sys::PROT_EXEC;
    }
}

bitflags! {
    /// What else [`mmap`] does. Sharing, placement and backing have types of their own.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct MapFlags: u32 {
        /// Reserves no swap for it.
        const NORESERVE = sys::MAP_NORESERVE;
        /// Fills the page tables at once.
        const POPULATE = sys::MAP_POPULATE;
    }
}

/// Where a mapping goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// Wherever there is room.
    Anywhere,
    /// There, replacing what is in the way.
    Fixed(usize),
    /// There, or `EEXIST`. Since Linux 4.17; older kernels take it as a hint, which is answered
    /// with `EEXIST` here after undoing it.
    FixedNoReplace(usize),
}

/// What a mapping shows.
#[derive(Clone, Copy, Debug)]
pub enum Backing<'fd> {
    /// Zeroes, for this process and the copies of it.
    Anonymous,
    /// Zeroes, shared with children.
    SharedAnonymous,
    /// The file itself from `offset`, a multiple of the page size.
    Shared {
        /// The file.
        fd: BorrowedFd<'fd>,
        /// Where in it, in bytes.
        offset: u64,
    },
}

impl Backing<'_> {
    /// The flag bits, the descriptor and the offset.
    fn parts(self) -> (u32, Arg, u64) {
        const NO_FD: i32 = -1;
        match self {
            Self::Anonymous => (sys::MAP_PRIVATE | sys::MAP_ANONYMOUS, NO_FD.into(), 0),
            Self::SharedAnonymous => (sys::MAP_SHARED | sys::MAP_ANONYMOUS, NO_FD.into(), 0),
            Self::Shared { fd, offset } => (sys::MAP_SHARED, fd.into(), offset),
        }
    }
}

impl Placement {
    /// The flag bits and the address.
    const fn parts(self) -> (u32, usize) {
        match self {
            Self::Anywhere => (0, 0),
            Self::Fixed(address) => (sys::MAP_FIXED, address),
            Self::FixedNoReplace(address) => (sys::MAP_FIXED_NOREPLACE, address),
        }
    }
}

/// Maps `bytes` of memory, rounded up to pages.
///
/// Since Linux 1.0.
///
/// # Errors
///
/// `EINVAL` for an address or offset that is not a multiple of the page size, zero bytes, or a
/// mapping at address zero; `EEXIST` for [`Placement::FixedNoReplace`] over something; `ENOMEM`,
/// also when there are too many mappings; `EACCES` for a file not opened for it; `EPERM` for what a
/// seal or memory-deny-write-execute forbids.
///
/// # Safety
///
/// With [`Placement::Fixed`], nothing may live in the range or rely on what was mapped there.
pub unsafe fn mmap(
    placement: Placement,
    bytes: usize,
    prot: Prot,
    backing: Backing<'_>,
    flags: MapFlags,
) -> Result<NonNull<u8>, Errno> {
    let (place_bits, address) = placement.parts();
    let (backing_bits, fd, offset) = backing.parts();
    // SAFETY: a new mapping replaces nothing unless it is `Fixed`, which the caller answers for.
    let answer = unsafe {
        arch::syscall6(
            nr::MMAP,
            address.into(),
            bytes.into(),
            prot.bits().into(),
            (place_bits | backing_bits | flags.bits()).into(),
            fd,
            offset.into(),
        )
    };
    let mapped = answer.value()?;
    let misplaced = matches!(placement, Placement::FixedNoReplace(_)) && mapped != address;
    match NonNull::new(with_exposed_provenance_mut(mapped)) {
        Some(pointer) if !misplaced => Ok(pointer),
        // Address zero, or a kernel that does not know FixedNoReplace: neither is any use.
        _ => {
            // SAFETY: the mapping was made above and nobody has its address.
            let _ = unsafe { munmap(mapped, bytes) };
            Err(if misplaced {
                Errno::EEXIST
            } else {
                Errno::EINVAL
            })
        }
    }
}

/// Lets go of locked pages in the range: they may be paged, and untouched ones stay away.
///
/// Since Linux 2.0.
///
/// # Errors
///
/// `ENOMEM` where nothing is mapped, or when splitting a mapping makes too many.
///
/// # Safety
///
/// Nothing in the range may rely on being locked.
pub unsafe fn munlock(address: usize, bytes: usize) -> Result<(), Errno> {
    // SAFETY: contents and protection stay; the caller answers for the rest.
    let answer = unsafe { arch::syscall2(nr::MUNLOCK, address.into(), bytes.into()) };
    answer.done()
}

/// Removes every mapping in the range.
///
/// Since Linux 1.0.
///
/// # Errors
///
/// `EINVAL` for an address that is not a multiple of the page size, `ENOMEM` when splitting a
/// mapping makes too many, `EPERM` over a sealed one.
///
/// # Safety
///
/// Nothing may live in the range.
pub unsafe fn munmap(address: usize, bytes: usize) -> Result<(), Errno> {
    // SAFETY: the range is free to go, by contract.
    let answer = unsafe { arch::syscall2(nr::MUNMAP, address.into(), bytes.into()) };
    answer.done()
}

/// Changes what may be done with the pages of the range.
///
/// Since Linux 1.0.
///
/// # Errors
///
/// `EACCES` for a file not opened for it or memory-deny-write-execute, `ENOMEM` for a range that
/// is not all mapped, `EPERM` over a sealed one, `EINVAL` for an unaligned address.
///
/// # Safety
///
/// What lives in the range must be usable with the new protection.
pub unsafe fn mprotect(address: usize, bytes: usize, prot: Prot) -> Result<(), Errno> {
    // SAFETY: the caller answers for what lives there.
    let answer = unsafe {
        arch::syscall3(
            nr::MPROTECT,
            address.into(),
            bytes.into(),
            prot.bits().into(),
        )
    };
    answer.done()
}

/// What [`madvise`] says about a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Advice {
    /// Children do not get it.
    DontFork = sys::MADV_DONTFORK,
    /// Children get zeroes. Since Linux 4.14.
    WipeOnFork = sys::MADV_WIPEONFORK,
    /// Not in core dumps.
    DontDump = sys::MADV_DONTDUMP,
}

/// Advises the kernel about a range.
///
/// Since Linux 2.4; some advice is younger.
///
/// # Errors
///
/// `EINVAL` for advice the kernel does not know or the mapping cannot take, `ENOMEM` for a range
/// that is not all mapped, `EPERM` over a sealed one.
///
/// # Safety
///
/// Nothing in a child may rely on contents that the advice wipes.
pub unsafe fn madvise(address: usize, bytes: usize, advice: Advice) -> Result<(), Errno> {
    // SAFETY: the caller answers for the contents.
    let answer = unsafe {
        arch::syscall3(
            nr::MADVISE,
            address.into(),
            bytes.into(),
            (advice as u32).into(),
        )
    };
    answer.done()
}

/// Makes the mappings of the range final: they cannot be unmapped, moved, replaced or given
/// another protection until the process ends or execs.
///
/// Since Linux 6.10, on 64-bit kernels.
///
/// # Errors
///
/// `ENOMEM` for a range that is not all mapped, `EINVAL` for an unaligned address, `ENOSYS` on an
/// older kernel.
pub fn mseal(address: usize, bytes: usize) -> Result<(), Errno> {
    // SAFETY: takes abilities away and changes no memory.
    let answer = unsafe { arch::syscall3(nr::MSEAL, address.into(), bytes.into(), Arg::NULL) };
    answer.done()
}
