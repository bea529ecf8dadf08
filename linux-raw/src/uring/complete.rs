#![expect(
    unsafe_code,
    reason = "reads completions from memory that the kernel writes"
)]
//! The completion queue.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use linux_raw_sys::io_uring::io_uring_params;

use super::abi::{Cqe, Features, RESERVED_USER_DATA, SqFlags};
use super::mapping::{Mapping, Word};
use super::ring::Ring;
use crate::errno::Errno;

/// Our end of the completion ring; indices are as in the submission ring.
#[derive(Debug)]
pub(super) struct CompletionQueue {
    /// Written by us: completions before it have been reaped.
    shared_head: Word,
    /// Written by the kernel: completions before it are there.
    tail: Word,
    /// Written by the kernel: how many were dropped for want of room.
    dropped: Word,
    slots: NonNull<Cqe>,
    /// A power of two.
    entries: u32,
    /// What `shared_head` says; nobody else writes it.
    head: u32,
}

impl CompletionQueue {
    /// # Safety
    ///
    /// The queue must not be used once the mapping is dropped, and must be the only one of this
    /// ring.
    pub(super) unsafe fn new(ring: &Mapping, params: &io_uring_params) -> Result<Self, Errno> {
        let entries = params.cq_entries;
        if !entries.is_power_of_two() {
            return Err(Errno::EPROTO);
        }
        // SAFETY: the caller promises that the queue goes before the mapping.
        let shared_head = unsafe { ring.word(params.cq_off.head)? };
        // SAFETY: as above.
        let tail = unsafe { ring.word(params.cq_off.tail)? };
        // SAFETY: as above.
        let dropped = unsafe { ring.word(params.cq_off.overflow)? };
        Ok(Self {
            shared_head,
            tail,
            dropped,
            slots: ring.place(params.cq_off.cqes, entries)?,
            entries,
            head: shared_head.load(Ordering::Relaxed), // ours: nobody to pair with
        })
    }

    pub(super) fn entries(&self) -> u32 {
        self.entries
    }

    /// How many completions are there, the ring's own included.
    pub(super) fn ready(&self) -> u32 {
        self.tail().wrapping_sub(self.head)
    }

    fn tail(&self) -> u32 {
        // Acquire pairs with the kernel's release store of the tail in `io_commit_cqring`: who
        // sees the new tail sees the completions before it.
        self.tail.load(Ordering::Acquire)
    }

    /// The completion at `index`, which must lie between the head and the tail.
    fn read(&self, index: u32) -> Cqe {
        let slot = index & (self.entries - 1);
        // SAFETY: the mask keeps the slot below the number of completions mapped, and a u32 fits
        // a usize on every architecture that `arch` supports.
        let place = unsafe { self.slots.add(slot as usize) };
        // SAFETY: the place is mapped; the kernel wrote it before the tail passed the index and
        // leaves it alone until the head has.
        unsafe { place.read() }
    }

    /// The completions that are there, left where they are.
    pub(super) fn peek(&self) -> impl Iterator<Item = Cqe> + '_ {
        (0..self.ready()).map(|ahead| self.read(self.head.wrapping_add(ahead)))
    }

    /// Reaps the completion at the head, if the head is not at `end`.
    fn reap(&mut self, end: u32) -> Option<Cqe> {
        if self.head == end {
            return None;
        }
        let cqe = self.read(self.head);
        self.head = self.head.wrapping_add(1);
        // Release pairs with the kernel's read of the head in `io_cqe_cache_refill`, on which its
        // reuse of the slot depends: it must not write before we have read.
        self.shared_head.store(self.head, Ordering::Release);
        Some(cqe)
    }
}

/// The completions that were ready when the iterator was made, reaped one by one.
///
/// Never more than the queue holds. A completion is reaped when it is returned; those not asked
/// for stay.
#[derive(Debug)]
pub struct Completions<'ring> {
    queue: &'ring mut CompletionQueue,
    end: u32,
    hide_reserved: bool,
}

impl Iterator for Completions<'_> {
    type Item = Cqe;

    fn next(&mut self) -> Option<Cqe> {
        loop {
            let cqe = self.queue.reap(self.end)?;
            if !(self.hide_reserved && cqe.user_data() >= RESERVED_USER_DATA) {
                return Some(cqe);
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.end.wrapping_sub(self.queue.head)).ok();
        (0, left)
    }
}

impl Ring {
    /// Reaps the completions that are ready, without a system call.
    ///
    /// When it is through, [`overflowed`](Self::overflowed) tells whether the kernel keeps more.
    pub fn completions(&mut self) -> Completions<'_> {
        let end = if self.is_forked() {
            self.cq.head
        } else {
            self.cq.tail()
        };
        Completions {
            end,
            hide_reserved: !self.features.contains(Features::EXT_ARG),
            queue: &mut self.cq,
        }
    }

    /// How many completions are ready, without a system call.
    #[must_use]
    pub fn ready(&self) -> u32 {
        if self.is_forked() {
            return 0;
        }
        if self.features.contains(Features::EXT_ARG) {
            return self.cq.ready();
        }
        let own = |cqe: &Cqe| cqe.user_data() < RESERVED_USER_DATA;
        // No more than a queue's entries, which are counted in 32 bits.
        u32::try_from(self.cq.peek().filter(own).count()).unwrap_or(u32::MAX)
    }

    /// Whether the kernel keeps completions that found the queue full. Any submission or wait
    /// brings them in, as far as there is room. Since Linux 5.8.
    #[must_use]
    pub fn overflowed(&self) -> bool {
        !self.is_forked() && self.sq.flags().contains(SqFlags::CQ_OVERFLOW)
    }

    /// How many completions the kernel has dropped: without [`Features::NODROP`] those that found
    /// the queue full, otherwise those that it had no memory to keep.
    #[must_use]
    pub fn dropped(&self) -> u32 {
        if self.is_forked() {
            return 0;
        }
        // Relaxed: a count that carries no data with it.
        self.cq.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use core::ptr::NonNull;
    use core::sync::atomic::{AtomicU32, Ordering};

    use super::{CompletionQueue, Completions, Cqe, RESERVED_USER_DATA, Word};

    #[test]
    fn indices_wrap_around() {
        for start in [0, u32::MAX - 5, u32::MAX - 2, u32::MAX] {
            let words = [start, start, 0].map(AtomicU32::new);
            let [shared_head, tail, dropped] = words.each_ref().map(|word| {
                // SAFETY: the words outlive the queue, and are accessed atomically alone.
                unsafe { Word::new(NonNull::from(word)) }
            });
            let mut slots = [Cqe::of(0); 4];
            let slots: NonNull<Cqe> = NonNull::from(&mut slots).cast();
            let mut queue = CompletionQueue {
                shared_head,
                tail,
                dropped,
                slots,
                entries: 4,
                head: start,
            };
            for round in 0..50 {
                let batch = round % 5;
                for number in 0..batch {
                    let index = words[1].load(Ordering::Relaxed);
                    let slot = usize::try_from(index % 4).unwrap();
                    // SAFETY: the slot is one of four.
                    let place = unsafe { slots.add(slot) };
                    // Every second one is the ring's own.
                    let own = if number % 2 == 1 {
                        RESERVED_USER_DATA
                    } else {
                        0
                    };
                    // SAFETY: the array is the test's, and the queue reads it only when asked.
                    unsafe { place.write(Cqe::of(number | own)) };
                    words[1].fetch_add(1, Ordering::Release);
                }
                assert_eq!(u64::from(queue.ready()), batch);
                assert_eq!(queue.peek().count(), usize::try_from(batch).unwrap());
                let seen = Completions {
                    end: queue.tail(),
                    queue: &mut queue,
                    hide_reserved: true,
                };
                assert!(seen.map(|cqe| cqe.user_data()).eq((0..batch).step_by(2)));
                assert_eq!(queue.ready(), 0);
                let [head, tail, _] = words.each_ref().map(|word| word.load(Ordering::Relaxed));
                assert_eq!(head, tail);
            }
        }
    }
}
