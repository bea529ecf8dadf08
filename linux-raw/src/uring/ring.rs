#![expect(unsafe_code, reason = "hands out pointers into the rings' mappings")]
//! A ring: setting it up, mapping it, and taking it down in order.

use core::mem;

use linux_raw_sys::io_uring as sys;
use static_assertions::{assert_impl_all, assert_not_impl_any};

use super::abi::{Features, SetupFlags};
use super::calls;
use super::complete::CompletionQueue;
use super::mapping::{ForkGuard, Mapping};
use super::submit::SubmissionQueue;
use crate::errno::Errno;
use crate::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a ring shall be like.
#[derive(Clone, Copy, Debug)]
#[must_use = "a setup makes no ring until it is built"]
pub struct Setup {
    entries: u32,
    cq_entries: Option<u32>,
    flags: SetupFlags,
    hidden: Features,
}

impl Setup {
    /// A ring for `entries` submissions, 1 to 32768, rounded up to a power of two. There is room
    /// for twice as many completions.
    pub const fn new(entries: u32) -> Self {
        Self {
            entries,
            cq_entries: None,
            flags: SetupFlags::empty(),
            hidden: Features::empty(),
        }
    }

    /// Room for this many completions, rounded up to a power of two; at least as many as
    /// submissions. Since Linux 5.5.
    pub const fn completions(mut self, entries: u32) -> Self {
        self.cq_entries = Some(entries);
        self
    }

    /// Adds `flags`.
    pub const fn flags(mut self, flags: SetupFlags) -> Self {
        self.flags = self.flags.union(flags);
        self
    }

    /// Does not use `features`, as on a kernel that lacks them: to test what happens there.
    pub const fn without(mut self, features: Features) -> Self {
        self.hidden = self.hidden.union(features);
        self
    }

    /// Makes the ring. Since Linux 5.1.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: no entries, too many, or a flag that the kernel (or this module) does not know.
    /// - `ENOSYS`: the kernel has no `io_uring`, or a filter says so.
    /// - `EPERM`: forbidden by the sysctl `kernel.io_uring_disabled` or by a filter.
    /// - `EACCES`: forbidden by a security module.
    /// - `ENOMEM`: no memory, or before Linux 5.12 no locked memory left (`RLIMIT_MEMLOCK`).
    /// - `EMFILE`, `ENFILE`: no descriptor left.
    /// - `EPROTO`: the kernel's answer makes no sense.
    pub fn build(self) -> Result<Ring, Errno> {
        if !SetupFlags::all().contains(self.flags) {
            return Err(Errno::EINVAL);
        }
        // SAFETY: the struct is plain numbers, and the kernel wants unused ones to be zero.
        let mut params: sys::io_uring_params = unsafe { mem::zeroed() };
        params.flags = self.flags.bits();
        if let Some(entries) = self.cq_entries {
            params.cq_entries = entries;
            params.flags |= sys::IORING_SETUP_CQSIZE;
        }
        let fd = calls::setup(self.entries, &mut params)?;
        let features = Features::from_bits_retain(params.features) - self.hidden;
        Ring::map(fd, &params, features, self.flags)
    }
}

/// An `io_uring` instance: a submission queue, a completion queue, and the kernel between them.
///
/// It may move between threads, and belongs to one at a time.
///
/// # Dropping
///
/// Dropping a ring asks the kernel to cancel what is in flight, and does not wait for it: the
/// kernel may use the memory of those operations for an unbounded time afterwards. The promise
/// given to their constructors, valid memory until the completion is reaped, can then never be
/// fulfilled by freeing it. So reap every operation that has memory before the ring is dropped.
///
/// # Forking
///
/// A forked child has no copy of the rings. There, pushing finds the ring full, no completion
/// comes, what enters the kernel fails with `ESTALE`, and dropping closes the child's descriptor
/// alone.
#[derive(Debug)]
pub struct Ring {
    pub(super) sq: SubmissionQueue,
    pub(super) cq: CompletionQueue,
    // Fields drop in this order. The mappings go before the descriptor, so that closing it gives
    // up the last reference and the kernel starts its cancellation there, in `close`.
    maps: Maps,
    fd: OwnedFd,
    pub(super) features: Features,
    pub(super) flags: SetupFlags,
    /// Tells apart the timeouts of [`wait`](super::wait)'s fallback.
    pub(super) timeouts_made: u32,
}

assert_impl_all!(Ring: Send);
assert_not_impl_any!(Ring: Sync, Clone);

// SAFETY: the pointers in the queues are into mappings that the ring alone owns and that are the
// process's, not a thread's; all access is through `&mut`, or atomic.
unsafe impl Send for Ring {}

/// The memory shared with the kernel; the queues point into it.
#[derive(Debug)]
struct Maps {
    entries: Mapping,
    /// Both rings, or the submission ring alone.
    rings: Mapping,
    /// The completion ring, where the kernel has it in a mapping of its own.
    completions: Option<Mapping>,
    guard: ForkGuard,
}

impl Drop for Maps {
    fn drop(&mut self) {
        if self.guard.is_forked() {
            // The fork left these out, and anything may have been mapped there since.
            self.entries.disown();
            self.rings.disown();
            if let Some(completions) = &mut self.completions {
                completions.disown();
            }
        }
    }
}

impl Ring {
    /// A ring for `entries` submissions; see [`Setup`] for more.
    ///
    /// # Errors
    ///
    /// As for [`Setup::build`].
    pub fn new(entries: u32) -> Result<Self, Errno> {
        Setup::new(entries).build()
    }

    fn map(
        fd: OwnedFd,
        params: &sys::io_uring_params,
        features: Features,
        flags: SetupFlags,
    ) -> Result<Self, Errno> {
        let ring = fd.as_fd();
        let sq_bytes = bytes::<u32>(params.sq_off.array, params.sq_entries)?;
        let cq_bytes = bytes::<super::Cqe>(params.cq_off.cqes, params.cq_entries)?;
        let sqe_bytes = bytes::<super::Sqe>(0, params.sq_entries)?;

        let guard = ForkGuard::new()?;
        let single = features.contains(Features::SINGLE_MMAP);
        let ring_bytes = if single {
            sq_bytes.max(cq_bytes)
        } else {
            sq_bytes
        };
        let rings = Mapping::of_ring(ring, sys::IORING_OFF_SQ_RING, ring_bytes)?;
        let completions = if single {
            None
        } else {
            Some(Mapping::of_ring(ring, sys::IORING_OFF_CQ_RING, cq_bytes)?)
        };
        let entries = Mapping::of_ring(ring, sys::IORING_OFF_SQES, sqe_bytes)?;
        let maps = Maps {
            entries,
            rings,
            completions,
            guard,
        };
        // SAFETY: the mappings move into the ring below, where the queues drop before them.
        let sq = unsafe { SubmissionQueue::new(&maps.rings, &maps.entries, params)? };
        let cq_ring = maps.completions.as_ref().unwrap_or(&maps.rings);
        // SAFETY: as above.
        let cq = unsafe { CompletionQueue::new(cq_ring, params)? };
        Ok(Self {
            sq,
            cq,
            maps,
            fd,
            features,
            flags,
            timeouts_made: 0,
        })
    }

    /// What the kernel's rings can do, without what [`Setup::without`] hid.
    #[must_use]
    pub fn features(&self) -> Features {
        self.features
    }

    /// How many entries the submission queue holds.
    #[must_use]
    pub fn entries(&self) -> u32 {
        self.sq.entries()
    }

    /// How many entries the completion queue holds.
    #[must_use]
    pub fn completion_entries(&self) -> u32 {
        self.cq.entries()
    }

    /// Whether this process was forked from the one that made the ring, and cannot use it.
    #[must_use]
    pub fn is_forked(&self) -> bool {
        self.maps.guard.is_forked()
    }

    /// # Errors
    ///
    /// `ESTALE` in a process that was forked from the ring's.
    pub(super) fn owned(&self) -> Result<(), Errno> {
        if self.is_forked() {
            return Err(Errno::ESTALE);
        }
        Ok(())
    }
}

/// The ring's descriptor, which polls as readable while completions are ready.
impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// How long a mapping must be to hold `count` values of type `T`, `offset` bytes in.
fn bytes<T>(offset: u32, count: u32) -> Result<usize, Errno> {
    let offset = usize::try_from(offset).ok();
    let values = usize::try_from(count)
        .ok()
        .and_then(|count| count.checked_mul(size_of::<T>()));
    offset
        .zip(values)
        .and_then(|(offset, values)| offset.checked_add(values))
        .ok_or(Errno::EPROTO)
}
