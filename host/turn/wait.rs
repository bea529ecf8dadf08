//! Waiting for the turn to come back: spin while that pays, yield, sleep.

use std::mem;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    pub(crate) spin_iterations: u32,
    pub(crate) yields: u32,
    /// How often a host yields while a worker wakes up that it had to wake: sleeping meanwhile
    /// would take as long again.
    pub(crate) waking: u32,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The worker gave the turn back, legally.
    Turn(State),
    /// The deadline passed.
    Deadline,
    /// Somebody wants the guest to stop.
    Asked,
    /// The worker is dead and left no turn behind.
    Dead,
}

/// What the host looks at while it waits, beside the word.
pub(crate) trait Watch {
    /// Whether the worker is dead.
    fn is_dead(&self) -> bool;
    /// Whether somebody wants the guest to stop. Acquire, or stronger.
    fn is_asked(&self) -> bool;
}

/// A worker whom nobody wants to stop but by its deadline.
pub(crate) struct Alone<'a>(pub(crate) BorrowedFd<'a>);

impl Watch for Alone<'_> {
    fn is_dead(&self) -> bool {
        is_dead(self.0)
    }

    fn is_asked(&self) -> bool {
        false
    }
}

impl Record {
    /// Waits until the worker gives the turn back, dies, the guest is to stop, or the deadline
    /// passes.
    pub(super) fn wait(
        &mut self,
        place: &impl Place,
        watch: &impl Watch,
        deadline: Option<Instant>,
    ) -> Result<Waited, Forged> {
        match self.spin(place)? {
            Some(state) => Ok(Waited::Turn(state)),
            None => self.wait_long(place, watch, deadline),
        }
    }

    /// Waits as long as it is worth it, and looks at nothing but the word.
    #[inline]
    pub(super) fn spin(&mut self, place: &impl Place) -> Result<Option<State>, Forged> {
        // A worker that last ran on this very CPU waits for us to let go of it.
        if self.shares_cpu() {
            return Ok(None);
        }
        let budget = self.spinning.budget();
        if budget == 0 {
            return Ok(None);
        }
        for _ in 0..self.spinning.pace.pauses() {
            place.pause();
        }
        for looks in 0..budget {
            if let Some(state) = self.look(place)? {
                self.spinning.paid();
                self.spinning.pace.came_after(looks);
                return Ok(Some(state));
            }
            place.pause();
        }
        Ok(None)
    }

    /// Waits on, once spinning was in vain: yields, then sleeps.
    #[cold]
    pub(super) fn wait_long(
        &mut self,
        place: &impl Place,
        watch: &impl Watch,
        deadline: Option<Instant>,
    ) -> Result<Waited, Forged> {
        let mut now = place.now();
        // Where CPUs are short, each yield can take a time slice, and nobody looks at the worker's
        // life meanwhile: so yielding ends by the clock too.
        let begun = now;
        let enough = now + SLICE;
        let mut yields = self.spinning.host_yields();
        let (mut yielded, mut slept) = (Duration::ZERO, None);
        let waited = loop {
            if let Some(state) = self.look(place)? {
                break Waited::Turn(state);
            }
            if deadline.is_some_and(|deadline| deadline <= now) {
                break Waited::Deadline;
            }
            if watch.is_asked() {
                break Waited::Asked;
            }
            if self.spinning.yielded(yielded) {
                yields = 0;
            }
            if yields == 0 || enough <= now {
                let waited = self.sleep(place, watch, deadline)?;
                slept = Some(now);
                now = place.now();
                break waited;
            }
            yields -= 1;
            place.yield_cpu();
            let before = mem::replace(&mut now, place.now());
            yielded = now.saturating_duration_since(before);
        };
        self.moved(place);
        let since = |then: Instant| then.saturating_duration_since(begun);
        self.spinning
            .came_late(since(slept.unwrap_or(now)), since(now));
        Ok(waited)
    }

    /// Sleeps in slices. Every round looks at the word, the deadline and the worker's life, so that
    /// no lie about the sleep bits can keep it.
    pub(super) fn sleep(
        &mut self,
        place: &impl Place,
        watch: &impl Watch,
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
            // The worker's exchange either comes first, and this fails, or returns the bit, and it
            // wakes us. Acquire pairs with `wake_host`, likewise: who takes the bit back before
            // this has asked before it, and is seen here; who does it later changes the word that
            // we would sleep on, and wakes us.
            let said = place.compare_exchange(self.ordered, asleep, Acquire, Relaxed);
            if watch.is_asked() {
                return Ok(Waited::Asked);
            }
            if said.is_ok() || said == Err(asleep) {
                place.sleep(asleep, slice);
            }
            if watch.is_dead() {
                return Ok(self.look(place)?.map_or(Waited::Dead, Waited::Turn));
            }
        }
    }
}

/// Wakes a host that sleeps on the word, from another thread of its own, so that it looks around.
/// What it is to see is written before. Nothing happens if the turn is the host's.
pub(crate) fn wake_host(place: &impl Place) {
    // Release pairs with the host's exchange in `sleep`.
    let old = place.fetch_and(!StateWord::HOST_SLEEPS, Release);
    if StateWord::from_raw(old).host_sleeps() {
        place.wake_all();
    }
}

/// Whether the process behind a pidfd has ended: then it is readable (pidfd_open(2)).
pub(crate) fn is_dead(worker: BorrowedFd<'_>) -> bool {
    let mut poll = [PollFd::new(worker, PollFlags::IN)];
    matches!(io::poll(&mut poll, Some(Timespec::from_nanos(0))), Ok(1))
}
