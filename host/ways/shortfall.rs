//! What is done without a feature, as a table and in words.

use std::fmt;

use vmctx::Layer;

use crate::probe::{Feature, Finding, Need, Support};

/// What an engine does where the kernel lacks a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Without {
    /// There is no engine: the feature is a must.
    Refused,
    /// There is none for a configuration that asks for it; for others nothing changes.
    RefusedIfAsked,
    /// The same wall stands, made or watched in this way.
    AnotherWay(&'static str),
    /// The wall stands without these layers, which [`Engine::layers`](crate::Engine::layers) lists
    /// as absent. No must is among them.
    WithoutLayers(&'static [Layer]),
    /// The same wall stands; memory maps are fixed when a worker starts, as by
    /// [`Config::fixed_memory`](crate::Config::fixed_memory).
    FixedMemory,
    /// Nothing: no engine uses it.
    Nothing,
}

impl Feature {
    /// What an engine does where the kernel lacks it.
    ///
    /// ```
    /// use cellwall::{Feature, Layer, Without};
    ///
    /// assert_eq!(Feature::Landlock.without(), Without::Refused);
    /// assert_eq!(Feature::Mseal.without(), Without::WithoutLayers(&[Layer::Mseal]));
    /// ```
    #[must_use]
    pub const fn without(self) -> Without {
        match self.need() {
            Need::Must => Without::Refused,
            // Config::cgroup takes a group that others have made.
            Need::OnRequest if matches!(self, Self::Cgroup) => Without::Nothing,
            Need::OnRequest => Without::RefusedIfAsked,
            Need::Unused => Without::Nothing,
            Need::May => match self {
                Self::Clone3 => Without::AnotherWay("processes are made by clone"),
                Self::IoUring => Without::AnotherWay("the engine's thread waits by poll"),
                // Between the thread's end and the process' a start is not ended by its look, but
                // by the kernel's signal, or by the next look.
                Self::PidfdThread => Without::AnotherWay(
                    "workers look at the host's process, not at its thread that started them",
                ),
                Self::Userfaultfd => Without::FixedMemory,
                _ => Without::WithoutLayers(self.layers()),
            },
        }
    }
}

/// A feature that the kernel lacks and an engine would use.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shortfall {
    /// Which feature.
    pub feature: Feature,
    /// Why it is not there; never [`Support::Present`].
    pub support: Support,
    /// What is done instead.
    pub instead: Without,
}

impl fmt::Display for Without {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => out.write_str("there is no engine"),
            Self::RefusedIfAsked => out.write_str("there is no engine that asks for it"),
            Self::AnotherWay(way) => out.write_str(way),
            Self::WithoutLayers(layers) => {
                let names: Vec<&str> = layers.iter().map(|layer| layer.name()).collect();
                write!(out, "the wall stands without {}", names.join(", "))
            }
            Self::FixedMemory => out.write_str("memory maps are fixed when a worker starts"),
            Self::Nothing => out.write_str("nothing changes"),
        }
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, support) = (self.feature.name(), &self.support);
        write!(out, "{name} ({support}): {}", self.instead)
    }
}

/// What is missing, why, what for and what to do about it: a sentence or two for each.
pub(crate) fn explained(missing: &[Finding]) -> String {
    let explain = |finding: &Finding| {
        let Finding {
            feature, support, ..
        } = finding;
        let (name, purpose) = (feature.name(), feature.needed_for());
        let advice = finding.advice().unwrap_or_default();
        format!("{name} ({support}), for {purpose}. {advice}")
    };
    let each: Vec<String> = missing.iter().map(explain).collect();
    each.join(" It lacks ")
}
