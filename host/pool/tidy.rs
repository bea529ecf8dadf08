//! The pool's thread: cleans workers that nobody has wanted again at once, and makes spare ones.

use std::mem;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::idle::{As, Since};
use super::{Shared, State};
use crate::core::Core;
use crate::metrics::Kill;
use crate::module::Module;
use crate::start::{self, Started};

/// How long a worker lies dirty at least, so that whoever makes and drops instances of one module
/// all the time cleans it himself: it is in his CPU's cache.
const REST: Duration = Duration::from_millis(1);

/// How long no spare is made after one could not be.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

enum Task {
    Clean(Box<Started>, Since),
    Spare(Module),
}

pub(super) fn tidy(shared: &Arc<Shared>, core: &Core) {
    crate::reactor::block_signals();
    // Set here alone, once.
    let _ = shared.thread.set(thread::current().id());
    let mut rest = REST;
    while let Some(task) = next(shared, mem::replace(&mut rest, REST)) {
        match task {
            Task::Clean(mut started, since) => {
                let span = tracing::debug_span!("clean").entered();
                let cleaned = started.clean(core);
                drop(span);
                let state = come(shared);
                match cleaned {
                    Ok(()) => shared.keep(core, state, started, As::Cleaned(since)),
                    Err(error) => shared.end(core, state, started, Kill::by(&error)),
                }
            }
            Task::Spare(module) => {
                let started = start::start(core, &module, None);
                let mut state = come(shared);
                match started {
                    Ok(started) => shared.keep(core, state, Box::new(started), As::Clean),
                    Err(error) => {
                        state.gone += 1;
                        shared.one_less(&mut state);
                        drop(state);
                        tracing::debug!(%error, "no spare worker");
                        rest = AFTER_FAILURE;
                    }
                }
            }
        }
    }
}

/// What was worked on is no longer.
fn come(shared: &Shared) -> MutexGuard<'_, State> {
    let mut state = shared.state();
    state.at_work = false;
    state
}

/// What there is to do, after a rest; nothing once the pool is closed.
fn next(shared: &Shared, rest: Duration) -> Option<Task> {
    let mut state = shared.state();
    let mut rested = false;
    while !state.closed {
        if !shared.has_work(&state) {
            state.sleeps = true;
            let woken = shared.work.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
            state.sleeps = false;
            continue;
        }
        if !mem::replace(&mut rested, true) {
            let woken = shared.work.wait_timeout(state, rest);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        if let Some((started, since)) = state.idle.take_dirty() {
            state.at_work = true;
            return Some(Task::Clean(started, since));
        }
        if let Some(module) = state.wanted.clone() {
            state.workers += 1;
            state.at_work = true;
            return Some(Task::Spare(module));
        }
    }
    None
}
