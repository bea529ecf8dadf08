#![expect(unsafe_code, reason = "maps a page that a fork wipes")]
//! Whether this process is the one that made the engine, or a child that it forked.
//!
//! A forked child has copies of the descriptors and mappings, but the workers are not its own: it
//! must neither run nor kill them. Asking for the process number would cost a system call at each
//! turn, so it is a page that the kernel wipes in a child (`MADV_WIPEONFORK`, since Linux 4.14).

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use linux_raw::mm::{self, Advice, Backing, MapFlags, Placement, Prot};

use crate::error::{Error, KernelResult, Stage};

const PAGE_BYTES: usize = 4096;
/// What the page says where it was made. A wiped one says 0.
const HERE: u32 = 1;

/// The page, unmapped on drop.
pub(crate) struct Lineage(NonNull<AtomicU32>);

// SAFETY: it is an address range that this value owns, used through an atomic alone.
unsafe impl Send for Lineage {}
// SAFETY: as above.
unsafe impl Sync for Lineage {}

impl Lineage {
    pub(crate) fn new() -> Result<Self, Error> {
        let prot = Prot::READ | Prot::WRITE;
        let (anywhere, none) = (Placement::Anywhere, MapFlags::empty());
        // SAFETY: the kernel chooses a free place, so nothing of ours is replaced.
        let page = unsafe { mm::mmap(anywhere, PAGE_BYTES, prot, Backing::Anonymous, none) }
            .at(Stage::Engine, "mmap")?;
        let lineage = Self(page.cast());
        // SAFETY: the range is the page that was just mapped.
        unsafe { mm::madvise(page.addr().get(), PAGE_BYTES, Advice::WipeOnFork) }
            .at(Stage::Engine, "madvise")?;
        lineage.word().store(HERE, Relaxed);
        Ok(lineage)
    }

    /// Whether this process made it.
    pub(crate) fn is_ours(&self) -> bool {
        self.word().load(Relaxed) == HERE
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: the page is mapped while `self` lives, and page-aligned.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Lineage {
    fn drop(&mut self) {
        // SAFETY: the page is ours, also in a forked child, which has a copy of it.
        let result = unsafe { mm::munmap(self.0.addr().get(), PAGE_BYTES) };
        debug_assert!(result.is_ok(), "munmap of an own mapping: {result:?}");
    }
}
