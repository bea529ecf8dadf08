#![expect(
    unsafe_code,
    reason = "writes entries into memory that the kernel reads"
)]
//! The submission queue, and handing it to the kernel.

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use linux_raw_sys::io_uring::io_uring_params;

use super::abi::{EnterFlags, SetupFlags, SqFlags, Sqe};
use super::calls;
use super::mapping::{Mapping, Word};
use super::ring::Ring;
use crate::errno::Errno;
use crate::fd::AsFd;
use crate::time::Timespec;

/// The submission queue is full; the entry comes back.
///
/// Submit, and push again.
#[must_use = "the entry in it has not been pushed"]
pub struct Full(pub Sqe);

impl fmt::Debug for Full {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Full")
    }
}

impl fmt::Display for Full {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the submission queue is full")
    }
}

impl core::error::Error for Full {}

/// Our end of the submission ring.
///
/// Indices count up for ever and wrap at 2^32; a slot is an index's low bits. There is no kernel
/// thread that polls this ring (`SetupFlags` has no such flag), so the kernel reads the tail and
/// the entries only inside `io_uring_enter`.
#[derive(Debug)]
pub(super) struct SubmissionQueue {
    /// Written by the kernel: entries before it have been taken.
    head: Word,
    /// Written by us: entries before it may be taken.
    shared_tail: Word,
    /// Written by the kernel.
    flags: Word,
    slots: NonNull<Sqe>,
    /// A power of two.
    entries: u32,
    /// What `shared_tail` says; nobody else writes it.
    tail: u32,
}

impl SubmissionQueue {
    /// # Safety
    ///
    /// The queue must not be used once either mapping is dropped, and must be the only one of
    /// this ring.
    pub(super) unsafe fn new(
        ring: &Mapping,
        slots: &Mapping,
        params: &io_uring_params,
    ) -> Result<Self, Errno> {
        let entries = params.sq_entries;
        if !entries.is_power_of_two() {
            return Err(Errno::EPROTO);
        }
        // The index array lets entries be submitted out of order; here slot n is always entry n.
        let indices = ring.place::<u32>(params.sq_off.array, entries)?;
        let entries_usize = usize::try_from(entries).map_err(|_| Errno::EPROTO)?;
        for (at, index) in (0..entries_usize).zip(0..entries) {
            // SAFETY: `at` is below the number of indices that `place` found room for.
            let place = unsafe { indices.add(at) };
            // SAFETY: the place is in the mapping, and the kernel reads it only in an enter call.
            unsafe { place.write(index) };
        }
        // SAFETY: the caller promises that the queue goes before the mapping.
        let head = unsafe { ring.word(params.sq_off.head)? };
        // SAFETY: as above.
        let shared_tail = unsafe { ring.word(params.sq_off.tail)? };
        // SAFETY: as above.
        let flags = unsafe { ring.word(params.sq_off.flags)? };
        Ok(Self {
            head,
            shared_tail,
            flags,
            slots: slots.place(0, entries)?,
            entries,
            tail: shared_tail.load(Ordering::Relaxed), // ours: nobody to pair with
        })
    }

    pub(super) fn entries(&self) -> u32 {
        self.entries
    }

    /// How many entries have been pushed and not yet taken by the kernel.
    pub(super) fn pending(&self) -> u32 {
        // Acquire pairs with the kernel's release store of the head in `io_commit_sqring`, which
        // follows its copies of the entries: a slot that looks free has been read.
        let head = self.head.load(Ordering::Acquire);
        self.tail.wrapping_sub(head)
    }

    pub(super) fn push(&mut self, sqe: Sqe) -> Result<(), Full> {
        if self.pending() >= self.entries {
            return Err(Full(sqe));
        }
        let slot = self.tail & (self.entries - 1);
        let Ok(slot) = usize::try_from(slot) else {
            return Err(Full(sqe));
        };
        // SAFETY: the mask keeps the slot below the number of entries mapped.
        let place = unsafe { self.slots.add(slot) };
        // SAFETY: the place is mapped, and the kernel is done with it (see `pending`).
        unsafe { place.write(sqe) };
        self.set_tail(self.tail.wrapping_add(1));
        Ok(())
    }

    /// Takes back every entry that the kernel has not taken, and says how many there were.
    pub(super) fn rewind(&mut self) -> u32 {
        let pending = self.pending();
        self.set_tail(self.tail.wrapping_sub(pending));
        pending
    }

    fn set_tail(&mut self, tail: u32) {
        self.tail = tail;
        // Release pairs with the kernel's acquire load of the tail in `io_sqring_entries`: who
        // sees the new tail sees the entries before it.
        self.shared_tail.store(tail, Ordering::Release);
    }

    pub(super) fn flags(&self) -> SqFlags {
        // Relaxed: the bits are hints to enter the kernel, and carry no data with them.
        SqFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }
}

impl Ring {
    /// Puts an entry into the submission queue. The kernel sees it when it is submitted.
    ///
    /// # Errors
    ///
    /// [`Full`] with the entry, if no slot is free.
    pub fn push(&mut self, sqe: Sqe) -> Result<(), Full> {
        if self.is_forked() {
            return Err(Full(sqe));
        }
        self.sq.push(sqe)
    }

    /// How many entries can be pushed before the next submission.
    #[must_use]
    pub fn free_entries(&self) -> u32 {
        if self.is_forked() {
            return 0;
        }
        self.sq.entries().saturating_sub(self.sq.pending())
    }

    /// How many entries are pushed and not submitted.
    #[must_use]
    pub fn unsubmitted(&self) -> u32 {
        if self.is_forked() {
            return 0;
        }
        self.sq.pending()
    }

    /// Gives up every entry that is pushed and not submitted: the kernel never sees them. Says how
    /// many there were.
    pub fn discard_unsubmitted(&mut self) -> u32 {
        if self.is_forked() {
            return 0;
        }
        self.sq.rewind()
    }

    /// Hands the pushed entries to the kernel, without waiting, in one call; says how many it took.
    ///
    /// It takes fewer if one of them was refused, which then has a completion that says why; the
    /// rest stays pushed. Completions that overflowed are brought in where there is room.
    ///
    /// # Errors
    ///
    /// None of the entries was taken then, and all stay pushed.
    ///
    /// - `EAGAIN`: no memory for requests; reap completions or wait, then try again.
    /// - `EBUSY`: too many completions overflowed; reap them, then try again.
    /// - `EEXIST`: another thread is the ring's single issuer.
    /// - `ESTALE`: this process was forked from the ring's.
    /// - others, `EPERM` above all, if a filter forbids the call by now.
    pub fn submit(&mut self) -> Result<u32, Errno> {
        self.owned()?;
        loop {
            match self.enter(0, None) {
                // A signal came before anything was taken. It is handled by now, and the next
                // attempt does not wait for anything.
                Err(Errno::EINTR) => {}
                other => return other,
            }
        }
    }

    /// One `io_uring_enter` with everything that is pushed.
    pub(super) fn enter(
        &mut self,
        wait_for: u32,
        timeout: Option<&Timespec>,
    ) -> Result<u32, Errno> {
        let submit = self.sq.pending();
        let mut flags = EnterFlags::empty();
        let in_kernel = SqFlags::CQ_OVERFLOW | SqFlags::TASKRUN;
        if wait_for > 0
            || timeout.is_some()
            || self.sq.flags().intersects(in_kernel)
            || self.flags.contains(SetupFlags::DEFER_TASKRUN)
        {
            flags |= EnterFlags::GETEVENTS;
        }
        if submit == 0 && flags.is_empty() {
            return Ok(0);
        }
        let ring = self.as_fd();
        match timeout {
            // SAFETY: each entry was made by a constructor of `op`, whose caller promised that
            // what it points to is valid until its completion is reaped.
            None => unsafe { calls::enter(ring, submit, wait_for, flags) },
            // SAFETY: as above.
            Some(time) => unsafe { calls::enter_timed(ring, submit, wait_for, flags, time) },
        }
    }
}

#[cfg(test)]
mod tests {
    use core::mem::MaybeUninit;
    use core::ptr::NonNull;
    use core::sync::atomic::{AtomicU32, Ordering};

    use super::{Full, Sqe, SubmissionQueue, Word};
    use crate::uring::op;

    /// A queue of four whose indices start at `start`, in memory of the test's, run with what
    /// stands for the kernel's head.
    fn with_queue(start: u32, test: impl FnOnce(&mut SubmissionQueue, &AtomicU32)) {
        let words = [start, start, 0].map(AtomicU32::new);
        let mut slots = [const { MaybeUninit::<Sqe>::uninit() }; 4];
        let [head, tail, flags] = words.each_ref().map(|word| {
            // SAFETY: the words outlive the queue, and are accessed atomically alone.
            unsafe { Word::new(NonNull::from(word)) }
        });
        let mut queue = SubmissionQueue {
            head,
            shared_tail: tail,
            flags,
            slots: NonNull::from(&mut slots).cast(),
            entries: 4,
            tail: start,
        };
        test(&mut queue, &words[0]);
        assert_eq!(words[1].load(Ordering::Relaxed), queue.tail);
    }

    #[test]
    fn indices_wrap_around() {
        for start in [0, u32::MAX - 5, u32::MAX - 2, u32::MAX] {
            with_queue(start, |queue, head| {
                let slots = queue.slots;
                for number in 0..100_u32 {
                    assert_eq!(queue.pending(), number.min(4));
                    if number >= 4 {
                        let entry = op::nop().with_user_data(number.into());
                        assert!(matches!(queue.push(entry), Err(Full(_))));
                        head.fetch_add(1, Ordering::Relaxed);
                    }
                    queue.push(op::nop().with_user_data(number.into())).unwrap();
                    // The kernel looks at the slot that the index's low bits name.
                    let slot = usize::try_from(start.wrapping_add(number) % 4).unwrap();
                    // SAFETY: the slot is one of four.
                    let place = unsafe { slots.add(slot) };
                    // SAFETY: the slot was written just now.
                    let entry = unsafe { place.as_ref() };
                    assert_eq!(entry.user_data, u64::from(number));
                }
            });
        }
    }

    #[test]
    fn rewinding_stops_at_what_was_taken() {
        with_queue(u32::MAX - 1, |queue, head| {
            for _ in 0..4 {
                queue.push(op::nop()).unwrap();
            }
            head.fetch_add(1, Ordering::Relaxed);
            assert_eq!(queue.rewind(), 3);
            assert_eq!((queue.pending(), queue.tail), (0, u32::MAX));
            assert_eq!(queue.rewind(), 0);
        });
    }
}
