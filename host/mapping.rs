#![expect(
    unsafe_code,
    reason = "maps memory and copies to and from what others write"
)]
//! Shared mappings of the host, and copies to and from them.
//!
//! A hostile worker may write such memory at any moment. So no `&[u8]` is ever made of it: bulk
//! data is copied by assembly, which the compiler cannot reason about, and words are atomics.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use linux_raw::fd::AsFd;
use linux_raw::mm::{self, Advice, Backing, MapFlags, Placement, Prot};

use crate::error::{Error, KernelResult, Stage};
use crate::lineage::Lineage;

/// A shared mapping of a whole descriptor, unmapped on drop.
///
/// A child that the host forks does not have it (`MADV_DONTFORK`): whoever may be in such a child
/// asks the lineage before a touch.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
    lineage: Arc<Lineage>,
}

/// How a mapping may be used by the host.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    ReadOnly,
    ReadWrite,
}

// SAFETY: a mapping is an address range that this value owns; all accesses go through copies in
// assembly or atomics, which are sound from any thread.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `bytes` bytes of `fd`.
    ///
    /// The mapping is left out of core dumps and of forked children: it holds a guest's memory.
    pub(crate) fn new(
        fd: &impl AsFd,
        bytes: u64,
        sharing: Sharing,
        stage: Stage,
        lineage: &Arc<Lineage>,
    ) -> Result<Self, Error> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let prot = match sharing {
            Sharing::ReadOnly => Prot::READ,
            Sharing::ReadWrite => Prot::READ | Prot::WRITE,
        };
        let backing = Backing::Shared {
            fd: fd.as_fd(),
            offset: 0,
        };
        // Under mlockall(MCL_FUTURE) the kernel would fill the whole mapping at once, 4 GiB of it
        // for a guest's memory: so it begins without access, is unlocked, and is opened then.
        // SAFETY: the kernel chooses a free place, so nothing of ours is replaced.
        let start = unsafe {
            mm::mmap(
                Placement::Anywhere,
                bytes,
                Prot::NONE,
                backing,
                MapFlags::NORESERVE,
            )
        }
        .at(stage, "mmap")?;
        let mapping = Self {
            start,
            bytes,
            lineage: Arc::clone(lineage),
        };
        // SAFETY: the range is the mapping that was just made.
        unsafe { mm::munlock(start.addr().get(), bytes) }.at(stage, "munlock")?;
        // SAFETY: the range is the mapping that was just made.
        unsafe { mm::mprotect(start.addr().get(), bytes, prot) }.at(stage, "mprotect")?;
        for advice in [Advice::DontDump, Advice::DontFork] {
            // SAFETY: the range is the mapping that was just made.
            unsafe { mm::madvise(start.addr().get(), bytes, advice) }.at(stage, "madvise")?;
        }
        Ok(mapping)
    }

    /// Whether this process made it; a forked child does not have it.
    pub(crate) fn is_ours(&self) -> bool {
        self.lineage.is_ours()
    }

    /// How many bytes it has.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Whose it is.
    pub(crate) fn lineage(&self) -> &Arc<Lineage> {
        &self.lineage
    }

    /// The first byte.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Copies out `into.len()` bytes from `offset` on. Panics if they are not all inside: callers
    /// have checked.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) {
        let from = self.inside(offset, into.len());
        // SAFETY: `inside` has checked the source range, which stays mapped while `self` is
        // borrowed; `into` is ours alone.
        unsafe { copy(into.as_mut_ptr(), from.as_ptr(), into.len()) }
    }

    /// Copies in `from` at `offset`. Panics if it does not all fit: callers have checked. The
    /// mapping must be writable.
    pub(crate) fn write(&self, offset: u64, from: &[u8]) {
        let into = self.inside(offset, from.len());
        // SAFETY: `inside` has checked the destination range, which stays mapped while `self` is
        // borrowed; a concurrent writer can only spoil the guest's own bytes.
        unsafe { copy(into.as_ptr(), from.as_ptr(), from.len()) }
    }

    /// Copies `length` bytes from `other` at `from` to `offset`.
    pub(crate) fn copy_from(&self, offset: u64, other: &Self, from: u64, length: u64) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let from = other.inside(from, length);
        let into = self.inside(offset, length);
        // SAFETY: `inside` has checked both ranges; two mappings do not overlap.
        unsafe { copy(into.as_ptr(), from.as_ptr(), length) }
    }

    /// Fills `length` bytes from `offset` on with zeros. The mapping must be writable.
    pub(crate) fn zero(&self, offset: u64, length: u64) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let into = self.inside(offset, length);
        // SAFETY: `inside` has checked the range, which stays mapped while `self` is borrowed.
        unsafe { fill_with_zeros(into.as_ptr(), length) }
    }

    /// The page at `offset`, for the kernel to copy from. Panics if it is not all inside.
    pub(crate) fn page(&self, offset: u64) -> MappedPage<'_> {
        MappedPage {
            start: self.inside(offset, MappedPage::BYTES),
            _mapping: PhantomData,
        }
    }

    /// The address of `length` bytes at `offset`.
    fn inside(&self, offset: u64, length: usize) -> NonNull<u8> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let fits = offset
            .checked_add(length)
            .is_some_and(|end| end <= self.bytes);
        assert!(
            fits,
            "{length} bytes at {offset:#x} of a mapping of {:#x}",
            self.bytes
        );
        // SAFETY: the offset is within the mapping, as has just been asserted.
        unsafe { self.start.add(offset) }
    }
}

/// A page of a mapping, which stays mapped while this lives.
pub(crate) struct MappedPage<'a> {
    start: NonNull<u8>,
    _mapping: PhantomData<&'a Mapping>,
}

impl MappedPage<'_> {
    /// How many bytes are mapped there.
    pub(crate) const BYTES: usize = 4096;

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if !self.is_ours() {
            return; // a forked child has no such mapping, and perhaps another one there
        }
        // SAFETY: the range is ours, and whoever borrowed from it is gone.
        let result = unsafe { mm::munmap(self.start.addr().get(), self.bytes) };
        debug_assert!(result.is_ok(), "munmap of an own mapping: {result:?}");
    }
}

/// From how many bytes on a string instruction is faster than a loop.
const STRING_BYTES: usize = 512;

/// Copies bytes that somebody else may be writing: whatever mixture of old and new arrives, each
/// byte is read once.
///
/// # Safety
///
/// Both ranges are mapped, and `into` is writable and overlaps no Rust object that is borrowed.
#[inline]
unsafe fn copy(into: *mut u8, from: *const u8, length: usize) {
    if length < STRING_BYTES {
        // SAFETY: the caller vouches for both ranges.
        unsafe { copy_few(into, from, length) }
    } else {
        // SAFETY: the caller vouches for both ranges; the string instruction touches nothing else.
        unsafe {
            core::arch::asm!(
                "rep movsb",
                inout("rcx") length => _,
                inout("rdi") into => _,
                inout("rsi") from => _,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// The same for few bytes: a string instruction takes longer to begin.
///
/// # Safety
///
/// As for `copy`.
#[inline]
unsafe fn copy_few(into: *mut u8, from: *const u8, length: usize) {
    // SAFETY: the caller vouches for both ranges; 16, 8 and 1 bytes at a time, never more than are
    // left.
    unsafe {
        core::arch::asm!(
            "cmp {left}, 16",
            "jb 3f",
            "2:",
            "movups {chunk}, xmmword ptr [{from}]",
            "movups xmmword ptr [{into}], {chunk}",
            "add {from}, 16",
            "add {into}, 16",
            "sub {left}, 16",
            "cmp {left}, 16",
            "jae 2b",
            "3:",
            "cmp {left}, 8",
            "jb 4f",
            "mov {word}, qword ptr [{from}]",
            "mov qword ptr [{into}], {word}",
            "add {from}, 8",
            "add {into}, 8",
            "sub {left}, 8",
            "4:",
            "test {left}, {left}",
            "jz 6f",
            "5:",
            "mov {word:l}, byte ptr [{from}]",
            "mov byte ptr [{into}], {word:l}",
            "inc {from}",
            "inc {into}",
            "dec {left}",
            "jnz 5b",
            "6:",
            left = inout(reg) length => _,
            from = inout(reg) from => _,
            into = inout(reg) into => _,
            word = out(reg) _,
            chunk = out(xmm_reg) _,
            options(nostack),
        );
    }
}

/// # Safety
///
/// The range is mapped, writable, and overlaps no Rust object that is borrowed.
unsafe fn fill_with_zeros(into: *mut u8, length: usize) {
    // SAFETY: the caller vouches for the range; the string instruction touches nothing else.
    unsafe {
        core::arch::asm!(
            "rep stosb",
            inout("rcx") length => _,
            inout("rdi") into => _,
            in("al") 0_u8,
            options(nostack, preserves_flags),
        );
    }
}
