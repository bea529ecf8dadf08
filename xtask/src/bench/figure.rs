//! One figure: ours, a peer's, the machine's limit.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

/// A measured figure. The names of the fields are stable: other programs read the JSON.
#[derive(Serialize)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) unit: &'static str,
    pub(super) ours: Quantiles,
    pub(super) peer: Option<Other>,
    pub(super) limit: Option<Other>,
    pub(super) ratio_to_peer: Option<f64>,
    pub(super) ratio_to_limit: Option<f64>,
}

#[derive(Serialize, Clone, Copy)]
pub(super) struct Quantiles {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// What ours is compared with.
#[derive(Serialize)]
pub(super) struct Other {
    pub(super) name: &'static str,
    #[serde(flatten)]
    pub(super) quantiles: Quantiles,
}

impl Figure {
    /// A figure that has no limit of its own: a part of another one.
    pub(super) fn part(name: impl Into<String>, unit: &'static str, ours: Quantiles) -> Self {
        Self {
            name: name.into(),
            unit,
            ours,
            peer: None,
            limit: None,
            ratio_to_peer: None,
            ratio_to_limit: None,
        }
    }

    /// A figure beside the machine's own limit.
    pub(super) fn with_limit(
        name: impl Into<String>,
        unit: &'static str,
        ours: Quantiles,
        limit: (&'static str, Quantiles),
    ) -> Self {
        let (limit_name, quantiles) = limit;
        Self {
            name: name.into(),
            unit,
            ours,
            peer: None,
            limit: Some(Other {
                name: limit_name,
                quantiles,
            }),
            ratio_to_peer: None,
            ratio_to_limit: Some(ours.p50 / quantiles.p50),
        }
    }
}

/// The median and the 99th percentile of samples in any order.
pub(super) fn quantiles(mut samples: Vec<f64>) -> Quantiles {
    samples.sort_by(f64::total_cmp);
    let at = |share: usize| {
        let index = (samples.len() * share / 100).min(samples.len().saturating_sub(1));
        samples.get(index).copied().unwrap_or(f64::NAN)
    };
    Quantiles {
        p50: at(50),
        p99: at(99),
    }
}

/// A duration in microseconds.
pub(super) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The figures as a Markdown table.
pub(super) fn table(figures: &[Figure]) -> String {
    let mut table = String::from(
        "| figure | unit | ours p50 | p99 | the machine's limit | p50 | ratio |\n|---|---|---|---|---|---|---|\n",
    );
    for figure in figures {
        let Quantiles { p50, p99 } = figure.ours;
        let (limit, bare, ratio) = match (&figure.limit, figure.ratio_to_limit) {
            (Some(limit), Some(ratio)) => (
                limit.name,
                format!("{:.2}", limit.quantiles.p50),
                format!("{ratio:.3}"),
            ),
            _ => ("", String::new(), String::new()),
        };
        let _ = writeln!(
            table,
            "| {} | {} | {p50:.2} | {p99:.2} | {limit} | {bare} | {ratio} |",
            figure.name, figure.unit
        );
    }
    table
}
