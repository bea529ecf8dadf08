//! Whether spinning pays, by what the host has lately seen of it, and when to look.
//!
//! A side that spins for an answer that takes longer than a spin spins half as long next time, down
//! to a sixteenth, so that a change is noticed. Where CPUs are short a spin that pays for two sides
//! is paid by others: [`Standing`] says who may.

use std::mem;
use std::time::Duration;

use super::sitter::Standing;
use super::wait::Patience;

/// What is left of a spin that never pays.
const SHARE_MIN: u32 = 16;
/// What is left of it when it has not paid so often in a row that it is no accident.
const SHARE_TRIED: u32 = 4;
/// What is left of it where others wait for a seat: who takes longer gives them more by sleeping.
const SHARE_WANTED: u32 = 4;
/// How often each side yields where CPUs are short: each time others run first, who yield too.
const YIELDS_SHORT: u32 = 1;
/// How long an answer may take after a spin so that a longer spin would have found it.
const IN_REACH: Duration = Duration::from_micros(20);
/// How long the host may be awake after a spin where CPUs are short: as long as a turn of two sides
/// on one CPU takes.
const AWAKE: Duration = Duration::from_micros(8);
/// A yield that takes so long has let somebody run.
const LONG_YIELD: Duration = Duration::from_micros(3);

pub(super) struct Spinning {
    bounds: Patience,
    /// The host's own, in rounds of the loop, as all counts of spins.
    budget: u32,
    /// The worker's.
    worker: u32,
    yields: u32,
    has_paid: bool,
    standing: Standing,
    pub(super) pace: Pace,
    /// Whether the worker slept when it got its order.
    woke: bool,
    /// How often the host yields while the worker wakes up.
    waking: u32,
}

impl Spinning {
    pub(super) fn new(bounds: Patience) -> Self {
        Self {
            bounds,
            budget: bounds.spin_iterations,
            worker: bounds.spin_iterations,
            yields: bounds.yields,
            has_paid: false,
            standing: Standing::Alone,
            pace: Pace::default(),
            woke: false,
            waking: bounds.waking,
        }
    }

    /// Whether it is allowed at all.
    pub(super) fn is_allowed(&self) -> bool {
        self.bounds.spin_iterations > 0
    }

    /// Whether a seat is worth having.
    pub(super) fn pays(&self) -> bool {
        self.budget > 0 && self.budget >= self.bounds.spin_iterations / SHARE_TRIED
    }

    /// How it is with the others in this turn.
    pub(super) fn stands(&mut self, standing: Standing) {
        self.standing = standing;
    }

    /// How long the host should spin now.
    #[inline]
    pub(super) fn budget(&self) -> u32 {
        match self.standing {
            Standing::Alone => self.budget,
            Standing::Sits | Standing::Out => self.budget / SHARE_WANTED,
            Standing::Stands => 0,
        }
    }

    /// How the worker should wait for its next order.
    #[inline]
    pub(super) fn worker(&self) -> Patience {
        Patience {
            spin_iterations: match self.standing {
                Standing::Alone | Standing::Sits => self.worker,
                Standing::Stands | Standing::Out => 0,
            },
            yields: self.yields(),
            waking: 0,
        }
    }

    /// How often each side should yield.
    #[inline]
    fn yields(&self) -> u32 {
        match self.standing {
            Standing::Alone => self.yields,
            Standing::Sits => self.bounds.yields,
            Standing::Stands | Standing::Out => YIELDS_SHORT.min(self.yields),
        }
    }

    /// How often the host should yield now.
    pub(super) fn host_yields(&self) -> u32 {
        match self.standing {
            Standing::Alone | Standing::Sits if self.woke => self.yields().max(self.waking),
            _ => self.yields(),
        }
    }

    /// The turn came back during a spin.
    #[inline]
    pub(super) fn paid(&mut self) {
        self.budget = self.bounds.spin_iterations;
        self.has_paid |= self.standing == Standing::Sits;
    }

    /// Whether a seat that others waited for has paid, since this was last asked.
    pub(super) fn has_paid(&mut self) -> bool {
        mem::take(&mut self.has_paid)
    }

    /// The turn came back after a spin: the host was awake for such a time, and then slept if the
    /// two times differ.
    pub(super) fn came_late(&mut self, awake: Duration, took: Duration) {
        let most = self.bounds.spin_iterations;
        let is_late = match self.standing {
            Standing::Alone => took > IN_REACH,
            // Whoever sleeps there waits for others, not for the guest alone.
            Standing::Sits | Standing::Stands | Standing::Out => awake > AWAKE,
        };
        // Who has just woken up is late for that reason.
        if self.woke {
            self.waking = if took > awake {
                (self.waking / 2).max(self.bounds.waking / SHARE_MIN)
            } else {
                self.bounds.waking
            };
        } else if is_late {
            self.budget = (self.budget / 2).max(most / SHARE_MIN);
        } else {
            self.budget = self.budget.saturating_mul(2).max(1).min(most);
            self.yields = self.yields.saturating_mul(2).max(1).min(self.bounds.yields);
        }
    }

    /// A yield was over after such a time, without an answer. Gives whether others have run, who
    /// have no part in the conversation.
    pub(super) fn yielded(&mut self, took: Duration) -> bool {
        let is_long = took > LONG_YIELD && self.standing != Standing::Sits;
        if is_long {
            self.yields = YIELDS_SHORT.min(self.bounds.yields);
        }
        is_long
    }

    /// The worker slept when it got its order, or did not.
    #[inline]
    pub(super) fn worker_slept(&mut self, slept: bool) {
        let most = self.bounds.spin_iterations;
        self.woke = slept;
        self.worker = if slept {
            (self.worker / 2).max(most / SHARE_MIN)
        } else {
            most
        };
    }
}

/// When to look for the first time in a spin: when the answer should be there.
///
/// A look that comes earlier takes the line from the side that is about to write it, which then has
/// to fetch it again: that costs more than the whole answer. So a side that finds the answer at
/// its first look comes a little earlier next time, and one that looked in vain comes later. What
/// comes much later is another thing and says nothing. The worker does the same
/// (`zygote/src/trampoline.rs`).
#[derive(Default)]
pub(super) struct Pace(u32);

/// In eighths of a pause.
const PAUSE: u32 = 8;
const PACE_MAX: u32 = 255;
/// So many looks after the first one an answer was still what it waited for.
const SOON: u32 = 16;

impl Pace {
    /// How many pauses there are before the first look.
    #[inline]
    pub(super) fn pauses(&self) -> u32 {
        self.0 / PAUSE
    }

    /// So many looks were in vain.
    #[inline]
    pub(super) fn came_after(&mut self, looks: u32) {
        self.0 = match looks {
            0 => self.0.saturating_sub(1),
            1..=SOON => (self.0 + PAUSE - 1).min(PACE_MAX),
            _ => self.0,
        };
    }
}
