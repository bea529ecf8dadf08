//! One line of the audit.

use serde::Serialize;

/// What was tried or looked at, what should have come of it, and what did.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Which part of the audit it belongs to; a key for machines.
    pub group: &'static str,
    /// What was tried.
    pub attempt: String,
    /// What may come of it, with the reason where there are several.
    pub expected: String,
    /// What came of it.
    pub outcome: String,
    /// The layer that stopped it or that was looked at: the name of a `cellwall::Layer`; empty
    /// where it is the CPU or the kernel itself.
    pub layer: String,
    /// What follows from that.
    pub verdict: Verdict,
}

/// What follows from an outcome. What a reader must rather see is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It was stopped as expected, or the layer is as it must be.
    Holds,
    /// No file shows the layer: all that is known is the worker's report before any guest ran.
    Reported,
    /// The layer is not in this tier, not asked for, or switched off by the configuration.
    Off,
    /// The kernel or the CPU lacks a layer that is used only where there is one.
    Absent,
    /// It could not be found out.
    Unverified,
    /// A layer is not as it must be.
    Broken,
    /// The guest got what it must not get.
    GotThrough,
}

impl Verdict {
    /// Whether the wall is as it must be.
    #[must_use]
    pub const fn is_good(self) -> bool {
        matches!(
            self,
            Self::Holds | Self::Reported | Self::Off | Self::Absent
        )
    }
}
