#![expect(unsafe_code, reason = "changes the memory of another process")]
//! The worker's userfaultfd: by it the host decides what is in guest memory.
//!
//! It is registered for absent pages, for pages that are in the memory file but not in the worker's
//! page table, and for writes to protected ones. With `UFFD_FEATURE_SIGBUS` such a touch is a
//! signal to the worker, which reports it as it does any fault: nobody ever reads this descriptor.

use std::ops::Range;
use std::ptr::NonNull;

use linux_raw::Errno;
use linux_raw::fd::OwnedFd;
use linux_raw::uffd::{self, Features, Modes};
use vmctx::PAGE_BYTES;

use crate::error::{Error, KernelResult as _, Misuse, Stage};
use crate::mapping::MappedPage;

/// What guest memory cannot do without. All of them since Linux 5.19.
pub(crate) const NEEDED_FEATURES: Features = Features::WRITE_PROTECT
    .union(Features::MISSING_SHMEM)
    .union(Features::SIGBUS)
    .union(Features::MINOR_SHMEM)
    .union(Features::WRITE_PROTECT_SHMEM);

/// How often a call is made again that did nothing for now.
const ATTEMPTS: u32 = 100;

/// Pages as the kernel takes them: in bytes.
fn bytes_of(pages: &Range<u32>) -> (u64, u64) {
    let length = u64::from(pages.end.saturating_sub(pages.start)) * PAGE_BYTES;
    (u64::from(pages.start) * PAGE_BYTES, length)
}

/// The door to one worker's page table.
pub(super) struct Paging(OwnedFd);

/// What this kernel offers this process for paging, if that is enough.
///
/// # Errors
///
/// `EINVAL` if it lacks something; before that, those of userfaultfd(2).
pub(crate) fn offered() -> Result<Features, Errno> {
    uffd::enable(uffd::userfaultfd()?, NEEDED_FEATURES)
}

impl Paging {
    /// By the descriptor that a worker has made.
    pub(super) fn new(faults: OwnedFd) -> Result<Self, Error> {
        uffd::enable(&faults, NEEDED_FEATURES).at(Stage::Start, "UFFDIO_API")?;
        Ok(Self(faults))
    }

    /// From now on a touch of these pages comes to the host, unless they are in the worker's page
    /// table.
    pub(super) fn watch(&self, pages: &Range<u32>) -> Result<(), Error> {
        let (address, length) = bytes_of(pages);
        let modes = Modes::MISSING | Modes::MINOR | Modes::WRITE_PROTECT;
        // SAFETY: the addresses are a worker's, in which no object of ours is.
        let done = unsafe { uffd::register(&self.0, address, length, modes) };
        named("UFFDIO_REGISTER", done)
    }

    /// From now on the kernel fills these pages by itself, and no protection holds.
    pub(super) fn release(&self, pages: &Range<u32>) -> Result<(), Error> {
        let (address, length) = bytes_of(pages);
        // SAFETY: as in `watch`.
        let done = unsafe { uffd::unregister(&self.0, address, length) };
        named("UFFDIO_UNREGISTER", done)
    }

    /// Puts zero pages where none are.
    pub(super) fn zero(&self, pages: &Range<u32>) -> Result<(), Errno> {
        each_part(pages, |address, length, _| {
            // SAFETY: as in `watch`.
            unsafe { uffd::zero(&self.0, address, length) }
        })
    }

    /// Puts pages where none are, with what is at `from`.
    ///
    /// # Safety
    ///
    /// As many bytes as the pages have are mapped from `from` on.
    pub(super) unsafe fn copy(
        &self,
        pages: &Range<u32>,
        from: NonNull<u8>,
        protected: bool,
    ) -> Result<(), Errno> {
        each_part(pages, |address, length, done| {
            // SAFETY: no more is done than there is, so the sum is within what the caller vouches
            // for.
            let from = unsafe { from.add(done) };
            // SAFETY: as in `watch`; the caller vouches for the source.
            unsafe { uffd::copy(&self.0, address, from.as_ptr(), length, protected) }
        })
    }

    /// The same with a slice, which is as long as the pages.
    pub(super) fn copy_from_slice(
        &self,
        pages: &Range<u32>,
        from: &[u8],
        protected: bool,
    ) -> Result<(), Errno> {
        if bytes_of(pages).1 != from.len() as u64 {
            return Err(Errno::EINVAL);
        }
        // SAFETY: the slice is as long as the pages, as has just been checked.
        unsafe { self.copy(pages, NonNull::from(from).cast(), protected) }
    }

    /// The same with one page of a mapping of ours.
    pub(super) fn copy_page(
        &self,
        page: u32,
        from: &MappedPage<'_>,
        protected: bool,
    ) -> Result<(), Errno> {
        // SAFETY: a mapped page is one page long.
        unsafe { self.copy(&(page..page + 1), from.start(), protected) }
    }

    /// Lets the worker have pages that are in the memory file. Protected only since Linux 6.4:
    /// `EINVAL` before.
    pub(super) fn resume(&self, pages: &Range<u32>, protected: bool) -> Result<(), Errno> {
        each_part(pages, |address, length, _| {
            // SAFETY: as in `watch`.
            unsafe { uffd::resume(&self.0, address, length, protected) }
        })
    }

    /// Protects pages in the worker's page table against writes, or lets it write them.
    pub(super) fn protect(&self, pages: &Range<u32>, on: bool) -> Result<(), Errno> {
        let (address, length) = bytes_of(pages);
        for _ in 0..ATTEMPTS {
            // SAFETY: as in `watch`.
            match unsafe { uffd::write_protect(&self.0, address, length, on) } {
                Err(Errno::EAGAIN) => {}
                done => return done,
            }
        }
        Err(Errno::EAGAIN)
    }
}

/// Goes on where the kernel stopped half-way, and gives up where it does nothing any more.
fn each_part(
    pages: &Range<u32>,
    part: impl Fn(u64, u64, usize) -> Result<u64, Errno>,
) -> Result<(), Errno> {
    let (address, length) = bytes_of(pages);
    let (mut done, mut idle) = (0, 0);
    while done < length {
        let so_far = usize::try_from(done).unwrap_or(usize::MAX);
        match part(address + done, length - done, so_far) {
            Ok(bytes) if bytes > 0 => (done, idle) = (done + bytes, 0),
            Ok(_) | Err(Errno::EAGAIN) if idle < ATTEMPTS => idle += 1,
            Ok(_) => return Err(Errno::EAGAIN),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The error of a call on a worker's memory: with the worker, its memory is gone.
pub(super) fn named(call: &'static str, done: Result<(), Errno>) -> Result<(), Error> {
    match done {
        Err(Errno::ESRCH) => Err(Error::misuse(Stage::Memory, Misuse::Over)),
        done => done.at(Stage::Memory, call),
    }
}
