//! What the JSON says of one feature, and of what surrounds the process.

use std::collections::BTreeMap;

use cellwall::{Feature, Finding, Manager, Obstacle, Support, Surroundings, Tier, Without};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct AroundReport {
    seccomp_filters: u32,
    no_new_privs: bool,
    security_modules: Vec<String>,
    label: Option<String>,
    ptrace_scope: Option<u32>,
    in_chroot: bool,
    dumpable: Option<bool>,
    /// By name; one that is missing is no limit.
    limits: BTreeMap<&'static str, u64>,
    manager: Option<&'static str>,
}

impl AroundReport {
    pub(super) fn new(around: &Surroundings) -> Self {
        Self {
            seccomp_filters: around.seccomp_filters,
            no_new_privs: around.no_new_privs,
            security_modules: around.security_modules.clone(),
            label: around.label.clone(),
            ptrace_scope: around.ptrace_scope,
            in_chroot: around.in_chroot,
            dumpable: around.dumpable,
            limits: around.limits.iter().copied().collect(),
            manager: around.manager.map(Manager::name),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct FeatureReport {
    pub(super) name: &'static str,
    /// "must", "may", "on request" or "not used".
    pub(super) need: &'static str,
    /// "present", "absent" or "forbidden".
    pub(super) state: &'static str,
    /// The name of the errno that the kernel answered, where that is what is known.
    pub(super) errno: Option<&'static str>,
    /// What forbids it.
    pub(super) forbidden_by: Option<String>,
    /// What is known beyond its presence.
    pub(super) detail: Option<String>,
    /// The number in the detail.
    pub(super) value: Option<u64>,
    pub(super) needed_for: &'static str,
    /// The layers of the wall that stand on it.
    pub(super) layers: Vec<&'static str>,
    /// What it rests on.
    pub(super) rests_on: Option<&'static str>,
    /// The first kernel that has it.
    pub(super) since: String,
    pub(super) advice: Option<String>,
    /// What is done without it; nothing for what is there.
    pub(super) without: Option<String>,
}

impl FeatureReport {
    pub(super) fn new(finding: &Finding) -> Self {
        let feature = finding.feature;
        let (state, errno, forbidden_by) = match &finding.support {
            Support::Present => ("present", None, None),
            Support::Absent(errno) => ("absent", Some(*errno), None),
            Support::Forbidden(obstacle) => {
                let errno = match obstacle {
                    Obstacle::Filter(errno) | Obstacle::Limit { errno, .. } => Some(*errno),
                    _ => None,
                };
                ("forbidden", errno, Some(obstacle.to_string()))
            }
        };
        Self {
            name: feature.name(),
            need: feature.need().name(),
            state,
            errno: errno.map(cellwall::Errno::name),
            forbidden_by,
            detail: finding.detail(),
            value: finding.value,
            needed_for: feature.needed_for(),
            layers: feature.layers().iter().map(|layer| layer.name()).collect(),
            rests_on: feature.rests_on().map(Feature::name),
            since: feature.since().to_string(),
            advice: finding.advice(),
            without: (!finding.is_present()).then(|| without(feature)),
        }
    }
}

/// In the words of [`cellwall::Shortfall`]. Which tier a must is for is known here alone, and what
/// this command does itself.
fn without(feature: Feature) -> String {
    match feature.without() {
        Without::Refused if !feature.is_for(Tier::WithoutNamespaces) => {
            "there is no engine of the full tier".into()
        }
        way if feature == Feature::IoUring => {
            format!("{way}, and `cellwall run` serves guests by plain calls")
        }
        way => way.to_string(),
    }
}
