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

/// What follows from an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It was stopped as expected, or the layer is as it must be.
    Holds,
    /// The kernel lacks a layer that is used only where there is one.
    Absent,
    /// The guest got what it must not get.
    GotThrough,
    /// A layer is not as it must be.
    Broken,
    /// It could not be found out.
    Unverified,
}

impl Verdict {
    /// Whether the wall is as it must be.
    #[must_use]
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Holds | Self::Absent)
    }
}
