//! What has been done: how often, how it ended, how long it took.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::deeds::Deed;
use crate::tenant::{Done, Stop};

/// Classes of durations for each doubling: what is told is at most a quarter too long.
const PARTS: u32 = 4;

/// How often the progress is told.
const PROGRESS_SECONDS: u64 = 10;

/// The books of a soak.
pub(crate) struct Ledger {
    begun: Instant,
    rows: Mutex<BTreeMap<&'static str, Row>>,
    /// What the host did to its workers, and how often.
    strikes: Mutex<BTreeMap<&'static str, u64>>,
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    deeds: AtomicU64,
    /// How often the progress has been told.
    told: AtomicU64,
}

/// One kind of deed.
#[derive(Default)]
struct Row {
    done: u64,
    struck: u64,
    refused: u64,
    wrong: u64,
    /// Those that were done, by their durations' classes.
    took: BTreeMap<u32, u64>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            rows: Mutex::default(),
            strikes: Mutex::default(),
            refusals: Mutex::default(),
            deeds: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }
    }

    pub(crate) fn note(&self, deed: &Deed, done: &Done, took: Duration) {
        self.deeds.fetch_add(1, Relaxed);
        let mut rows = self.rows();
        let row = rows.entry(deed.name).or_default();
        match done {
            Ok(()) => {
                row.done += 1;
                *row.took.entry(class(took)).or_default() += 1;
            }
            Err(Stop::Struck) => row.struck += 1,
            Err(Stop::Refused(by)) => {
                row.refused += 1;
                *self.refusals().entry(by).or_default() += 1;
            }
            Err(Stop::Wrong(_)) => row.wrong += 1,
        }
    }

    pub(crate) fn strike(&self, what: &'static str) {
        *self.strikes().entry(what).or_default() += 1;
    }

    /// How many deeds there were.
    pub(crate) fn deeds(&self) -> u64 {
        self.deeds.load(Relaxed)
    }

    /// Whether the progress is to be told again. Says so once.
    pub(crate) fn is_time_to_tell(&self) -> bool {
        let times = self.begun.elapsed().as_secs() / PROGRESS_SECONDS;
        self.told.swap(times, Relaxed) < times
    }

    pub(crate) fn progress(&self) -> String {
        let took = self.begun.elapsed();
        let (deeds, strikes) = (self.deeds(), self.strikes().values().sum::<u64>());
        let struck: u64 = self.rows().values().map(|row| row.struck).sum();
        let seconds = took.as_secs().max(1);
        let rate = deeds / seconds;
        format!("{seconds} s, {deeds} deeds, {rate} a second, {strikes} strikes, {struck} met")
    }

    /// The table.
    pub(crate) fn report(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:<12} {:>9} {:>8} {:>8} {:>6} {:>10} {:>10}",
            "deed", "done", "struck", "refused", "wrong", "p50", "p99"
        );
        for (name, row) in &*self.rows() {
            let (half, most) = (row.percentile(50), row.percentile(99));
            let _ = writeln!(
                text,
                "{name:<12} {:>9} {:>8} {:>8} {:>6} {half:>10} {most:>10}",
                row.done, row.struck, row.refused, row.wrong
            );
        }
        for (what, count) in &*self.strikes() {
            let _ = writeln!(text, "{what}: {count}");
        }
        for (by, count) in &*self.refusals() {
            let _ = writeln!(text, "refused {by}: {count}");
        }
        let _ = write!(text, "{}", self.progress());
        text
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<&'static str, Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusals(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn strikes(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.strikes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Row {
    /// A time that so many per cent did not take longer than.
    fn percentile(&self, percent: u64) -> String {
        let mut left = (self.done * percent).div_ceil(100);
        let class = self.took.iter().find(|(_, count)| {
            left = left.saturating_sub(**count);
            left == 0
        });
        class.map_or("-".into(), |(class, _)| format!("{:.1?}", end(*class)))
    }
}

/// The class of a duration: its power of two in nanoseconds, and which part of that.
fn class(took: Duration) -> u32 {
    let nanoseconds = took.as_nanos().max(u128::from(PARTS));
    let power = nanoseconds.ilog2();
    let part = (nanoseconds >> (power - PARTS.ilog2())) & u128::from(PARTS - 1);
    power * PARTS + u32::try_from(part).unwrap_or(0)
}

/// What all durations of a class are shorter than.
fn end(class: u32) -> Duration {
    let (power, part) = (class / PARTS, class % PARTS);
    Duration::from_nanos(u64::from(PARTS + part + 1) << (power - PARTS.ilog2()))
}

#[cfg(test)]
mod tests {
    use super::{class, end};
    use std::time::Duration;

    #[test]
    fn a_class_ends_soon_after_what_is_in_it() {
        for nanoseconds in [
            4,
            5,
            7,
            8,
            100,
            1023,
            1024,
            1025,
            999_999_999,
            60_000_000_000,
        ] {
            let took = Duration::from_nanos(nanoseconds);
            let told = end(class(took));
            assert!(
                told > took && told <= took * 5 / 4 + Duration::from_nanos(1),
                "{took:?}"
            );
        }
    }
}
