//! Whether spinning pays, by what the host has lately seen of it.
//!
//! Two things speak against it. The other side takes longer than a spin: then it is shortened, to a
//! sixteenth at the least, so that a change is noticed. And CPUs are short: then a spin that pays
//! for two sides is paid by all others, so that there is none at all for a while, on neither side.

use std::time::{Duration, Instant};

use super::place::Place;

/// What is left of a spin that never pays.
const SHARE_MIN: u32 = 16;
/// After so many spins that paid the host looks whether it has lost its CPU meanwhile.
const LOOK_EVERY: u32 = 1024;
/// Who loses its CPU twice within this time has to share it; a kernel's own thread comes less
/// often.
const SHORT: Duration = Duration::from_millis(40);
/// How long there is no spinning then: doubled each time, since each new attempt is at the cost of
/// others.
const REST_MIN: Duration = Duration::from_millis(50);
const REST_MAX: Duration = Duration::from_secs(2);
/// How often each side yields then: each time others run first, and those yield too.
const RESTING_YIELDS: u32 = 1;
/// How many yields may let others run before a worker on the same CPU should have answered.
const OWN_SWITCHES: u64 = 3;

pub(super) struct Spinning {
    /// In rounds of the loop, as all counts of spins.
    most: u32,
    /// The host's own.
    budget: u32,
    /// The worker's.
    worker: u32,
    paid: u32,
    preemptions: u64,
    preempted_at: Option<Instant>,
    rest: Duration,
    /// Until when there is none.
    resting: Option<Instant>,
}

impl Spinning {
    pub(super) fn new(most: u32) -> Self {
        Self {
            most,
            budget: most,
            worker: most,
            paid: 0,
            // The first look finds another number, and nothing before it.
            preemptions: 0,
            preempted_at: None,
            rest: Duration::ZERO,
            resting: None,
        }
    }

    /// How long the host should spin now.
    #[inline]
    pub(super) fn budget(&self) -> u32 {
        self.budget
    }

    /// How long the worker should spin for its next order.
    #[inline]
    pub(super) fn worker_budget(&self) -> u32 {
        self.worker
    }

    /// How often each side should yield, of at most so many times.
    #[inline]
    pub(super) fn yields(&self, most: u32) -> u32 {
        match self.resting {
            Some(_) => RESTING_YIELDS.min(most),
            None => most,
        }
    }

    /// The turn came back during a spin.
    #[inline]
    pub(super) fn paid(&mut self, place: &impl Place) {
        self.budget = self.most;
        self.paid = self.paid.wrapping_add(1);
        if self.paid.is_multiple_of(LOOK_EVERY) {
            self.look_around(place, 0);
        }
    }

    /// A spin was in vain.
    pub(super) fn failed(&mut self, place: &impl Place) {
        if self.resting.is_none() {
            self.look_around(place, 0);
        }
    }

    /// The turn came back while the host yielded, or after it had slept: the first would have
    /// been in reach of a spin.
    pub(super) fn came_late(&mut self, place: &impl Place, slept: bool, shares_cpu: bool) {
        if self.resting.is_some() {
            return;
        }
        self.budget = if slept {
            (self.budget / 2).max(self.most / SHARE_MIN)
        } else {
            self.budget.saturating_mul(2).max(1).min(self.most)
        };
        // A yield that lets another thread run counts as a preemption, and that may have been the
        // worker.
        self.look_around(place, if shares_cpu { OWN_SWITCHES } else { 0 });
    }

    /// The worker slept when it got its order, or did not.
    #[inline]
    pub(super) fn worker_slept(&mut self, slept: bool) {
        if slept {
            self.worker = (self.worker / 2).max(self.most / SHARE_MIN);
        } else {
            self.worker = self.most;
        }
        if self.resting.is_some() {
            self.worker = 0;
        }
    }

    /// A look at the clock, which ends a rest in time.
    pub(super) fn is_it_over(&mut self, place: &impl Place, now: Instant) {
        if self.resting.is_some_and(|until| until <= now) {
            self.resting = None;
            self.budget = self.most;
            self.worker = self.most;
            self.paid = 0;
            self.preemptions = place.preemptions();
        }
    }

    /// Whether more than so many others have had this CPU since the last look.
    #[cold]
    fn look_around(&mut self, place: &impl Place, expected: u64) {
        let before = self.preemptions;
        self.preemptions = place.preemptions();
        if self.preemptions.saturating_sub(before) <= expected {
            return;
        }
        let now = place.now();
        let last = self.preempted_at.replace(now);
        let since = last.map(|last| now.saturating_duration_since(last));
        if since.is_some_and(|since| since < SHORT) {
            // Who has been spinning for longer than it rested begins anew.
            self.rest = (self.rest * 2).clamp(REST_MIN, REST_MAX);
            self.resting = Some(now + self.rest);
            self.preempted_at = None;
            self.budget = 0;
            self.worker = 0;
        } else if since.is_some_and(|since| self.rest < since) {
            self.rest = Duration::ZERO;
        }
    }
}
