//! An instance, and the judgement of all that it answers: right, excused or wrong.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use cellwall::{Blame, Death, Error, Instance, Interrupt, Misuse, Module, Signal, Snapshot, Stage};

use crate::guests::Entry;
use crate::lands::{DATA, DATA_BYTES, PAGE};
use crate::site::{START_TIMEOUT, STOP_TIMEOUT, Site, count};
use crate::thread::Hand;
use crate::victim::Victim;

/// Why a deed has come to nothing.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Its worker was killed, or the nursery.
    Struck,
    /// A limit that is there to be reached.
    Refused(&'static str),
    /// What must not be.
    Wrong(String),
}

pub(crate) type Done<T = ()> = Result<T, Stop>;

/// Says what must not be.
pub(crate) fn wrong<T>(what: impl Into<String>) -> Done<T> {
    Err(Stop::Wrong(what.into()))
}

/// How long a guest may run that nobody stops.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a call may take that runs no guest.
const CALL: Duration = Duration::from_secs(20);
/// One instance in so many cannot be struck by name: nobody has asked for its worker's number.
const UNKNOWN: u32 = 4;

pub(crate) struct Tenant<'a> {
    pub(crate) instance: Instance,
    hand: &'a Hand<'a>,
    pub(crate) site: &'a Site,
    victim: Option<Arc<Victim>>,
    /// The count of strikes before it was made.
    born: u64,
    deadline: Duration,
    /// Whether somebody may interrupt it at any time.
    pub(crate) is_disturbed: bool,
}

impl Drop for Tenant<'_> {
    fn drop(&mut self) {
        if let Some(victim) = &self.victim {
            self.hand.world.victims.remove(victim);
        }
        self.hand.seat.step("drop", CALL);
    }
}

impl<'a> Tenant<'a> {
    /// An instance on the hand's site.
    pub(crate) fn new(hand: &'a Hand<'a>, module: &Module) -> Done<Self> {
        let site = hand.site();
        let born = site.strikes.now();
        // It may wait for those of other threads.
        hand.seat.step("instantiate", START_TIMEOUT * 4);
        let mut instance = match site.engine.instantiate(module) {
            Ok(instance) => instance,
            Err(error) => return Err(unmade(site, born, &error)),
        };
        count(&site.counts.made);
        instance.set_deadline(DEADLINE);
        let is_known = hand.random(UNKNOWN) != 0;
        let process = if is_known { instance.process_id() } else { 0 };
        let victims = &hand.world.victims;
        let victim = (process != 0).then(|| victims.add(process, hand.site));
        Ok(Self {
            instance,
            hand,
            site,
            victim,
            born,
            deadline: DEADLINE,
            is_disturbed: false,
        })
    }

    /// The same, of the module that most are of.
    pub(crate) fn plain(hand: &'a Hand<'a>) -> Done<Self> {
        Self::new(hand, &hand.site().modules.plain)
    }

    fn is_excused(&self) -> bool {
        self.is_struck() || self.site.strikes.since(self.born)
    }

    fn is_struck(&self) -> bool {
        self.victim
            .as_ref()
            .is_some_and(|victim| victim.is_struck())
    }

    pub(crate) fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
        self.instance.set_deadline(deadline);
    }

    /// The deadline of guests that nobody stops.
    pub(crate) fn give_time(&mut self) {
        self.set_deadline(DEADLINE);
    }

    pub(crate) fn order(&mut self, entry: Entry, args: &[u64]) -> Done {
        self.order_at(entry.address(), args)
    }

    pub(crate) fn order_at(&mut self, entry: u64, args: &[u64]) -> Done {
        self.attempt("call", |instance| instance.call(entry, args))
    }

    /// Gives the guest the turn. Does not return if its worker was killed.
    pub(crate) fn run(&mut self) -> Done<Interrupt> {
        self.hand.seat.step("run", self.deadline + STOP_TIMEOUT);
        match self.instance.run() {
            Ok(Interrupt::Died(death)) if self.may_die_so(death) => self.is_over(),
            Ok(interrupt) => {
                self.count(interrupt);
                Ok(interrupt)
            }
            Err(error) => Err(self.judge(&error)),
        }
    }

    fn count(&self, interrupt: Interrupt) {
        let counts = &self.site.counts;
        match interrupt {
            Interrupt::Finished(_) | Interrupt::Hostcall(_) | Interrupt::Trap(_) => {
                count(&counts.turns);
            }
            Interrupt::PageFault(_) => {
                count(&counts.turns);
                count(&counts.faults);
            }
            _ => {}
        }
    }

    fn may_die_so(&self, death: Death) -> bool {
        match death {
            Death::Killed(Signal::KILL) => self.is_excused(),
            // Its nursery is dead and cannot be asked.
            Death::Unknown => self.site.traits.nursed && self.site.strikes.since(self.born),
            _ => false,
        }
    }

    /// Looks whether an instance that is over says so.
    pub(crate) fn is_over<T>(&mut self) -> Done<T> {
        if self.instance.is_alive() {
            return wrong("it died, and is said to be alive");
        }
        match self.instance.call(Entry::Look.address(), &[]) {
            Err(error) if error.blame == Blame::Caller(Misuse::Over) => Err(Stop::Struck),
            other => wrong(format!("it died, and a call answers {other:?}")),
        }
    }

    /// Runs an entry to its end: the value.
    pub(crate) fn value(&mut self, entry: Entry, args: &[u64]) -> Done<u64> {
        self.order(entry, args)?;
        loop {
            match self.run()? {
                Interrupt::Finished(value) => return Ok(value),
                Interrupt::Interrupted if self.is_disturbed => {}
                other => return wrong(format!("{entry:?}: {other}, not a value")),
            }
        }
    }

    /// The same, where it is known.
    pub(crate) fn expect(&mut self, entry: Entry, args: &[u64], value: u64) -> Done {
        let found = self.value(entry, args)?;
        self.same(&format!("{entry:?} {args:x?}"), found, value)
    }

    pub(crate) fn same(&self, what: &str, found: u64, value: u64) -> Done {
        if found == value {
            return Ok(());
        }
        wrong(format!("{what}: {found:#x}, not {value:#x}"))
    }

    /// Has the guest find all of its memory and registers as new.
    pub(crate) fn is_pristine(&mut self) -> Done {
        let words = DATA_BYTES / 8;
        self.expect(Entry::Look, &[DATA, words, 8], 0)
    }

    /// Leaves something to be found in each page and each register.
    pub(crate) fn leave_mark(&mut self) -> Done {
        let mark = self.hand.word() | 1;
        self.expect(Entry::Mark, &[DATA, DATA_BYTES / PAGE, PAGE, mark], mark)
    }

    /// Any call that runs no guest.
    pub(crate) fn attempt<T>(
        &mut self,
        step: &'static str,
        what: impl FnOnce(&mut Instance) -> Result<T, Error>,
    ) -> Done<T> {
        self.hand.seat.step(step, CALL);
        what(&mut self.instance).map_err(|error| self.judge(&error))
    }

    /// A reset, which the engine counts.
    pub(crate) fn reset(&mut self) -> Done {
        self.counted("reset", Instance::reset)
    }

    pub(crate) fn restore(&mut self, snapshot: &Snapshot) -> Done {
        self.counted("restore", |instance| instance.restore(snapshot))
    }

    fn counted(
        &mut self,
        step: &'static str,
        what: impl FnOnce(&mut Instance) -> Result<(), Error>,
    ) -> Done {
        count(&self.site.counts.resets_tried);
        self.attempt(step, what)?;
        count(&self.site.counts.resets);
        Ok(())
    }

    fn judge(&self, error: &Error) -> Stop {
        match &error.blame {
            Blame::Caller(Misuse::Over) if self.is_excused() => Stop::Struck,
            Blame::Caller(Misuse::EngineMemoryLimit { .. }) if self.site.traits.bytes > 0 => {
                Stop::Refused("by the engine's memory limit")
            }
            _ => Stop::Wrong(error.to_string()),
        }
    }
}

/// Why there is no instance.
fn unmade(site: &Site, born: u64, error: &Error) -> Stop {
    let traits = site.traits;
    if let Blame::Caller(Misuse::PoolExhausted { .. }) = error.blame
        && traits.pool.is_some()
    {
        return Stop::Refused("by the pool");
    }
    count(&site.counts.failed);
    let is_starting = matches!(
        error.stage,
        Stage::Start | Stage::Nursery | Stage::Lockdown(_)
    );
    match &error.blame {
        Blame::Caller(Misuse::EngineMemoryLimit { .. }) if traits.bytes > 0 => {
            Stop::Refused("by the engine's memory limit")
        }
        Blame::NurseryDied | Blame::Died(_) if is_starting && site.strikes.since(born) => {
            Stop::Struck
        }
        _ => {
            let strikes = site.strikes.now();
            let made = site.counts.made.load(Relaxed);
            let text = format!("{error} (after {made} instances, {strikes} strikes, {born} then)");
            Stop::Wrong(text)
        }
    }
}
