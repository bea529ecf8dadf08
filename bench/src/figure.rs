//! One figure: ours, a peer's, the machine's limit.

use serde::Serialize;

use crate::target::{Target, Verdict};

/// Which way is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Better {
    /// Times, memory.
    Less,
    /// Rates, shares.
    More,
}

/// What many samples come to, in the figure's unit.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// 99 of 100 are at least as good.
    pub p99: f64,
    /// The best one.
    #[serde(skip)]
    pub best: f64,
}

impl Quantiles {
    /// Of samples in any order; `None` if there are none.
    ///
    /// ```
    /// use bench::{Better, Quantiles};
    ///
    /// let found = Quantiles::of(vec![3.0, 1.0, 2.0], Better::Less).unwrap();
    /// assert_eq!((found.best, found.p50, found.p99), (1.0, 2.0, 3.0));
    /// ```
    #[must_use]
    pub fn of(mut samples: Vec<f64>, better: Better) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        if better == Better::More {
            samples.reverse();
        }
        let at = |share: usize| {
            let index = (samples.len() * share / 100).min(samples.len().saturating_sub(1));
            samples.get(index).copied()
        };
        Some(Self {
            p50: at(50)?,
            p99: at(99)?,
            best: at(0)?,
        })
    }
}

/// What ours is compared with.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Other {
    /// Who, or which operation.
    pub name: &'static str,
    /// What was measured.
    #[serde(flatten)]
    pub quantiles: Quantiles,
}

/// A measured figure. The names of the fields are stable: other programs read the JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// For programs and for `--only`.
    pub name: String,
    /// Of all values but the ratios.
    pub unit: &'static str,
    /// Cellwall.
    pub ours: Option<Quantiles>,
    /// Another project, as its library is published.
    pub peer: Option<Other>,
    /// A second one, or another way of the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_peer: Option<Other>,
    /// The machine and the bare kernel.
    pub limit: Option<Other>,
    /// Ours as a part of the peer's.
    pub ratio_to_peer: Option<f64>,
    /// Ours as a part of the limit.
    pub ratio_to_limit: Option<f64>,
    /// What ours is to reach.
    #[serde(skip)]
    pub targets: &'static [Target],
    /// Sides that were to be measured and were not: who and why.
    #[serde(skip)]
    pub absent: Vec<(&'static str, String)>,
}

impl Figure {
    /// A figure of nothing yet.
    #[must_use]
    pub fn new(name: impl Into<String>, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            unit,
            ours: None,
            peer: None,
            other_peer: None,
            limit: None,
            ratio_to_peer: None,
            ratio_to_limit: None,
            targets: &[],
            absent: Vec::new(),
        }
    }

    /// A figure of ours alone.
    #[must_use]
    pub fn ours(name: impl Into<String>, unit: &'static str, ours: Option<Quantiles>) -> Self {
        Self {
            ours,
            ..Self::new(name, unit)
        }
    }

    /// With a limit, which the ratio of medians follows from.
    #[must_use]
    pub fn with_limit(mut self, name: &'static str, quantiles: Option<Quantiles>) -> Self {
        self.limit = quantiles.map(|quantiles| Other { name, quantiles });
        self.ratio_to_limit = self
            .ours
            .zip(quantiles)
            .map(|(ours, limit)| ours.p50 / limit.p50);
        self
    }

    /// With something to reach.
    #[must_use]
    pub fn with_targets(mut self, targets: &'static [Target]) -> Self {
        self.targets = targets;
        self
    }

    /// Whether each target is reached.
    #[must_use]
    pub fn verdicts(&self) -> Vec<Verdict> {
        self.targets
            .iter()
            .map(|target| target.verdict(self))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Better, Figure, Other, Quantiles};

    #[test]
    fn quantiles_are_of_the_sorted_samples() {
        let samples = || (0..1000u32).rev().map(f64::from).collect();
        let of = |better| {
            let found = Quantiles::of(samples(), better).unwrap();
            (found.best, found.p50, found.p99)
        };
        assert_eq!(of(Better::Less), (0.0, 500.0, 990.0));
        assert_eq!(of(Better::More), (999.0, 499.0, 9.0));
        assert!(Quantiles::of(Vec::new(), Better::Less).is_none());
        assert_eq!(Quantiles::of(vec![7.0], Better::More).unwrap().p99, 7.0);
    }

    #[test]
    fn the_json_has_the_stable_fields_and_no_others() {
        let quantiles = Quantiles::of(vec![2.0], Better::Less).unwrap();
        let mut figure = Figure::ours("call_awake", "us", Some(quantiles));
        figure.absent.push(("PolkaVM", "not here".to_owned()));
        let none = json!({
            "name": "call_awake",
            "unit": "us",
            "ours": {"p50": 2.0, "p99": 2.0},
            "peer": null,
            "limit": null,
            "ratio_to_peer": null,
            "ratio_to_limit": null,
        });
        assert_eq!(serde_json::to_value(&figure).unwrap(), none);
        let other = |name| Some(Other { name, quantiles });
        let mut figure = figure.with_limit("ping-pong", Some(quantiles));
        (figure.peer, figure.other_peer) = (other("PolkaVM"), other("wasmtime"));
        figure.ratio_to_peer = Some(0.5);
        let all = json!({
            "name": "call_awake",
            "unit": "us",
            "ours": {"p50": 2.0, "p99": 2.0},
            "peer": {"name": "PolkaVM", "p50": 2.0, "p99": 2.0},
            "other_peer": {"name": "wasmtime", "p50": 2.0, "p99": 2.0},
            "limit": {"name": "ping-pong", "p50": 2.0, "p99": 2.0},
            "ratio_to_peer": 0.5,
            "ratio_to_limit": 1.0,
        });
        assert_eq!(serde_json::to_value(&figure).unwrap(), all);
    }
}
