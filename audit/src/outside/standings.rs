//! Layers that are not in force: which of them may be so, and whether that is true.

use cellwall::{Feature, Kernel, Layer, Need, Standing};
use vmctx::LayerNeed;

use super::REPORT;
use super::finding::Finding;
use super::speculation;
use super::subject::{Subject, Wanted};
use crate::row::Verdict;

pub(super) fn judge(
    subject: &Subject,
    kernel: &Kernel,
    layer: Layer,
    standing: Standing,
) -> Vec<Finding> {
    let wanted = &subject.wanted;
    let mut findings = vec![report(wanted, layer, standing)];
    if matches!(standing, Standing::Absent(_)) {
        findings.extend(offered(kernel, layer));
        findings.extend(speculation::absent(subject, layer));
        // What agrees with the absence is no layer that holds.
        findings = findings
            .into_iter()
            .map(|finding| finding.holding_as(Verdict::Absent))
            .collect();
    }
    findings
}

/// What the worker said, against what it may say.
fn report(wanted: &Wanted, layer: Layer, standing: Standing) -> Finding {
    let outcome = standing.to_string();
    let is_off = standing == Standing::Off;
    if !layer.is_in(wanted.tier) {
        let expected = format!("off: not in the tier {}", wanted.tier.name());
        return Finding::new(REPORT, expected, outcome, is_off).holding_as(Verdict::Off);
    }
    if let Some(why) = may_be_off(wanted, layer) {
        let expected = format!("off: {why}");
        return Finding::new(REPORT, expected, outcome, is_off).holding_as(Verdict::Off);
    }
    let lacks = matches!(standing, Standing::Absent(_)) && layer.need() == LayerNeed::May;
    let expected = match layer.need() {
        LayerNeed::May => "in force where the kernel has it",
        _ => "in force",
    };
    Finding {
        look: REPORT.into(),
        expected: expected.into(),
        outcome,
        verdict: if lacks {
            Verdict::Absent
        } else {
            Verdict::Broken
        },
    }
}

/// Why the configuration has a layer switched off.
fn may_be_off(wanted: &Wanted, layer: Layer) -> Option<&'static str> {
    match layer {
        Layer::CoreScheduling if !wanted.core_scheduling => Some("not asked for"),
        Layer::TimestampCounter if wanted.timestamp_counter => Some("not asked for"),
        Layer::StoreBypass | Layer::IndirectBranch if wanted.keeps_speculation => {
            Some("the configuration keeps speculation")
        }
        _ => None,
    }
}

/// By what the probe, which tries for itself, finds a layer that only some kernels have.
fn feature_of(layer: Layer) -> Option<Feature> {
    let mut features = Feature::ALL.iter().copied();
    features.find(|feature| feature.need() == Need::May && feature.layers().contains(&layer))
}

/// Whether the kernel offers what the worker said it lacks.
fn offered(kernel: &Kernel, layer: Layer) -> Option<Finding> {
    let feature = feature_of(layer)?;
    let offers = kernel.has(feature);
    let outcome = if offers { "offered" } else { "not offered" };
    Some(Finding::new(
        format!("the kernel, tried by the probe: {}", feature.name()),
        "not offered",
        outcome,
        !offers,
    ))
}

#[cfg(test)]
mod tests {
    use cellwall::{Config, Errno, Kernel, Layer, Standing, Support, Tier};
    use vmctx::LayerNeed;

    use super::{feature_of, offered, report};
    use crate::outside::subject::Wanted;
    use crate::row::Verdict;

    #[test]
    fn only_what_may_be_missing_may_be() {
        let full = Wanted::of(&Config::default());
        let absent = Standing::Absent(Errno::ENOSYS);
        let verdict = |wanted, layer, standing| report(wanted, layer, standing).verdict;
        assert_eq!(verdict(&full, Layer::Mseal, absent), Verdict::Absent);
        assert_eq!(verdict(&full, Layer::Mseal, Standing::Off), Verdict::Broken);
        assert_eq!(verdict(&full, Layer::Limits, absent), Verdict::Broken);
        assert_eq!(
            verdict(&full, Layer::Limits, Standing::Off),
            Verdict::Broken
        );
        assert_eq!(
            verdict(&full, Layer::CoreScheduling, Standing::Off),
            Verdict::Off
        );
        assert_eq!(
            verdict(&full, Layer::StoreBypass, Standing::Off),
            Verdict::Broken
        );
        let asks = Wanted::of(
            &Config::default()
                .keep_speculation(true)
                .core_scheduling(true),
        );
        assert_eq!(
            verdict(&asks, Layer::StoreBypass, Standing::Off),
            Verdict::Off
        );
        assert_eq!(
            verdict(&asks, Layer::CoreScheduling, Standing::Off),
            Verdict::Broken
        );
    }

    #[test]
    fn the_weaker_tier_lacks_what_it_lacks_and_no_more() {
        let weaker = Wanted::of(&Config::default().tier(Tier::WithoutNamespaces));
        for &layer in Layer::ALL {
            let good = report(&weaker, layer, Standing::Off).verdict == Verdict::Off;
            let not_asked = [Layer::CoreScheduling, Layer::TimestampCounter].contains(&layer);
            assert_eq!(
                good,
                !layer.is_in(Tier::WithoutNamespaces) || not_asked,
                "{layer:?}"
            );
        }
        let lies = report(&weaker, Layer::PidNamespace, Standing::InForce);
        assert_eq!(lies.verdict, Verdict::Broken);
    }

    #[test]
    fn a_false_absence_is_told_by_the_probe() {
        let whole = Kernel::with_everything("6.18");
        let may = |layer: &&Layer| layer.need() == LayerNeed::May;
        for &layer in Layer::ALL.iter().filter(may) {
            let feature = feature_of(layer).unwrap();
            let lacking = whole.clone().with(feature, Support::Absent(Errno::ENOSYS));
            let verdict = |kernel| offered(kernel, layer).map(|finding| finding.verdict);
            assert_eq!(verdict(&lacking), Some(Verdict::Holds));
            assert_eq!(verdict(&whole), Some(Verdict::Broken));
        }
    }
}
