//! Workers that are kept for instances to come.
//!
//! | file | what |
//! |---|---|
//! | `config` | what an embedder may choose |
//! | `idle` | those without an instance |
//! | `room` | who gives way to somebody that needs what a worker holds |
//! | `tidy` | the thread that cleans them and makes spare ones |
//!
//! A worker whose instance is dropped is only put down: whoever wants the next instance of its
//! module at once cleans it, and otherwise the pool's thread does a moment later.

mod config;
mod idle;
mod room;
mod tidy;

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

pub use self::config::PoolConfig;
use self::idle::{As, Idle, Keep};
use crate::core::Core;
use crate::deadline::time_left;
use crate::error::{Error, Misuse, Stage, errno_of};
use crate::metrics::Kill;
use crate::module::Module;
use crate::start::{self, Started};

/// How many workers that nobody has are ended for one that is started while descriptors are short.
/// One makes room for one as a rule; a start without the nursery takes more than a worker keeps.
const GIVE_WAY_MAX: usize = 8;

/// The pool of an engine, and its thread, which ends when this is closed.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread has, too.
struct Shared {
    config: PoolConfig,
    /// Taken and given once for each instance, and held for some instructions: nothing that waits
    /// for anybody is done under it.
    state: Mutex<State>,
    /// Something has become free.
    freed: Condvar,
    /// A worker has been put down, or holds less, or is gone: for those who are short of what
    /// workers hold.
    room: Condvar,
    /// There is something for the thread to do.
    work: Condvar,
    /// Who that is.
    thread: OnceLock<ThreadId>,
}

struct State {
    idle: Idle<Box<Started>>,
    /// How many workers there are: with an instance, without, about to be there, about to be gone.
    workers: usize,
    /// Whether the thread has one of them in its hands: it is cleaned, or started to spare. Nobody
    /// has it, and nobody can take it or end it just now.
    at_work: bool,
    /// How many of them are ended. They hold no memory of the engine's any more, but descriptors.
    ending: usize,
    /// How many have been ended, or have failed to become spare ones.
    gone: u64,
    /// How many callers wait for one.
    waiting: usize,
    /// How many callers wait for what one holds.
    short: usize,
    /// Whose spares are kept.
    wanted: Option<Module>,
    /// Whether the thread sleeps until it is told, and not only for a moment.
    sleeps: bool,
    closed: bool,
}

impl State {
    /// How many workers are free in a moment.
    fn coming(&self) -> usize {
        usize::from(self.at_work) + self.ending
    }
}

impl Keep for Box<Started> {
    fn module(&self) -> usize {
        self.module.key()
    }
}

/// What a caller gets.
enum Way {
    /// A worker of the same module, and whether it is clean.
    Kept(Box<Started>, bool),
    /// The right to start one, and how many were gone by then.
    New(u64),
}

impl Pool {
    pub(crate) fn new(config: &PoolConfig, core: &Arc<Core>) -> Result<Self, Error> {
        let state = State {
            idle: Idle::new(),
            workers: 0,
            at_work: false,
            ending: 0,
            gone: 0,
            waiting: 0,
            short: 0,
            wanted: None,
            sleeps: false,
            closed: false,
        };
        let shared = Arc::new(Shared {
            config: config.clone(),
            state: Mutex::new(state),
            freed: Condvar::new(),
            room: Condvar::new(),
            work: Condvar::new(),
            thread: OnceLock::new(),
        });
        let (weak, weak_core) = (Arc::downgrade(&shared), Arc::downgrade(core));
        core.budget.on_shortage(move |take| {
            if let (Some(pool), Some(core)) = (weak.upgrade(), weak_core.upgrade()) {
                pool.give_way(&core, take);
            }
        });
        let (its, core) = (Arc::clone(&shared), Arc::clone(core));
        let thread = Builder::new()
            .name("cellwall-pool".into())
            .spawn(move || tidy::tidy(&its, &core))
            .map_err(|error| Error::kernel(Stage::Engine, "pthread_create", errno_of(&error)))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// A worker for an instance of `module`, clean.
    pub(crate) fn take(&self, core: &Core, module: &Module) -> Result<Box<Started>, Error> {
        loop {
            let (mut started, is_clean) = match self.shared.way(core, module)? {
                Way::Kept(started, is_clean) => (started, is_clean),
                Way::New(gone) => return self.shared.start(core, module, gone),
            };
            let _span = tracing::debug_span!("reuse", is_clean).entered();
            let begun = Instant::now();
            let ready = match is_clean {
                true => started.check_alive(),
                false => started.clean(core),
            };
            match ready {
                Ok(()) => {
                    core.counters.reuses.since(begun);
                    return Ok(started);
                }
                // It is nobody's any more.
                Err(error) => self.shared.lose(core, started, Kill::by(&error)),
            }
        }
    }

    /// The worker of an instance that is dropped.
    pub(crate) fn give(&self, core: &Core, started: Box<Started>) {
        // A forked child has a copy of the lock too, which somebody may have held.
        if !core.lineage.is_ours() {
            return core.discard(*started, Kill::Dropped, None);
        }
        if started.worker.pidfd().is_none() {
            return self.shared.lose(core, started, Kill::Dropped);
        }
        self.shared
            .keep(core, self.shared.state(), started, As::Dirty);
    }

    /// Ends the thread and all workers that have no instance.
    pub(crate) fn close(&mut self, core: &Core) {
        let mut state = self.shared.state();
        state.closed = true;
        state.wanted = None;
        let kept = state.idle.take_all();
        drop(state);
        self.shared.work.notify_one();
        for started in kept {
            core.discard(*started, Kill::Dropped, None);
        }
        if let Some(thread) = self.thread.take() {
            // One that panicked has left nothing behind but workers, which the engine ends.
            let _ = thread.join();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A forked child has the handle of a thread that it does not have; everybody else has
            // closed the pool.
            mem::forget(thread);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a caller gets a worker; waits for that as long as was asked.
    fn way(self: &Arc<Self>, core: &Core, module: &Module) -> Result<Way, Error> {
        let mut begun = None;
        let mut state = self.state();
        if self.config.spares > 0 && state.wanted.as_ref().is_none_or(|last| !last.is(module)) {
            state.wanted = Some(module.clone());
        }
        loop {
            if let Some((started, is_clean)) = state.idle.take(module.key()) {
                self.call_thread(&mut state);
                return Ok(Way::Kept(started, is_clean));
            }
            if state.workers < self.config.most {
                state.workers += 1;
                return Ok(Way::New(state.gone));
            }
            // One of another module gives way for each who waits: it is to be gone before there is
            // one more.
            if state.coming() <= state.waiting
                && let Some(other) = state.idle.take_oldest()
            {
                self.end(core, state, other, Kill::Dropped);
                state = self.state();
                continue;
            }
            let begun = *begun.get_or_insert_with(Instant::now);
            let left = time_left(begun.checked_add(self.patience(core, &state)));
            if left.is_zero() {
                let most = self.config.most;
                return Err(Error::misuse(Stage::Start, Misuse::PoolExhausted { most }));
            }
            state.waiting += 1;
            let woken = self.freed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
        }
    }

    /// How long a caller waits, all in all. Who need only wait for us is not turned away.
    fn patience(&self, core: &Core, state: &State) -> Duration {
        if state.coming() > state.waiting {
            return self.config.wait.max(core.config.start_timeout);
        }
        self.config.wait
    }

    /// Starts a worker that has been counted already. Where descriptors are short, some of those
    /// that nobody has give way. `gone` were gone when it was counted.
    fn start(
        self: &Arc<Self>,
        core: &Core,
        module: &Module,
        mut gone: u64,
    ) -> Result<Box<Started>, Error> {
        let mut started = start::start(core, module, None);
        let mut until = None;
        for _ in 0..GIVE_WAY_MAX {
            match &started {
                Err(error) if error.is_for_want_of_descriptors() => {
                    let until = *until.get_or_insert_with(|| room::at_the_latest(core));
                    if !self.make_way(core, &mut gone, until) {
                        break;
                    }
                    started = start::start(core, module, None);
                }
                _ => break,
            }
        }
        if started.is_err() {
            self.one_less(&mut self.state());
        }
        self.call_thread(&mut self.state());
        started.map(Box::new)
    }

    /// Puts a worker down. Where one is too many, the one goes that has waited for longest: its
    /// module may be gone.
    fn keep(
        self: &Arc<Self>,
        core: &Core,
        mut state: MutexGuard<'_, State>,
        started: Box<Started>,
        how: As,
    ) {
        if state.closed {
            return self.end(core, state, started, Kill::Dropped);
        }
        state.idle.put(started, how);
        let is_one_too_many = state.idle.count() > self.config.idle;
        let oldest = is_one_too_many.then(|| state.idle.take_oldest()).flatten();
        self.call_thread(&mut state);
        match oldest {
            Some(oldest) => self.end(core, state, oldest, Kill::Dropped),
            None => self.tell(&state),
        }
    }

    /// Ends a worker that cannot be kept.
    fn lose(self: &Arc<Self>, core: &Core, started: Box<Started>, why: Kill) {
        self.end(core, self.state(), started, why);
    }

    /// Ends a worker. It counts until it is gone.
    fn end(
        self: &Arc<Self>,
        core: &Core,
        mut state: MutexGuard<'_, State>,
        mut started: Box<Started>,
        why: Kill,
    ) {
        state.ending += 1;
        // Before anybody can see that it is in no list any more.
        started.memory.release_budget();
        self.tell_the_short(&state);
        drop(state);
        let shared = Arc::clone(self);
        let gone = move |_| {
            let mut state = shared.state();
            state.ending -= 1;
            state.gone += 1;
            shared.one_less(&mut state);
        };
        core.discard(*started, why, Some(Box::new(gone)));
    }

    /// Tells those who wait that there is something for them.
    fn tell(&self, state: &State) {
        if state.waiting > 0 {
            self.freed.notify_one();
        }
        self.tell_the_short(state);
    }

    fn tell_the_short(&self, state: &State) {
        if state.short > 0 {
            self.room.notify_all();
        }
    }

    fn one_less(&self, state: &mut State) {
        state.workers -= 1;
        self.tell(state);
        self.call_thread(state);
    }

    /// Wakes the thread if there is something to do. Told once, it looks again and again until
    /// nothing is left.
    fn call_thread(&self, state: &mut State) {
        if state.sleeps && self.has_work(state) {
            state.sleeps = false;
            self.work.notify_one();
        }
    }

    fn has_work(&self, state: &State) -> bool {
        state.idle.dirty() > 0 || self.wants_spare(state)
    }

    fn wants_spare(&self, state: &State) -> bool {
        let spares = self.config.spares.min(self.config.idle);
        let wanted = state.wanted.as_ref();
        state.workers < self.config.most
            && wanted.is_some_and(|module| state.idle.of(module.key()) < spares)
    }
}
