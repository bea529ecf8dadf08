//! The nursery: a process that takes the steps of a start that can be inherited once, and then
//! clones workers on request. No guest runs in it.
//!
//! | file | what |
//! |---|---|
//! | `ring` | asking it, and judging its answers |
//! | `slot` | what a worker lives in, used again |
//! | `life` | one process, from its start to its death; `life/files`, what it keeps |
//!
//! It is the init of its pid namespace, so that the kernel kills all of its workers with it. They
//! are its children and not the host's: the host hears of their ends from it.

mod life;
mod ring;
mod slot;

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use linux_raw::fd::OwnedFd;
use linux_raw::process::{Resource, get_limit};
use vmctx::map::SHARED_BYTES;
use vmctx::ring::WORKERS_MAX;

use self::life::Life;
use self::ring::Unanswered;
pub(crate) use self::slot::Slot;
use self::slot::Slots;
use crate::error::{Blame, Error, KernelResult as _, Stage};
use crate::interrupt::Death;
use crate::lineage::Lineage;
use crate::module::Module;
use crate::process::{Child, Process};
use crate::reactor::Reactor;
use crate::turn::{Pages, Slab, WorkerEnds};
use crate::wishes::Wishes;

/// How often a worker is asked for before its nursery's death is an error.
const ATTEMPTS: u32 = 2;

/// How long a nursery may take to tell who has ended.
const TELL_TIMEOUT: Duration = Duration::from_millis(50);

/// An engine's nursery, whichever process it is now.
pub(crate) struct Nursery {
    lineage: Arc<Lineage>,
    timeout: Duration,
    home: OnceLock<Home>,
    state: Mutex<State>,
    /// Workers that have ended and whose end nobody has asked for yet.
    ends: Mutex<HashMap<Child, Death>>,
    /// Whether somebody has asked for one while the nursery was busy.
    is_asked: AtomicBool,
}

/// What all of its workers live in, and the descriptors of that.
struct Home {
    slots: Arc<Slots>,
    ends: WorkerEnds,
}

struct State {
    life: Option<Life>,
    /// How many lives there have been.
    lives: u64,
}

/// The nursery, as long as a worker has something in it to fetch: nobody else asks it for one.
pub(crate) struct Newborn<'a> {
    state: MutexGuard<'a, State>,
    nursery: &'a Nursery,
}

/// What a worker is cloned for.
pub(crate) struct Wanted<'a> {
    pub(crate) slot: &'a Arc<Slot>,
    pub(crate) module: &'a Module,
    pub(crate) code: Option<&'a OwnedFd>,
}

impl Nursery {
    pub(crate) fn new(lineage: &Arc<Lineage>, timeout: Duration) -> Arc<Self> {
        let state = State {
            life: None,
            lives: 0,
        };
        Arc::new(Self {
            lineage: Arc::clone(lineage),
            timeout,
            home: OnceLock::new(),
            state: Mutex::new(state),
            ends: Mutex::new(HashMap::new()),
            is_asked: AtomicBool::new(false),
        })
    }

    /// A place to live in. The nursery wakes up meanwhile.
    pub(crate) fn slot(&self) -> Result<Arc<Slot>, Error> {
        // One that is busy is awake.
        if let Ok(state) = self.state.try_lock()
            && let Some(life) = &state.life
        {
            life.nudge();
        }
        self.home()?.slots.take()
    }

    /// Sees to it that a nursery is there and has locked itself down.
    pub(crate) fn warm_up(&self, reactor: &Reactor, wishes: &Wishes) -> Result<(), Error> {
        let mut state = self.state();
        self.living(&mut state, reactor, wishes).map(drop)
    }

    /// Clones a worker, which goes on to lock itself down. Whoever asks next waits until the answer
    /// is dropped.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        reactor: &Reactor,
        wishes: &Wishes,
        wanted: &Wanted<'_>,
    ) -> Result<(Process, Newborn<'_>), Error> {
        let mut state = self.state();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let life = self.living(&mut state, reactor, wishes)?;
            // Not before: it is not late because others are served first, or because it is new.
            let deadline = Instant::now().checked_add(self.timeout);
            let number = life.number();
            match life.spawn(wanted, deadline) {
                Ok((pidfd, pid)) => {
                    let child = Child { life: number, pid };
                    // Of one with that number before, whom nobody has asked about any more.
                    self.ends().remove(&child);
                    let (nursery, slot) = (Arc::clone(self), Arc::clone(wanted.slot));
                    let process = Process::nursed(pidfd, nursery, child, slot);
                    let nursery = self;
                    return Ok((process, Newborn { state, nursery }));
                }
                // Its worker may have come so far as to say something there.
                Err(Unanswered::Dead) if attempts < ATTEMPTS => {
                    wanted.slot.pages().forget_worker()?;
                }
                Err(why) => {
                    if matches!(why, Unanswered::Late | Unanswered::Forged(_)) {
                        wanted.slot.give_up(); // a worker may be on its way there
                    }
                    return Err(self.end(&mut state, reactor, why));
                }
            }
        }
    }

    /// How a worker has ended, once the kernel says that it has; nothing if the nursery is busy
    /// just now.
    pub(crate) fn end_of(&self, child: Child) -> Option<Death> {
        if let Some(death) = self.known_end(child) {
            return Some(death);
        }
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => {
                // Perhaps it waits for the very thread that asks. Whoever has it asks for us: where
                // it is always busy, we might find it so each time. Release pairs with the Acquire
                // in `Newborn::drop`.
                self.is_asked.store(true, Release);
                return None;
            }
        };
        let life = state.life.as_mut();
        // Nobody can say any more how the children of a dead one ended.
        let Some(life) = life.filter(|life| life.number() == child.life) else {
            return Some(self.known_end(child).unwrap_or(Death::Unknown));
        };
        // It is not waited for twice: whoever is asked here may have others to look after.
        if life.is_late() {
            return None;
        }
        let has_told_all = self.hear(life);
        let known = self.known_end(child);
        // One that is late, and lives, is asked again.
        known.or_else(|| (has_told_all || !life.is_alive()).then_some(Death::Unknown))
    }

    fn known_end(&self, child: Child) -> Option<Death> {
        self.ends().remove(&child)
    }

    /// Has it tell who has ended, and says whether it has told all.
    fn hear(&self, life: &mut Life) -> bool {
        let deadline = Instant::now().checked_add(TELL_TIMEOUT);
        let (told, is_all) = life.ends(deadline);
        let number = life.number();
        let child = |pid| Child { life: number, pid };
        let told = told.into_iter().map(|(pid, death)| (child(pid), death));
        self.ends().extend(told);
        is_all
    }

    fn ends(&self) -> MutexGuard<'_, HashMap<Child, Death>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process that lives, or a new one.
    fn living<'a>(
        &self,
        state: &'a mut State,
        reactor: &Reactor,
        wishes: &Wishes,
    ) -> Result<&'a mut Life, Error> {
        if let Some(dead) = state.life.take_if(|life| !life.is_alive()) {
            tracing::warn!(nursery = dead.id(), "the nursery has died");
            dead.bury(reactor);
        }
        if state.life.is_none() {
            state.lives += 1;
            let (home, number) = (self.home()?, state.lives);
            let life = Life::begin(
                number,
                reactor,
                wishes,
                &home.ends,
                &self.lineage,
                self.timeout,
            )?;
            state.life = Some(life);
        }
        state.life.as_mut().ok_or(Error {
            stage: Stage::Nursery,
            blame: Blame::NurseryDied,
        })
    }

    /// Ends a nursery that has not done what was asked, if that is its fault, and says why.
    fn end(&self, state: &mut State, reactor: &Reactor, why: Unanswered) -> Error {
        let stage = Stage::Nursery;
        let blame = match why {
            // It lives, and so do its workers: the kernel has no room for one more.
            Unanswered::Refused(call, errno) => {
                return Error::kernel(stage, call.name(), errno);
            }
            Unanswered::Dead => Blame::NurseryDied,
            Unanswered::Late => Blame::Timeout {
                what: "clone a worker",
                milliseconds: self.timeout.as_millis(),
            },
            Unanswered::Forged(forged) => Blame::Forged(forged),
        };
        if let Some(life) = state.life.take() {
            life.bury(reactor);
        }
        Error { stage, blame }
    }

    fn home(&self) -> Result<&Home, Error> {
        if let Some(home) = self.home.get() {
            return Ok(home);
        }
        let places = places()?;
        let (slab, ends) = Slab::new(&self.lineage, places, Stage::Nursery)?;
        let slots = Slots::new(slab, places, &self.lineage)?;
        Ok(self.home.get_or_init(|| Home { slots, ends }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        // The engine has ended it already, unless this is a forked child: there its handles are not
        // ours to touch.
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(life) = state.life.take() {
            life.leave();
        }
    }
}

impl Nursery {
    /// Kills it and its workers: the engine is dropped.
    pub(crate) fn close(&self, reactor: &Reactor) {
        if let Some(life) = self.state().life.take() {
            life.bury(reactor);
        }
    }
}

impl Drop for Newborn<'_> {
    fn drop(&mut self) {
        if let Some(life) = self.state.life.as_mut() {
            life.take_back();
            // Acquire pairs with the Release in `end_of`.
            if self.nursery.is_asked.swap(false, Acquire) {
                self.nursery.hear(life);
            }
        }
    }
}

impl Newborn<'_> {
    /// The worker's userfaultfd, once it is locked down.
    pub(crate) fn paging(&mut self, pages: &Pages) -> Result<OwnedFd, Error> {
        let life = self.state.life.as_mut().ok_or(Error {
            stage: Stage::Nursery,
            blame: Blame::NurseryDied,
        })?;
        life.paging(pages)
    }
}

/// How many workers there can be: the nursery has a descriptor for each, and the pages of all are
/// in one file.
fn places() -> Result<u32, Error> {
    let files = get_limit(Resource::Files).at(Stage::Nursery, "prlimit64")?;
    let bytes = get_limit(Resource::FileSize).at(Stage::Nursery, "prlimit64")?;
    let by_files = files.hard.saturating_sub(life::OTHERS.into());
    let places = by_files.min(bytes.soft / SHARED_BYTES);
    let places = u32::try_from(places).unwrap_or(u32::MAX);
    Ok(places.clamp(1, WORKERS_MAX))
}
