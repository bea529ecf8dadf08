//! What each thread is doing, for the one who watches.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How much longer than its own bound a step may take before it counts as one that never returns.
const SLACK: Duration = Duration::from_secs(10);

/// The last step.
const LEFT: &str = "left";

/// One thread's place.
pub(crate) struct Seat {
    pub(crate) thread: usize,
    doing: Mutex<Doing>,
}

#[derive(Clone, Copy)]
struct Doing {
    deed: &'static str,
    seed: u64,
    site: &'static str,
    step: &'static str,
    since: Instant,
    bound: Duration,
}

impl Seat {
    pub(crate) fn new(thread: usize) -> Self {
        let doing = Doing {
            deed: "nothing",
            seed: 0,
            site: "nowhere",
            step: "nothing",
            since: Instant::now(),
            bound: Duration::MAX,
        };
        Self {
            thread,
            doing: Mutex::new(doing),
        }
    }

    /// Begins a deed.
    pub(crate) fn begin(&self, deed: &'static str, seed: u64, site: &'static str) {
        let mut doing = self.doing();
        (doing.deed, doing.seed, doing.site) = (deed, seed, site);
    }

    /// Begins a step of it, which returns within this bound.
    pub(crate) fn step(&self, step: &'static str, bound: Duration) {
        let mut doing = self.doing();
        (doing.step, doing.since, doing.bound) = (step, Instant::now(), bound);
    }

    /// There is nothing more to watch.
    pub(crate) fn leave(&self) {
        self.step(LEFT, Duration::MAX);
    }

    pub(crate) fn has_left(&self) -> bool {
        self.doing().step == LEFT
    }

    /// Whether the step should have returned by now.
    pub(crate) fn is_stuck(&self) -> bool {
        let doing = *self.doing();
        doing.since.elapsed() > doing.bound.saturating_add(SLACK)
    }

    fn doing(&self) -> MutexGuard<'_, Doing> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doing = *self.doing();
        let Doing {
            deed,
            seed,
            site,
            step,
            ..
        } = doing;
        let (thread, took) = (self.thread, doing.since.elapsed());
        write!(
            out,
            "thread {thread}, deed {deed} {seed:#x} on {site}, {step} for {took:.1?}"
        )
    }
}
