//! The host's own record of whose turn it is, and what it believes of the shared word.

use std::sync::atomic::Ordering::{AcqRel, Acquire};

use vmctx::{Forged, State, StateWord};

use super::place::Place;
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
    /// The CPU that the worker last claimed to run on.
    pub(super) worker_cpu: Option<u32>,
    pub(super) patience: Patience,
}

impl Record {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            state: State::Boot,
            ordered: 0,
            seen: StateWord::from_raw(0),
            worker_cpu: None,
            patience,
        }
    }

    /// Gives the turn to the worker.
    ///
    /// Fails if the worker changed the word while the turn was the host's: all that it may do
    /// then is to say that it sleeps.
    pub(super) fn publish(&mut self, place: &impl Place, order: State) -> Result<(), Forged> {
        debug_assert!(
            order.may_follow(self.state),
            "{order:?} after {:?}",
            self.state
        );
        let word = StateWord::publish(order, place.cpu()).raw();
        self.state = order;
        self.ordered = word;
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

    /// One look at the word: the new state, nothing yet, or a forgery.
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
