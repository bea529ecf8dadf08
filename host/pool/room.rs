//! Room for whoever needs it: workers that nobody has give way, for their memory or descriptors.
//!
//! The one that could give way may be in no list just now, since the thread has it in its hands or
//! somebody ends it. It is waited for, with a bound: whoever waits may have dropped it himself, and
//! all that is needed may be what it holds.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use super::{Shared, State};
use crate::core::Core;
use crate::deadline::time_left;
use crate::metrics::Kill;

impl Shared {
    /// Ends the worker that has waited for longest, for somebody who needs descriptors, and waits
    /// until one is gone. If there is none, one may be coming: it is waited for. False if nothing
    /// is gone since `gone`.
    pub(super) fn make_way(
        self: &Arc<Self>,
        core: &Core,
        gone: &mut u64,
        until: Option<Instant>,
    ) -> bool {
        let mut state = self.state();
        let mut has_ended = false;
        loop {
            if !has_ended && let Some(oldest) = state.idle.take_oldest() {
                has_ended = true;
                *gone = state.gone;
                self.end(core, state, oldest, Kill::Dropped);
                state = self.state();
            }
            if state.gone != *gone {
                *gone = state.gone;
                return true;
            }
            if state.coming() == 0 {
                return false;
            }
            state = match self.wait_for_room(state, until) {
                Some(state) => state,
                None => return false,
            };
        }
    }

    /// Ends workers, first those that have waited for longest, until `take` has got the memory that
    /// it needs, or nobody is left who could give way. The one that the thread has in its hands is
    /// waited for.
    ///
    /// `take` is tried under the lock: what it fails for is in use then, and not on its way from
    /// one hand to another.
    pub(super) fn give_way(self: &Arc<Self>, core: &Core, take: &mut dyn FnMut() -> bool) {
        // A spare worker is not made at the cost of one that is there; and the thread does not wait
        // for itself.
        if self.thread.get() == Some(&thread::current().id()) {
            return;
        }
        let mut until = None;
        let mut state = self.state();
        while !take() {
            if let Some(oldest) = state.idle.take_oldest() {
                self.end(core, state, oldest, Kill::Dropped);
                state = self.state();
                continue;
            }
            if !state.at_work {
                return;
            }
            let until = *until.get_or_insert_with(|| at_the_latest(core));
            state = match self.wait_for_room(state, until) {
                Some(state) => state,
                None => return,
            };
        }
    }

    /// Waits until workers may hold less than before; `None` if it is too late for that.
    fn wait_for_room<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        until: Option<Instant>,
    ) -> Option<MutexGuard<'a, State>> {
        let left = time_left(until);
        if left.is_zero() {
            return None;
        }
        state.short += 1;
        let woken = self.room.wait_timeout(state, left);
        state = woken.unwrap_or_else(PoisonError::into_inner).0;
        state.short -= 1;
        Some(state)
    }
}

/// How long a caller waits for what the thread, or the engine's, has in its hands: both wait for no
/// longer than for a start.
pub(super) fn at_the_latest(core: &Core) -> Option<Instant> {
    Instant::now().checked_add(core.config.start_timeout)
}
