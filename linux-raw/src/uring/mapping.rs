#![expect(
    unsafe_code,
    reason = "maps the memory that the kernel and the ring share"
)]
//! Memory shared with the kernel: a mapping, the words in it, and who may touch it after a fork.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::errno::Errno;
use crate::fd::BorrowedFd;
use crate::mm::{self, Advice, Backing, MapFlags, Placement, Prot};

/// A mapping that is unmapped on drop.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u8>,
    /// Zero once the mapping has been given up.
    bytes: usize,
}

impl Mapping {
    /// Maps `bytes` of a ring from `offset`, one of `IORING_OFF_*`; a forked child has no copy.
    pub(super) fn of_ring(ring: BorrowedFd<'_>, offset: u32, bytes: usize) -> Result<Self, Errno> {
        let backing = Backing::Shared {
            fd: ring,
            offset: offset.into(),
        };
        let mapping = Self::new(backing, bytes, MapFlags::POPULATE)?;
        mapping.advise(Advice::DontFork)?;
        Ok(mapping)
    }

    /// Maps `bytes` of private memory that reads as zeros in a forked child.
    fn wiped_on_fork(bytes: usize) -> Result<Self, Errno> {
        let mapping = Self::new(Backing::Anonymous, bytes, MapFlags::empty())?;
        mapping.advise(Advice::WipeOnFork)?;
        Ok(mapping)
    }

    fn new(backing: Backing<'_>, bytes: usize, flags: MapFlags) -> Result<Self, Errno> {
        let prot = Prot::READ | Prot::WRITE;
        // SAFETY: the kernel chooses addresses that nothing is mapped at.
        let base = unsafe { mm::mmap(Placement::Anywhere, bytes, prot, backing, flags)? };
        Ok(Self { base, bytes })
    }

    fn advise(&self, advice: Advice) -> Result<(), Errno> {
        // SAFETY: both kinds of advice used here say what a fork does with the mapping, which is
        // ours alone; neither drops what is in it.
        unsafe { mm::madvise(self.address(), self.bytes, advice) }
    }

    fn address(&self) -> usize {
        self.base.as_ptr().addr()
    }

    /// The place of `count` values of type `T`, `offset` bytes in.
    ///
    /// # Errors
    ///
    /// `EPROTO` if the kernel named a place that is not in the mapping or not aligned.
    pub(super) fn place<T>(&self, offset: u32, count: u32) -> Result<NonNull<T>, Errno> {
        let misfit = Errno::EPROTO;
        let offset = usize::try_from(offset).map_err(|_| misfit)?;
        let count = usize::try_from(count).map_err(|_| misfit)?;
        let bytes = count.checked_mul(size_of::<T>()).ok_or(misfit)?;
        let end = offset.checked_add(bytes).ok_or(misfit)?;
        if end > self.bytes || offset % align_of::<T>() != 0 {
            return Err(misfit);
        }
        // SAFETY: the offset is inside the mapping, as just checked.
        let place = unsafe { self.base.add(offset) };
        Ok(place.cast())
    }

    /// The word `offset` bytes in.
    ///
    /// # Safety
    ///
    /// The word must not be used once the mapping is dropped.
    pub(super) unsafe fn word(&self, offset: u32) -> Result<Word, Errno> {
        let place = self.place(offset, 1)?;
        // SAFETY: the place is aligned and mapped; the caller promises for how long. The kernel
        // writes to it atomically, as others do that hold the same word.
        Ok(unsafe { Word::new(place) })
    }

    /// Gives the mapping up without unmapping it.
    pub(super) fn disown(&mut self) {
        self.bytes = 0;
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        // SAFETY: the range was mapped by `new` and is unmapped nowhere else; whoever made a
        // pointer into it promised not to use it from here on.
        let unmapped = unsafe { mm::munmap(self.address(), self.bytes) };
        // A range that was mapped whole and is unmapped whole splits nothing: this cannot fail.
        debug_assert!(unmapped.is_ok(), "munmap of a ring");
    }
}

/// A 32-bit word that the kernel may read or write at the same time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word(NonNull<AtomicU32>);

impl Word {
    /// # Safety
    ///
    /// `place` must be valid for as long as this value or a copy of it is used, and accessed
    /// atomically alone meanwhile.
    pub(super) unsafe fn new(place: NonNull<AtomicU32>) -> Self {
        Self(place)
    }

    #[inline]
    pub(super) fn load(self, ordering: Ordering) -> u32 {
        // SAFETY: whoever made this word promised that the place stays valid.
        let word = unsafe { self.0.as_ref() };
        word.load(ordering)
    }

    #[inline]
    pub(super) fn store(self, value: u32, ordering: Ordering) {
        // SAFETY: whoever made this word promised that the place stays valid.
        let word = unsafe { self.0.as_ref() };
        word.store(value, ordering);
    }
}

/// Tells whether this process made the ring, or was forked from the one that did.
///
/// One page that a fork wipes: asking costs a load. A child that shares its parent's memory
/// shares the page as well, and the ring with it.
#[derive(Debug)]
pub(super) struct ForkGuard {
    mark: Word,
    _page: Mapping,
}

/// What the guard's page holds where the ring was made; a wiped page holds zero.
const OWNER: u32 = 1;

/// Any page size is at least this, and the kernel maps whole pages.
const GUARD_BYTES: usize = 4096;

impl ForkGuard {
    pub(super) fn new() -> Result<Self, Errno> {
        let page = Mapping::wiped_on_fork(GUARD_BYTES)?;
        // SAFETY: the page is dropped with the guard, the word's only user.
        let mark = unsafe { page.word(0)? };
        mark.store(OWNER, Ordering::Relaxed);
        Ok(Self { mark, _page: page })
    }

    /// Whether this process was forked from the one that made the ring.
    #[inline]
    pub(super) fn is_forked(&self) -> bool {
        // Relaxed: the word changes only by being another process's.
        self.mark.load(Ordering::Relaxed) != OWNER
    }
}
