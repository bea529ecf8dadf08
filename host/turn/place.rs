//! Where a conversation takes place: the shared word, and what waiting for it needs of the machine.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use linux_raw::time::Timespec;
use linux_raw::{arch, futex, process};

/// All that the host does to the word and all that it asks of the machine.
///
/// The real place is the word itself. The tests have two more: one in which every interleaving
/// happens (`tests/model.rs`), and one that lies before each answer (`hostile/script.rs`).
pub(super) trait Place {
    fn load(&self, order: Ordering) -> u32;
    fn swap(&self, new: u32, order: Ordering) -> u32;
    fn compare_exchange(
        &self,
        current: u32,
        new: u32,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u32, u32>;
    fn fetch_and(&self, bits: u32, order: Ordering) -> u32;
    /// Sleeps while the word is `expected`, until woken, at the most for so long. It may also
    /// return for no reason.
    fn sleep(&self, expected: u32, at_most: Duration);
    /// Wakes one who sleeps on the word.
    fn wake(&self);
    /// Wakes all of them.
    fn wake_all(&self);
    fn cpu(&self) -> u32;
    fn pause(&self);
    fn yield_cpu(&self);
    fn now(&self) -> Instant;
}

impl Place for AtomicU32 {
    #[inline]
    fn load(&self, order: Ordering) -> u32 {
        self.load(order)
    }

    #[inline]
    fn swap(&self, new: u32, order: Ordering) -> u32 {
        self.swap(new, order)
    }

    #[inline]
    fn compare_exchange(
        &self,
        current: u32,
        new: u32,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u32, u32> {
        self.compare_exchange(current, new, success, failure)
    }

    fn fetch_and(&self, bits: u32, order: Ordering) -> u32 {
        self.fetch_and(bits, order)
    }

    fn sleep(&self, expected: u32, at_most: Duration) {
        // AGAIN: the word moved. TIMEDOUT, INTR: look again. All of it is the caller's loop's.
        let _ = futex::wait(self, expected, Some(Timespec::from(at_most)));
    }

    fn wake(&self) {
        // The only error is a bad address, which ours is not.
        let _ = futex::wake(self, 1);
    }

    fn wake_all(&self) {
        let _ = futex::wake(self, u32::MAX >> 1);
    }

    #[inline]
    fn cpu(&self) -> u32 {
        arch::current_cpu()
    }

    #[inline]
    fn pause(&self) {
        arch::pause();
    }

    fn yield_cpu(&self) {
        process::sched_yield();
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}
