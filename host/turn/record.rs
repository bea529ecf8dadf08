//! The host's own record of whose turn it is, and what it believes of the shared word.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use vmctx::{Forged, State, StateWord};

use super::place::Place;
use super::spin::Spinning;
use super::wait::Patience;

/// What the host knows without asking: `state` is what it believes, the shared state word is only
/// what the worker claims.
pub(super) struct Record {
    pub(super) state: State,
    /// The state word as the host last wrote it: while the worker has the turn, it may not change
    /// but by a new state.
    pub(super) ordered: u32,
    /// The state word as the worker gave the turn back, without the sleep bits.
    seen: StateWord,
    /// Where the host runs, as it last found on its slow way, and where the worker says it does.
    cpu: u32,
    worker_cpu: Option<u32>,
    pub(super) spinning: Spinning,
}

/// A CPU number that no word has room for: not known yet.
const NOWHERE: u32 = u32::MAX;

impl Record {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            state: State::Boot,
            ordered: 0,
            seen: StateWord::from_raw(0),
            cpu: NOWHERE,
            worker_cpu: None,
            spinning: Spinning::new(patience),
        }
    }

    /// Whether host and worker are on one CPU, as far as both know.
    #[inline]
    pub(super) fn shares_cpu(&self) -> bool {
        self.worker_cpu == Some(self.cpu)
    }

    /// The host may be on another CPU now.
    pub(super) fn moved(&mut self, place: &impl Place) {
        self.cpu = place.cpu();
    }

    /// Gives the turn to the worker, with what `write` puts into the turn line.
    ///
    /// Fails if the worker changed the word while the turn was the host's: all that it may do
    /// then is to say that it sleeps.
    #[inline]
    pub(super) fn publish(
        &mut self,
        place: &impl Place,
        order: State,
        write: impl FnOnce(),
    ) -> Result<(), Forged> {
        debug_assert!(
            order.may_follow(self.state),
            "{order:?} after {:?}",
            self.state
        );
        let word = StateWord::publish(order, self.cpu).raw();
        self.state = order;
        self.ordered = word;
        // Last: the worker reads the line all the time, and what it takes away before the exchange
        // has to be fetched again.
        write();
        // Release pairs with the worker's load of the state in `zygote/src/trampoline.rs`: it
        // sees the answer or the entry. Acquire pairs with the worker's `cmpxchg` of its sleep bit.
        let old = StateWord::from_raw(place.swap(word, AcqRel));
        if old.awake() != self.seen {
            return Err(Forged {
                word: "state",
                value: old.raw().into(),
            });
        }
        self.worker_cpu = old.cpu_hint();
        self.spinning.worker_slept(old.worker_sleeps());
        if old.worker_sleeps() {
            place.wake();
        }
        Ok(())
    }

    /// Whether the worker has left the word alone since it gave the turn back, but for its sleep
    /// bit.
    pub(super) fn check_left(&self, place: &impl Place) -> Result<(), Forged> {
        // Acquire: as in `look`.
        let word = StateWord::from_raw(place.load(Acquire));
        if word.awake() == self.seen {
            return Ok(());
        }
        Err(Forged {
            word: "state",
            value: word.raw().into(),
        })
    }

    /// Whether the word is another than it was left.
    pub(super) fn has_come_back(&self, place: &impl Place) -> bool {
        place.load(Relaxed) != self.ordered
    }

    /// One look at the word: the new state, nothing yet, or a forgery.
    #[inline]
    pub(super) fn look(&mut self, place: &impl Place) -> Result<Option<State>, Forged> {
        // Acquire pairs with the worker's exchange: what it wrote before is visible.
        let word = StateWord::from_raw(place.load(Acquire));
        if word.raw() & !StateWord::HOST_SLEEPS == self.ordered {
            return Ok(None);
        }
        self.seen = word.awake();
        let state = word.alleged_state().check_state(self.state)?;
        self.state = state;
        Ok(Some(state))
    }
}
