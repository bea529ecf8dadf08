//! Speculation and the time-stamp counter: what `status` says, and what a guest meets.
//!
//! The words are the kernel's (fs/proc/array.c, task_seccomp): Documentation/userspace-api/
//! spec_ctrl.rst has their meaning.

use cellwall::Layer;

use super::finding::Finding;
use super::subject::Subject;

/// A kind of speculation.
struct Kind {
    layer: Layer,
    key: &'static str,
    /// What a worker shows that has it disabled for good, or where it is so for everybody.
    off: &'static [&'static str],
    /// What it shows although the kernel would have let it be disabled.
    could_be_off: &'static [&'static str],
}

const KINDS: [Kind; 2] = [
    Kind {
        layer: Layer::StoreBypass,
        key: "Speculation_Store_Bypass",
        off: &["thread force mitigated", "globally mitigated"],
        could_be_off: &["thread vulnerable", "thread mitigated"],
    },
    Kind {
        layer: Layer::IndirectBranch,
        key: "SpeculationIndirectBranch",
        off: &["conditional force disabled", "always disabled"],
        could_be_off: &["conditional enabled", "conditional disabled"],
    },
];

pub(super) fn store_bypass(subject: &Subject) -> Vec<Finding> {
    in_force(subject, &KINDS[0])
}

pub(super) fn indirect_branch(subject: &Subject) -> Vec<Finding> {
    in_force(subject, &KINDS[1])
}

fn in_force(subject: &Subject, kind: &Kind) -> Vec<Finding> {
    let Kind { key, off, .. } = kind;
    let found = subject.process.status(key);
    vec![Finding::judged(
        format!("status: {key}"),
        off.join(", or "),
        found,
        |found| off.contains(&found.as_str()),
    )]
}

/// What `status` says of a layer that the worker reported as absent: that the kernel would not have
/// let it be disabled either.
pub(super) fn absent(subject: &Subject, layer: Layer) -> Option<Finding> {
    let kind = KINDS.iter().find(|kind| kind.layer == layer)?;
    let found = subject.process.status(kind.key);
    let never = kind.could_be_off;
    Some(Finding::judged(
        format!("status: {}", kind.key),
        format!("not {}", never.join(", not ")),
        found,
        |found| !never.contains(&found.as_str()),
    ))
}

pub(super) fn timestamp_counter(subject: &Subject) -> Vec<Finding> {
    // The CPU's fault becomes SIGSEGV (PR_SET_TSC(2const)).
    vec![Finding::equal(
        "a guest executes rdtsc",
        "trap: Memory".into(),
        subject.read_counter(),
    )]
}
