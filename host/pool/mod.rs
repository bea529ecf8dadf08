//! Workers that are kept for instances to come.
//!
//! | file | what |
//! |---|---|
//! | `config` | what an embedder may choose |
//! | `idle` | those without an instance |
//! | `tidy` | the thread that cleans them and makes spare ones |
//!
//! A worker whose instance is dropped is only put down: whoever wants the next instance of its
//! module at once cleans it, and otherwise the pool's thread does a moment later.

mod config;
mod idle;
mod tidy;

use std::mem;
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Builder, JoinHandle, ThreadId};
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
    /// There is something for the thread to do.
    work: Condvar,
    /// Who that is.
    thread: OnceLock<ThreadId>,
}

struct State {
    idle: Idle<Box<Started>>,
    /// How many workers there are: with an instance, without, about to be there, about to be gone.
    workers: usize,
    /// How many of them nobody has, and nobody can take just now: they are cleaned, started to
    /// spare, or ended. Each is free in a moment.
    coming: usize,
    /// How many callers wait for one.
    waiting: usize,
    /// Whose spares are kept.
    wanted: Option<Module>,
    /// Whether the thread sleeps until it is told, and not only for a moment.
    sleeps: bool,
    closed: bool,
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
    /// The right to start one.
    New,
}

impl Pool {
    pub(crate) fn new(config: &PoolConfig, core: &Arc<Core>) -> Result<Self, Error> {
        let state = State {
            idle: Idle::new(),
            workers: 0,
            coming: 0,
            waiting: 0,
            wanted: None,
            sleeps: false,
            closed: false,
        };
        let shared = Arc::new(Shared {
            config: config.clone(),
            state: Mutex::new(state),
            freed: Condvar::new(),
            work: Condvar::new(),
            thread: OnceLock::new(),
        });
        let (weak, weak_core) = (Arc::downgrade(&shared), Arc::downgrade(core));
        core.budget.on_shortage(move || {
            let (shared, core) = (weak.upgrade(), weak_core.upgrade());
            shared
                .zip(core)
                .is_some_and(|(pool, core)| pool.give_way(&core))
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
                Way::New => return self.shared.start(core, module),
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
                return Ok(Way::New);
            }
            // One of another module gives way for each who waits: it is to be gone before there is
            // one more.
            if state.coming <= state.waiting
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
        if state.coming > state.waiting {
            return self.config.wait.max(core.config.start_timeout);
        }
        self.config.wait
    }

    /// Starts a worker that has been counted already. Where descriptors are short, some of those
    /// that nobody has give way.
    fn start(self: &Arc<Self>, core: &Core, module: &Module) -> Result<Box<Started>, Error> {
        let mut started = start::start(core, module, None);
        for _ in 0..GIVE_WAY_MAX {
            match &started {
                Err(error) if error.is_for_want_of_descriptors() && self.make_way(core) => {
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
            None if state.waiting > 0 => self.freed.notify_one(),
            None => {}
        }
    }

    /// Ends a worker that cannot be kept.
    fn lose(self: &Arc<Self>, core: &Core, started: Box<Started>, why: Kill) {
        self.end(core, self.state(), started, why);
    }

    /// Ends the worker that has waited for longest, and waits until its descriptors are closed;
    /// false if there is none.
    fn make_way(self: &Arc<Self>, core: &Core) -> bool {
        let mut state = self.state();
        let Some(oldest) = state.idle.take_oldest() else {
            return false;
        };
        let (gone, is_gone) = channel::<()>();
        self.end_and(core, state, oldest, Kill::Dropped, move || drop(gone));
        // It is dropped in any case: at the latest at the bound of a reap.
        let _ = is_gone.recv();
        true
    }

    /// Ends a worker. It counts until it is gone.
    fn end(
        self: &Arc<Self>,
        core: &Core,
        state: MutexGuard<'_, State>,
        started: Box<Started>,
        why: Kill,
    ) {
        self.end_and(core, state, started, why, || {});
    }

    /// The same, and does what follows.
    fn end_and(
        self: &Arc<Self>,
        core: &Core,
        mut state: MutexGuard<'_, State>,
        started: Box<Started>,
        why: Kill,
        then: impl FnOnce() + Send + 'static,
    ) {
        state.coming += 1;
        drop(state);
        let shared = Arc::clone(self);
        let gone = move |_| {
            let mut state = shared.state();
            state.coming -= 1;
            shared.one_less(&mut state);
            drop(state);
            then();
        };
        core.discard(*started, why, Some(Box::new(gone)));
    }

    /// Ends the worker that has waited for longest, for somebody who needs its memory; false if
    /// there is none.
    fn give_way(self: &Arc<Self>, core: &Core) -> bool {
        // A spare worker is not made at the cost of one that is there.
        if self.thread.get() == Some(&thread::current().id()) {
            return false;
        }
        let mut state = self.state();
        let Some(oldest) = state.idle.take_oldest() else {
            return false;
        };
        self.end(core, state, oldest, Kill::Dropped);
        true
    }

    fn one_less(&self, state: &mut State) {
        state.workers -= 1;
        if state.waiting > 0 {
            self.freed.notify_one();
        }
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
