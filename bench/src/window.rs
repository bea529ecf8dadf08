#![expect(unsafe_code, reason = "maps memory and has the kernel fill it")]
//! Memory that nothing else lives in: mapped, touched, filled by the kernel, unmapped.

use std::ffi::CStr;
use std::ops::Range;
use std::ptr::{NonNull, write_bytes};

use linux_raw::errno::Errno;
use linux_raw::fd::OwnedFd;
use linux_raw::memfd::{self, MemfdFlags};
use linux_raw::mm::{self, Backing, MapFlags, Placement, Prot};
use linux_raw::uffd::{self, Modes};

use crate::measure::Failure;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// A readable and writable mapping, which no Rust object lives in and no reference points to.
pub(crate) struct Window {
    start: NonNull<u8>,
    pages: usize,
}

impl Window {
    /// Maps so many pages. Without swap reserved, so that the kernel joins it with no neighbour,
    /// which could make huge pages of both.
    pub(crate) fn map(pages: usize, backing: Backing<'_>) -> Result<Self, Errno> {
        let (place, prot) = (Placement::Anywhere, Prot::READ | Prot::WRITE);
        // SAFETY: it replaces nothing.
        let start = unsafe { mm::mmap(place, pages * PAGE, prot, backing, MapFlags::NORESERVE) }?;
        Ok(Self { start, pages })
    }

    /// Writes one byte of each page.
    pub(crate) fn touch(&self, pages: Range<usize>) {
        for page in pages {
            let byte = self.page(page);
            // SAFETY: the page is within the mapping, which is writable and ours alone.
            unsafe { byte.write_volatile(1) };
        }
    }

    /// Writes zeroes over the first pages.
    pub(crate) fn clear(&self, pages: usize) {
        assert!(pages <= self.pages, "beyond the window");
        // SAFETY: the pages are within the mapping, which is writable and ours alone.
        unsafe { write_bytes(self.start.as_ptr(), 0, pages * PAGE) };
    }

    /// Has the faults of all of it told.
    pub(crate) fn register(&self, faults: &OwnedFd, modes: Modes) -> Result<(), Errno> {
        let (address, bytes) = self.range(&(0..self.pages));
        // SAFETY: no Rust object lives in the window.
        unsafe { uffd::register(faults, address, bytes, modes) }
    }

    /// Has zeroes mapped (`UFFDIO_ZEROPAGE`).
    pub(crate) fn zero(&self, faults: &OwnedFd, pages: &Range<usize>) -> Result<(), Failure> {
        let (address, bytes) = self.range(pages);
        // SAFETY: no Rust object lives in the window.
        let done = unsafe { uffd::zero(faults, address, bytes) }?;
        whole(done, bytes)
    }

    /// Has the file's own pages mapped (`UFFDIO_CONTINUE`).
    pub(crate) fn resume(&self, faults: &OwnedFd, pages: &Range<usize>) -> Result<(), Failure> {
        let (address, bytes) = self.range(pages);
        // SAFETY: no Rust object lives in the window.
        let done = unsafe { uffd::resume(faults, address, bytes, false) }?;
        whole(done, bytes)
    }

    /// The first byte of a page.
    pub(crate) fn page(&self, page: usize) -> *mut u8 {
        assert!(page < self.pages, "beyond the window");
        // SAFETY: the page is within the mapping.
        unsafe { self.start.as_ptr().add(page * PAGE) }
    }

    /// The address and the length of some pages, in bytes.
    fn range(&self, pages: &Range<usize>) -> (u64, u64) {
        assert!(pages.end <= self.pages, "beyond the window");
        let address = self.start.addr().get() + pages.start * PAGE;
        (address as u64, (pages.len() * PAGE) as u64)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: the window owns the mapping, and no reference into it was ever made.
        let _ = unsafe { mm::munmap(self.start.addr().get(), self.pages * PAGE) };
    }
}

/// A memory file of so many pages, none of which is there yet.
pub(crate) fn file(pages: usize) -> Result<OwnedFd, Errno> {
    const NAME: &CStr = c"cellwall-bench";
    let file = memfd::memfd_create(NAME, MemfdFlags::CLOEXEC)?;
    memfd::ftruncate(&file, (pages * PAGE) as u64)?;
    Ok(file)
}

/// A call that stopped half-way would look fast.
fn whole(done: u64, bytes: u64) -> Result<(), Failure> {
    if done == bytes {
        Ok(())
    } else {
        Err(format!("the kernel filled {done} of {bytes} bytes").into())
    }
}
