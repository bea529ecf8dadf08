//! Points in time that may not be, and waiting for what comes soon.

use std::time::{Duration, Instant};

use linux_raw::{arch, process};

/// How long it is to the deadline; for ever if there is none.
pub(crate) fn time_left(deadline: Option<Instant>) -> Duration {
    deadline.map_or(Duration::MAX, |deadline| {
        deadline.saturating_duration_since(Instant::now())
    })
}

/// How long the host looks for what a nursery, or its worker, does before it sleeps: a start takes
/// half of it where nothing else runs.
pub(crate) const AWAKE: Duration = Duration::from_micros(200);
/// The same for a worker that takes every step by itself. Who sleeps too early is woken for a tenth
/// of that start, and the worker sleeps meanwhile and has to be woken too.
pub(crate) const AWAKE_ALONE: Duration = Duration::from_micros(600);
/// How many looks there are before it offers its CPU, which that process may be waiting for.
const LOOKS: u32 = 16;

/// Looks until `has_come`, not longer than `most`. Whoever calls this sleeps then, if it has not.
pub(crate) fn stay_awake(most: Duration, mut has_come: impl FnMut() -> bool) {
    let begun = Instant::now();
    while begun.elapsed() < most {
        for _ in 0..LOOKS {
            if has_come() {
                return;
            }
            arch::pause();
        }
        process::sched_yield();
    }
}

/// A deadline whose clock is first looked at when that is worth it: most turns are over before.
pub(crate) struct Limit {
    length: Option<Duration>,
    end: Option<Instant>,
}

impl Limit {
    pub(crate) fn new(length: Option<Duration>) -> Self {
        Self { length, end: None }
    }

    /// When it is over. The time runs from the first call on.
    pub(crate) fn end(&mut self) -> Option<Instant> {
        if let (None, Some(length)) = (self.end, self.length.take()) {
            // One that the clock cannot say is none.
            self.end = Instant::now().checked_add(length);
        }
        self.end
    }

    /// Whether it is over.
    pub(crate) fn is_over(&mut self) -> bool {
        self.end().is_some_and(|end| end <= Instant::now())
    }
}
