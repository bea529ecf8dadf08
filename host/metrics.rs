//! What an engine has done: counts, and how long it took.
//!
//! Nothing here is on the path of a turn but a counter of the instance's own, which is added up
//! when the instance goes; and one turn in [`SAMPLED`] is timed.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::error::{Blame, Error, Misuse};

/// One turn in so many is timed: two looks at the clock cost as much as the turn itself.
const SAMPLED: u64 = 1024;

/// How many classes of durations there are: class `n` ends before 2^n nanoseconds.
const CLASSES: usize = 40;

/// What an engine has done so far, by [`Engine::metrics`](crate::Engine::metrics).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Workers that were started, each until it was locked down.
    pub spawns: Latencies,
    /// Starts that failed.
    pub failed_spawns: u64,
    /// Workers that the pool gave to another instance, cleaning included.
    pub reuses: Latencies,
    /// Resets and restores that were asked for.
    pub resets: Latencies,
    /// Turns of guests: entries, and returns from hostcalls and faults. One in 1,024 of an
    /// instance's is timed, until the guest gives the turn back. Those of an instance are added
    /// when it is dropped.
    pub turns: u64,
    /// How long those took that were timed.
    pub timed_turns: Latencies,
    /// Page faults that came to the host. Those of an instance are added when it is dropped.
    pub faults: u64,
    /// Workers that have ended, by reason. Each is counted when its instance is dropped, or when
    /// the pool gives it up.
    pub kills: Kills,
}

/// Why workers have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kills {
    /// Their instance was dropped, or they were one too many.
    pub dropped: u64,
    /// They did not stop when they were told to.
    pub unresponsive: u64,
    /// They wrote what no honest worker writes.
    pub forged: u64,
    /// They could not be made as new.
    pub spoiled: u64,
    /// They ended by themselves, or by somebody else's hand.
    pub died: u64,
}

/// How often, and how long each took, within a factor of two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latencies {
    classes: [u64; CLASSES],
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            classes: [0; CLASSES],
        }
    }
}

impl Latencies {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// A time that so many per cent of them did not take longer than: at most twice what they took.
    /// Nothing if there were none. Whatever took longer counts as about nine minutes.
    #[must_use]
    pub fn percentile(&self, percent: u32) -> Option<Duration> {
        let count = self.count();
        let rank = (count * u64::from(percent.min(100))).div_ceil(100).max(1);
        let mut before = 0;
        let class = self.classes.iter().position(|class| {
            before += class;
            before >= rank
        })?;
        Some(Duration::from_nanos(1 << class))
    }
}

/// The counters behind [`Metrics`]. Relaxed throughout: each says nothing but itself.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) spawns: Timed,
    pub(crate) failed_spawns: AtomicU64,
    pub(crate) reuses: Timed,
    pub(crate) resets: Timed,
    pub(crate) turns: AtomicU64,
    pub(crate) timed_turns: Timed,
    pub(crate) faults: AtomicU64,
    kills: [AtomicU64; 5],
}

/// What one instance has done, until it is added up.
#[derive(Default)]
pub(crate) struct Tally {
    turns: u64,
    pub(crate) faults: u64,
    /// When the turn began that is timed.
    begun: Option<Instant>,
}

impl Tally {
    #[inline]
    pub(crate) fn turn_begins(&mut self) {
        self.turns += 1;
        if self.turns.is_multiple_of(SAMPLED) {
            self.begun = Some(Instant::now());
        }
    }

    /// When the turn began that is over, if it is one of those that are timed.
    #[inline]
    pub(crate) fn timed_turn(&mut self) -> Option<Instant> {
        self.begun.take()
    }
}

/// Why a worker has ended.
#[derive(Clone, Copy)]
pub(crate) enum Kill {
    Dropped,
    Unresponsive,
    Forged,
    Spoiled,
    Died,
}

impl Kill {
    /// What has become of a worker that was not made as new.
    pub(crate) fn by(error: &Error) -> Self {
        match error.blame {
            Blame::Forged(_) => Self::Forged,
            Blame::Caller(Misuse::Over) => Self::Died,
            _ => Self::Spoiled,
        }
    }
}

/// Durations by their classes.
pub(crate) struct Timed([AtomicU64; CLASSES]);

impl Default for Timed {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; CLASSES])
    }
}

impl Timed {
    pub(crate) fn since(&self, begun: Instant) {
        let nanoseconds = begun.elapsed().as_nanos();
        let class = (u128::BITS - nanoseconds.leading_zeros()) as usize;
        self.0[class.min(CLASSES - 1)].fetch_add(1, Relaxed);
    }

    fn read(&self) -> Latencies {
        let mut classes = [0; CLASSES];
        for (class, counter) in classes.iter_mut().zip(&self.0) {
            *class = counter.load(Relaxed);
        }
        Latencies { classes }
    }
}

impl Counters {
    pub(crate) fn killed(&self, why: Kill) {
        self.kills[why as usize].fetch_add(1, Relaxed);
    }

    /// Adds up an instance that is dropped. One that has done nothing writes nothing: others write
    /// here too.
    pub(crate) fn add(&self, tally: Tally) {
        for (counter, more) in [(&self.turns, tally.turns), (&self.faults, tally.faults)] {
            if more > 0 {
                counter.fetch_add(more, Relaxed);
            }
        }
    }

    pub(crate) fn read(&self) -> Metrics {
        let kills = |why: Kill| self.kills[why as usize].load(Relaxed);
        Metrics {
            spawns: self.spawns.read(),
            failed_spawns: self.failed_spawns.load(Relaxed),
            reuses: self.reuses.read(),
            resets: self.resets.read(),
            turns: self.turns.load(Relaxed),
            timed_turns: self.timed_turns.read(),
            faults: self.faults.load(Relaxed),
            kills: Kills {
                dropped: kills(Kill::Dropped),
                unresponsive: kills(Kill::Unresponsive),
                forged: kills(Kill::Forged),
                spoiled: kills(Kill::Spoiled),
                died: kills(Kill::Died),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Counters, Kill};
    use std::time::{Duration, Instant};

    #[test]
    fn a_percentile_is_within_a_factor_of_two() {
        let counters = Counters::default();
        let ago = |duration| Instant::now().checked_sub(duration).unwrap();
        for _ in 0..99 {
            counters.spawns.since(ago(Duration::from_millis(100)));
        }
        counters.spawns.since(ago(Duration::from_secs(10)));
        let spawns = counters.read().spawns;
        assert_eq!(spawns.count(), 100);
        let half = spawns.percentile(50).unwrap();
        assert!(
            (Duration::from_millis(100)..Duration::from_millis(300)).contains(&half),
            "{half:?}"
        );
        assert!(spawns.percentile(100).unwrap() >= Duration::from_secs(10));
        assert_eq!(counters.read().resets.percentile(50), None);
    }

    #[test]
    fn kills_are_counted_by_reason() {
        let counters = Counters::default();
        counters.killed(Kill::Forged);
        counters.killed(Kill::Died);
        counters.killed(Kill::Died);
        let kills = counters.read().kills;
        assert_eq!((kills.forged, kills.died, kills.dropped), (1, 2, 0));
    }
}
