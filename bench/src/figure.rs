//! One figure: what was measured, on whose side, and what came of it.

use std::error::Error;
use std::thread;
use std::time::Instant;

use serde::{Serialize, Serializer};

/// Why something was not measured.
pub type Failure = Box<dyn Error + Send + Sync>;

/// What is measured. Figures of one topic belong side by side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    /// The guest's touch of a page that was never there.
    FaultZero,
    /// The same, 16 pages at a time, for each page.
    FaultZero16,
    /// The guest's touch of a page whose contents are in memory already.
    FaultPresent,
    /// The same, 16 pages at a time, for each page.
    FaultPresent16,
    /// Out of the guest and back, doing nothing there.
    Hostcall,
    /// The host reads 64 bytes of guest memory while the guest waits.
    Read64,
    /// The host writes 64 bytes of guest memory while the guest waits.
    Write64,
    /// A hostcall that reads 64 bytes.
    HostcallRead64,
    /// A hostcall that writes 64 bytes.
    HostcallWrite64,
    /// Guest memory as it was at first, after 16 pages were written.
    Reset16,
    /// After 256 pages.
    Reset256,
    /// After 4096 pages.
    Reset4096,
    /// Guest memory of 64 MiB as it was in a snapshot, after 16 pages were written.
    Restore16,
    /// An instance with 64 MiB of memory, to the end of its first run; for us, the second one of a
    /// snapshot.
    Instance,
    /// What such an instance takes of the machine's memory, in KiB.
    InstanceMemory,
    /// 100 KiB of code to where the guest can run it.
    Code100KiB,
    /// 1 MiB of code to where the guest can run it.
    Code1MiB,
}

impl Topic {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 17] = [
        Self::FaultZero,
        Self::FaultZero16,
        Self::FaultPresent,
        Self::FaultPresent16,
        Self::Hostcall,
        Self::Read64,
        Self::Write64,
        Self::HostcallRead64,
        Self::HostcallWrite64,
        Self::Reset16,
        Self::Reset256,
        Self::Reset4096,
        Self::Restore16,
        Self::Instance,
        Self::InstanceMemory,
        Self::Code100KiB,
        Self::Code1MiB,
    ];

    /// For people and for JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FaultZero => "fault: a zero page",
            Self::FaultZero16 => "fault: 16 zero pages, each",
            Self::FaultPresent => "fault: a page in memory",
            Self::FaultPresent16 => "fault: 16 pages in memory, each",
            Self::Hostcall => "hostcall",
            Self::Read64 => "host reads 64 bytes",
            Self::Write64 => "host writes 64 bytes",
            Self::HostcallRead64 => "hostcall that reads 64 bytes",
            Self::HostcallWrite64 => "hostcall that writes 64 bytes",
            Self::Reset16 => "reset, 16 dirty pages",
            Self::Reset256 => "reset, 256 dirty pages",
            Self::Reset4096 => "reset, 4096 dirty pages",
            Self::Restore16 => "restore of 64 MiB, 16 dirty pages",
            Self::Instance => "instance with 64 MiB",
            Self::InstanceMemory => "its new memory, KiB",
            Self::Code100KiB => "100 KiB of code",
            Self::Code1MiB => "1 MiB of code",
        }
    }

    /// What ours is to be at the most, where that was said before it was measured.
    #[must_use]
    pub const fn target(self) -> Option<Target> {
        let at_most = match self {
            Self::FaultZero => {
                return Some(Target {
                    at_most: 3.8,
                    of_peer: Some(0.9),
                });
            }
            Self::FaultZero16 => 1.6,
            Self::FaultPresent => 2.8,
            Self::Read64 | Self::Write64 => 0.02,
            Self::Reset16 => 4.0,
            Self::Reset256 => 40.0,
            Self::Reset4096 => 1000.0,
            Self::Restore16 => 50.0,
            Self::Instance => 100.0,
            Self::InstanceMemory => 1024.0,
            Self::Code100KiB => 10.0,
            Self::Code1MiB => 120.0,
            Self::FaultPresent16
            | Self::Hostcall
            | Self::HostcallRead64
            | Self::HostcallWrite64 => return None,
        };
        Some(Target {
            at_most,
            of_peer: None,
        })
    }
}

/// What a median of ours is to be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Target {
    /// At the most so much, in the topic's unit.
    pub at_most: f64,
    /// At the most this part of the peer's, where that was measured.
    pub of_peer: Option<f64>,
}

impl Serialize for Topic {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(self.name())
    }
}

/// Who did it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Cellwall.
    Ours,
    /// The machine and the bare kernel.
    Limit,
    /// Another project, as its library is published.
    Peer,
}

/// Microseconds, unless the topic says otherwise: the median and the 99th percentile.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
}

/// What came of a measurement.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// It was measured.
    Measured(Quantiles),
    /// It was not.
    Not {
        /// Why.
        #[serde(rename = "not_measured")]
        why: String,
    },
}

/// A result. The names in its JSON are stable: other programs read them.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub topic: Topic,
    /// On whose side.
    pub side: Side,
    /// Which way of doing it.
    pub how: &'static str,
    /// In the topic's unit.
    #[serde(flatten)]
    pub value: Value,
}

impl Figure {
    /// The median, if it was measured.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        match self.value {
            Value::Measured(quantiles) => Some(quantiles.p50),
            Value::Not { .. } => None,
        }
    }
}

/// Something to measure.
pub struct Measure {
    /// What.
    pub topic: Topic,
    /// On whose side.
    pub side: Side,
    /// Which way of doing it.
    pub how: &'static str,
    /// Does it.
    pub run: fn() -> Result<Quantiles, Failure>,
}

impl Measure {
    /// Measures, on a thread of its own: what is done there to the thread's CPUs ends with it.
    ///
    /// A failure is a value, and so is a panic.
    #[must_use]
    pub fn run(&self) -> Figure {
        let value = match thread::spawn(self.run).join() {
            Ok(Ok(quantiles)) => Value::Measured(quantiles),
            Ok(Err(failure)) => Value::Not {
                why: failure.to_string(),
            },
            Err(_) => Value::Not {
                why: "it panicked".to_owned(),
            },
        };
        Figure {
            topic: self.topic,
            side: self.side,
            how: self.how,
            value,
        }
    }
}

/// The median and the 99th percentile of samples in any order.
///
/// # Errors
///
/// If there are none.
pub fn quantiles(mut samples: Vec<f64>) -> Result<Quantiles, Failure> {
    samples.sort_by(f64::total_cmp);
    let at = |share: usize| {
        let index = (samples.len() * share / 100).min(samples.len().saturating_sub(1));
        samples.get(index).copied().ok_or("no samples")
    };
    Ok(Quantiles {
        p50: at(50)?,
        p99: at(99)?,
    })
}

/// Microseconds since `start` for each of so many operations.
pub(crate) fn each(start: Instant, operations: u32) -> f64 {
    start.elapsed().as_secs_f64() * 1e6 / f64::from(operations)
}

#[cfg(test)]
mod tests {
    use super::{Measure, Quantiles, Side, Topic, Value, quantiles};

    #[test]
    fn quantiles_are_of_the_sorted_samples() {
        let samples = (0..1000u32).rev().map(f64::from).collect();
        let found = quantiles(samples).unwrap();
        assert_eq!(
            found,
            Quantiles {
                p50: 500.0,
                p99: 990.0
            }
        );
        assert!(quantiles(Vec::new()).is_err());
    }

    #[test]
    fn a_failure_and_a_panic_are_values() {
        let cases: [(fn() -> _, &str); 2] = [
            (|| Err("not here".into()), "not here"),
            (|| panic!("on purpose"), "it panicked"),
        ];
        for (run, expected) in cases {
            let measure = Measure {
                topic: Topic::Hostcall,
                side: Side::Peer,
                how: "",
                run,
            };
            let Value::Not { why } = measure.run().value else {
                panic!("it was measured");
            };
            assert_eq!(why, expected);
        }
    }
}
