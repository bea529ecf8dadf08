//! Something to measure: its sides, and what ours is to reach.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::figure::{Better, Figure};
use crate::target::Target;

/// Why something was not measured.
pub type Failure = Box<dyn Error + Send + Sync>;

/// How much is measured, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Fewer samples: all of it in less than a minute.
    pub quick: bool,
    /// The workspace's folder.
    pub root: PathBuf,
    /// Where builds go.
    pub target: PathBuf,
}

impl Plan {
    /// How long the sides of one measure take turns.
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::from_millis(if self.quick { 200 } else { 4000 })
    }

    /// How many turns there are at the least, however long they take.
    #[must_use]
    pub fn rounds(&self) -> usize {
        if self.quick { 3 } else { 10 }
    }

    /// One of two numbers.
    pub fn choose<T>(&self, quick: T, whole: T) -> T {
        if self.quick { quick } else { whole }
    }
}

/// Takes a batch of samples: some milliseconds of them, where one is short.
pub type Sampler = Box<dyn FnMut() -> Result<Vec<f64>, Failure>>;

/// Prepares a side.
pub type Start = fn(&Plan) -> Result<Sampler, Failure>;

/// Who is measured, and how.
#[derive(Clone, Copy)]
pub struct Side {
    /// Who, or which operation.
    pub name: &'static str,
    /// Prepares everything. It is called on a thread of its own, which then calls the sampler and
    /// drops it: what a side does to its thread's CPUs meets no other side.
    pub start: Start,
}

impl Side {
    /// A side of this name.
    #[must_use]
    pub const fn new(name: &'static str, start: Start) -> Self {
        Self { name, start }
    }
}

/// What ratios are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ratio {
    /// The two medians.
    Medians,
    /// The median of the ratios of samples that were taken one after the other, since two such
    /// share the machine's mood: where the noise is larger than the difference.
    Pairs,
    /// The two medians, but to the peer's best sample: its median says nothing.
    PeersBest,
}

/// How often the sides take turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turns {
    /// As long as there is time.
    Timed,
    /// So often in a quick run, and so often in a whole one: a turn takes seconds.
    Counted(usize, usize),
}

/// Something to measure, side by side.
#[derive(Clone, Copy)]
pub struct Measure {
    /// For programs and for `--only`.
    pub name: &'static str,
    /// Of all its values.
    pub unit: &'static str,
    /// In a sentence.
    pub what: &'static str,
    /// Which way is good.
    pub better: Better,
    /// What the ratios are of.
    pub ratio: Ratio,
    /// How often.
    pub turns: Turns,
    /// What ours is to reach.
    pub targets: &'static [Target],
    /// Cellwall.
    pub ours: Side,
    /// Another project.
    pub peer: Option<Side>,
    /// A second one, or another way of the first.
    pub other_peer: Option<Side>,
    /// The machine and the bare kernel.
    pub limit: Option<Side>,
}

impl Measure {
    /// A time in microseconds, ours alone.
    #[must_use]
    pub const fn new(name: &'static str, what: &'static str, ours: Start) -> Self {
        Self {
            name,
            unit: "us",
            what,
            better: Better::Less,
            ratio: Ratio::Medians,
            turns: Turns::Timed,
            targets: &[],
            ours: Side::new("Cellwall", ours),
            peer: None,
            other_peer: None,
            limit: None,
        }
    }

    /// In another unit.
    #[must_use]
    pub const fn unit(mut self, unit: &'static str, better: Better) -> Self {
        self.unit = unit;
        self.better = better;
        self
    }

    /// Beside another project.
    #[must_use]
    pub const fn peer(mut self, peer: Side) -> Self {
        self.peer = Some(peer);
        self
    }

    /// Beside a second one.
    #[must_use]
    pub const fn other_peer(mut self, peer: Side) -> Self {
        self.other_peer = Some(peer);
        self
    }

    /// Beside the bare operation.
    #[must_use]
    pub const fn limit(mut self, limit: Side) -> Self {
        self.limit = Some(limit);
        self
    }

    /// With something to reach.
    #[must_use]
    pub const fn targets(mut self, targets: &'static [Target]) -> Self {
        self.targets = targets;
        self
    }

    /// With other ratios.
    #[must_use]
    pub const fn ratio(mut self, ratio: Ratio) -> Self {
        self.ratio = ratio;
        self
    }

    /// With turns that are counted.
    #[must_use]
    pub const fn counted(mut self, quick: usize, whole: usize) -> Self {
        self.turns = Turns::Counted(quick, whole);
        self
    }
}

/// Several figures of one run, which have no other sides to take turns with.
#[derive(Clone, Copy)]
pub struct Whole {
    /// What the names of its figures begin with.
    pub name: &'static str,
    /// In a sentence.
    pub what: &'static str,
    /// Takes them.
    pub take: fn(&Plan) -> Result<Vec<Figure>, Failure>,
}

/// Microseconds since `start` for each of so many operations.
pub(crate) fn each(start: Instant, operations: u32) -> f64 {
    start.elapsed().as_secs_f64() * 1e6 / f64::from(operations)
}

/// A batch of so many samples.
pub(crate) fn batch(
    samples: usize,
    mut sample: impl FnMut() -> Result<f64, Failure>,
) -> Result<Vec<f64>, Failure> {
    (0..samples).map(|_| sample()).collect()
}
