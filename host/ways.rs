//! What an engine does where the kernel lacks something: decided here, and nowhere else.
//!
//! [`Feature::without`] is the table. Whoever could use a feature asks [`Ways::may_use`] first, and
//! whoever finds that the kernel refuses it tells [`Ways::lack`] before going on without: that
//! notes it for [`Engine::shortfalls`](crate::Engine::shortfalls), or refuses, if the kernel of
//! [`Config::kernel`](crate::Config::kernel) was to have it. Without such a value the engine learns
//! all of this by doing; with one it is known from the start.

mod shortfall;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use linux_raw::Errno;
use linux_raw::process::CloneBy;
use vmctx::{Layer, LayerNeed, LayerSet};

pub(crate) use self::shortfall::explained;
pub use self::shortfall::{Shortfall, Without};
use crate::config::Config;
use crate::error::{Blame, Error, Stage};
use crate::layers::Layers;
use crate::probe::{Feature, Finding, Kernel, Need, Obstacle, Support};

/// What one engine uses and does without.
pub(crate) struct Ways {
    /// What the kernel is to be taken for.
    given: Option<Kernel>,
    /// Layers that workers are told to do without, and why.
    left_out: Vec<(Layer, Errno)>,
    /// Those that have shown so far. No other lock is taken while this one is held.
    shortfalls: Mutex<Vec<Shortfall>>,
    /// A feature that was to be there and failed where nobody could be told: no start after it.
    broken: OnceLock<Error>,
}

impl Ways {
    /// Decides all that can be decided without trying.
    ///
    /// # Errors
    ///
    /// [`Blame::KernelLacks`].
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let ways = Self {
            given: config.kernel.clone(),
            left_out: left_out(config),
            shortfalls: Mutex::default(),
            broken: OnceLock::new(),
        };
        let Some(kernel) = &config.kernel else {
            return Ok(ways);
        };
        let missing: Vec<Finding> = lacked(kernel, config, is_missed).cloned().collect();
        if !missing.is_empty() {
            return Err(Error {
                stage: Stage::Engine,
                blame: Blame::KernelLacks(missing),
            });
        }
        for finding in lacked(kernel, config, wants) {
            ways.note(finding.feature, finding.support.clone());
        }
        Ok(ways)
    }

    /// Whether a kernel was given.
    pub(crate) fn is_told(&self) -> bool {
        self.given.is_some()
    }

    /// Whether a feature may be tried: what a given kernel lacks may not, even if it is there.
    pub(crate) fn may_use(&self, feature: Feature) -> bool {
        self.given.as_ref().is_none_or(|kernel| kernel.has(feature))
    }

    /// By which call processes are made.
    pub(crate) fn clones_by(&self) -> CloneBy {
        match &self.given {
            None => CloneBy::Either,
            Some(kernel) if kernel.has(Feature::Clone3) => CloneBy::Clone3,
            Some(_) => CloneBy::Clone,
        }
    }

    /// The layers that workers are told to do without.
    pub(crate) fn without(&self) -> LayerSet {
        let layers = self.left_out.iter();
        layers.fold(LayerSet::NONE, |set, (layer, _)| set.with(*layer))
    }

    /// The same, and why.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = (Layer, Errno)> + '_ {
        self.left_out.iter().copied()
    }

    /// Goes on without a feature that the kernel has just refused.
    ///
    /// # Errors
    ///
    /// [`Blame::KernelDiffers`] with a given kernel: that has it, or it had not been tried.
    pub(crate) fn lack(&self, stage: Stage, feature: Feature, errno: Errno) -> Result<(), Error> {
        if self.is_told() {
            let blame = Blame::KernelDiffers { feature, errno };
            return Err(Error { stage, blame });
        }
        self.note(feature, Support::Absent(errno));
        Ok(())
    }

    /// The same on the engine's thread, which goes on in any case: it has processes to reap. With a
    /// given kernel no start follows.
    pub(crate) fn lack_from_now_on(&self, feature: Feature, errno: Errno) {
        if let Err(error) = self.lack(Stage::Start, feature, errno) {
            tracing::error!(%error);
            let _ = self.broken.set(error); // the first says enough
        }
    }

    /// Goes on without the layers that a worker found absent.
    ///
    /// # Errors
    ///
    /// As [`lack`](Self::lack).
    pub(crate) fn lack_layers_of(&self, layers: &Layers) -> Result<(), Error> {
        for (layer, errno) in layers.absent() {
            // What was left out by order is noted already.
            if !self.without().has(layer)
                && let Some(feature) = carrier(layer)
            {
                self.lack(Stage::Start, feature, errno)?;
            }
        }
        Ok(())
    }

    /// # Errors
    ///
    /// [`Blame::KernelDiffers`] if something has failed meanwhile that was to be there.
    pub(crate) fn still_hold(&self) -> Result<(), Error> {
        self.broken.get().cloned().map_or(Ok(()), Err)
    }

    /// All that has shown so far, in the order of [`Feature::ALL`].
    pub(crate) fn shortfalls(&self) -> Vec<Shortfall> {
        let known = self.known();
        let of = |feature: &Feature| known.iter().find(|lacking| lacking.feature == *feature);
        Feature::ALL.iter().filter_map(of).cloned().collect()
    }

    fn note(&self, feature: Feature, support: Support) {
        let instead = feature.without();
        let shortfall = Shortfall {
            feature,
            support,
            instead,
        };
        let mut known = self.known();
        if known.iter().any(|lacking| lacking.feature == feature) {
            return;
        }
        known.push(shortfall.clone());
        drop(known);
        tracing::info!("the kernel lacks {shortfall}");
    }

    fn known(&self) -> MutexGuard<'_, Vec<Shortfall>> {
        self.shortfalls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a kernel lacks of the features that a configuration has for a purpose.
fn lacked<'a>(
    kernel: &'a Kernel,
    config: &'a Config,
    purpose: fn(&Finding, &Config) -> bool,
) -> impl Iterator<Item = &'a Finding> {
    let findings = kernel.findings().iter();
    findings.filter(move |finding| !finding.is_present() && purpose(finding, config))
}

/// Whether an engine of this configuration is refused for what became of the trial.
///
/// An engine is not less than its neighbour because the probe was made at a bad moment: what would
/// take something away takes an answer of the kernel.
fn is_missed(finding: &Finding, config: &Config) -> bool {
    let feature = finding.feature;
    let is_felt = matches!(
        feature.without(),
        Without::WithoutLayers(_) | Without::FixedMemory
    );
    is_needed(feature, config) || is_felt && is_used(feature, config) && finding.is_inconclusive()
}

/// Whether an engine of this configuration is refused without the feature.
fn is_needed(feature: Feature, config: &Config) -> bool {
    match feature {
        // `clone` knows no cgroup.
        Feature::Clone3 => config.cgroup.is_some(),
        _ => is_used(feature, config) && matches!(feature.need(), Need::Must | Need::OnRequest),
    }
}

/// Whether an engine of this configuration would use what was tried.
fn wants(finding: &Finding, config: &Config) -> bool {
    is_used(finding.feature, config)
}

/// Whether an engine of this configuration would use the feature.
fn is_used(feature: Feature, config: &Config) -> bool {
    let is_wished = match feature {
        Feature::Userfaultfd => !config.fixed_memory,
        Feature::StoreBypass | Feature::IndirectBranch => !config.keep_speculation,
        Feature::CoreScheduling => config.core_scheduling,
        Feature::TimestampCounter => !config.timestamp_counter,
        Feature::ClonesIntoCgroup => config.cgroup.is_some(),
        _ => matches!(feature.need(), Need::Must | Need::May),
    };
    is_wished && feature.is_for(config.tier)
}

/// The layers that a given kernel lacks and a wall stands without.
fn left_out(config: &Config) -> Vec<(Layer, Errno)> {
    let Some(kernel) = &config.kernel else {
        return Vec::new();
    };
    let layers = lacked(kernel, config, wants).flat_map(|lacking| {
        let errno = errno_of(&lacking.support);
        let layers = lacking.feature.layers().iter();
        layers.map(move |layer| (*layer, errno))
    });
    layers
        .filter(|(layer, _)| layer.need() == LayerNeed::May)
        .collect()
}

/// The feature that a layer rests on.
fn carrier(layer: Layer) -> Option<Feature> {
    let all = Feature::ALL.iter().copied();
    let mut may = all.filter(|feature| feature.need() == Need::May);
    may.find(|feature| feature.layers().contains(&layer))
}

/// What the call would have answered; `ENOSYS` where that is not known.
fn errno_of(support: &Support) -> Errno {
    match support {
        Support::Absent(errno)
        | Support::Forbidden(
            Obstacle::Filter(errno) | Obstacle::Limit { errno, .. } | Obstacle::NoProcess(errno),
        ) => *errno,
        Support::Forbidden(Obstacle::Sysctl { .. }) => Errno::EPERM,
        Support::Forbidden(_) | Support::Present => Errno::ENOSYS,
    }
}
