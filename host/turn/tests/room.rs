//! A place in which a model checker decides who runs next and which of the legal values a load
//! sees.

use std::sync::atomic::Ordering;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use loom::sync::atomic::{AtomicU32, AtomicU64};
use loom::sync::{Condvar, Mutex};

use super::super::place::Place;

/// What is wrong with one of the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    None,
    /// The host forgets to wake, or its orderings are too weak.
    HostNeverWakes,
    HostPublishesRelaxed,
    HostReadsRelaxed,
    /// The same of the worker.
    WorkerNeverWakes,
    WorkerPublishesRelaxed,
    WorkerReadsRelaxed,
    /// The worker sleeps without having said so.
    WorkerSleepsUnsaid,
    /// The worker says that it sleeps by a plain store, over whatever the host wrote meanwhile.
    WorkerStoresItsBit,
    /// Who wants a guest to stop does not wake the host.
    BellIsSilent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Host,
    Worker,
}

/// Who sleeps on the word, in the order in which the kernel would wake them.
#[derive(Default)]
struct Sleepers {
    queue: Vec<Side>,
    worker_is_dead: bool,
}

/// The turn line, and the kernel's part of it.
pub(super) struct Room {
    pub(super) word: AtomicU32,
    /// Written by the host before an order, and by the worker before an answer.
    pub(super) args: AtomicU64,
    pub(super) value: AtomicU64,
    pub(super) flaw: Flaw,
    /// Where the host runs; the worker runs on CPU 0.
    pub(super) host_cpu: u32,
    begun: Instant,
    sleepers: Mutex<Sleepers>,
    changed: Condvar,
}

impl Room {
    pub(super) fn new(flaw: Flaw, host_cpu: u32) -> Self {
        Self {
            word: AtomicU32::new(0),
            args: AtomicU64::new(0),
            value: AtomicU64::new(0),
            flaw,
            host_cpu,
            begun: Instant::now(),
            sleepers: Mutex::new(Sleepers::default()),
            changed: Condvar::new(),
        }
    }

    /// FUTEX_WAIT without a timeout: compares and lines up in one step, as the kernel does under
    /// its lock.
    ///
    /// The host's real wait has slices, and each would hide a wake-up that was lost. Here all that
    /// the end of a slice is for, the worker's death, ends it.
    pub(super) fn futex_wait(&self, side: Side, expected: u32) {
        let mut sleepers = self.sleepers.lock().unwrap();
        if self.word.load(Relaxed) != expected {
            return;
        }
        sleepers.queue.push(side);
        if sleepers.queue.len() == 2 {
            drop(sleepers);
            panic!("both sides sleep, and nobody is left to wake them");
        }
        while sleepers.queue.contains(&side) && !(side == Side::Host && sleepers.worker_is_dead) {
            sleepers = self.changed.wait(sleepers).unwrap();
        }
        sleepers.queue.retain(|sleeper| *sleeper != side);
    }

    /// FUTEX_WAKE of one.
    pub(super) fn futex_wake(&self) {
        let mut sleepers = self.sleepers.lock().unwrap();
        if !sleepers.queue.is_empty() {
            sleepers.queue.remove(0);
            self.changed.notify_all();
        }
    }

    /// FUTEX_WAKE of all.
    pub(super) fn futex_wake_all(&self) {
        self.sleepers.lock().unwrap().queue.clear();
        self.changed.notify_all();
    }

    /// The kernel ends the worker's process.
    pub(super) fn bury_worker(&self) {
        self.sleepers.lock().unwrap().worker_is_dead = true;
        self.changed.notify_all();
    }

    pub(super) fn worker_is_dead(&self) -> bool {
        self.sleepers.lock().unwrap().worker_is_dead
    }

    fn unless(&self, flaw: Flaw, order: Ordering) -> Ordering {
        if self.flaw == flaw { Relaxed } else { order }
    }
}

/// The host's view.
impl Place for Room {
    fn load(&self, order: Ordering) -> u32 {
        self.word.load(self.unless(Flaw::HostReadsRelaxed, order))
    }

    fn swap(&self, new: u32, order: Ordering) -> u32 {
        let order = self.unless(Flaw::HostPublishesRelaxed, order);
        self.word.swap(new, order)
    }

    fn compare_exchange(
        &self,
        current: u32,
        new: u32,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u32, u32> {
        self.word.compare_exchange(current, new, success, failure)
    }

    fn fetch_and(&self, bits: u32, order: Ordering) -> u32 {
        self.word.fetch_and(bits, order)
    }

    fn sleep(&self, expected: u32, _at_most: Duration) {
        self.futex_wait(Side::Host, expected);
    }

    fn wake(&self) {
        if self.flaw != Flaw::HostNeverWakes {
            self.futex_wake();
        }
    }

    fn wake_all(&self) {
        if self.flaw != Flaw::BellIsSilent {
            self.futex_wake_all();
        }
    }

    fn cpu(&self) -> u32 {
        self.host_cpu
    }

    // Nothing: the other side may run before any of our steps, and the loops are bounded. Loom's
    // own yield would leave out the schedules in which it does not help.
    fn pause(&self) {}
    fn yield_cpu(&self) {}

    /// Time stands still: no deadline passes, and yielding ends by its count.
    fn now(&self) -> Instant {
        self.begun
    }
}
