//! Waiting for the turn to come back: spin, yield, sleep.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use linux_raw::fd::BorrowedFd;
use linux_raw::io::{self, PollFd, PollFlags};
use linux_raw::time::Timespec;
use vmctx::{Forged, State, StateWord};

use super::place::Place;
use super::record::Record;

/// How long a host yields at the most, and how long it then sleeps without a look at whether the
/// worker lives. A dead worker is noticed within two of these, whatever it did to the words.
const SLICE: Duration = Duration::from_millis(5);

/// How hard to try before sleeping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) spin_iterations: u32,
    pub(crate) yields: u32,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The worker gave the turn back, legally.
    Turn(State),
    /// The deadline passed.
    Deadline,
    /// The worker is dead and left no turn behind.
    Dead,
}

impl Record {
    /// Waits until the worker gives the turn back, dies, or the deadline passes.
    pub(super) fn wait(
        &mut self,
        place: &impl Place,
        is_dead: impl Fn() -> bool,
        deadline: Option<Instant>,
    ) -> Result<Waited, Forged> {
        // A worker that last ran on this very CPU waits for us to let go of it.
        if self.worker_cpu != Some(place.cpu()) {
            for _ in 0..self.patience.spin_iterations {
                if let Some(state) = self.look(place)? {
                    return Ok(Waited::Turn(state));
                }
                place.pause();
            }
        }
        // Where CPUs are short, each yield can take a time slice, and nobody looks at the worker's
        // life meanwhile: so yielding ends by the clock too.
        let enough = place.now() + SLICE;
        for _ in 0..self.patience.yields {
            if let Some(state) = self.look(place)? {
                return Ok(Waited::Turn(state));
            }
            let now = place.now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(Waited::Deadline);
            }
            if enough <= now {
                break;
            }
            place.yield_cpu();
        }
        self.sleep(place, is_dead, deadline)
    }

    /// Sleeps in slices. Every round looks at the word, the deadline and the worker's life, so that
    /// no lie about the sleep bits can keep it.
    fn sleep(
        &mut self,
        place: &impl Place,
        is_dead: impl Fn() -> bool,
        deadline: Option<Instant>,
    ) -> Result<Waited, Forged> {
        loop {
            if let Some(state) = self.look(place)? {
                return Ok(Waited::Turn(state));
            }
            let slice = deadline.map_or(SLICE, |deadline| {
                deadline.saturating_duration_since(place.now()).min(SLICE)
            });
            if slice.is_zero() {
                return Ok(Waited::Deadline);
            }
            let asleep = self.ordered | StateWord::HOST_SLEEPS;
            // Relaxed: nothing is read for it, and the next look loads again. The worker's exchange
            // either comes first, and this fails, or returns the bit, and it wakes us.
            let said = place.compare_exchange(self.ordered, asleep, Relaxed, Relaxed);
            if said.is_ok() || said == Err(asleep) {
                place.sleep(asleep, slice);
            }
            if is_dead() {
                return Ok(self.look(place)?.map_or(Waited::Dead, Waited::Turn));
            }
        }
    }
}

/// Whether the process behind a pidfd has ended: then it is readable (pidfd_open(2)).
pub(crate) fn is_dead(worker: BorrowedFd<'_>) -> bool {
    let mut poll = [PollFd::new(worker, PollFlags::IN)];
    matches!(io::poll(&mut poll, Some(Timespec::from_nanos(0))), Ok(1))
}
