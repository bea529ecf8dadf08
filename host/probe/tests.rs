//! The value, forged; the real thing runs in `tests/` and by the command line.

use linux_raw::Errno;
use linux_raw::signal::Signal;

use vmctx::{Layer, LayerNeed, Tier};

use super::{Feature, Kernel, Manager, Need, Obstacle, Support, Surroundings};

#[test]
fn each_must_is_needed_and_nothing_else_is() {
    for &feature in Feature::ALL {
        let kernel = Kernel::with_everything("6.1.0").with(feature, Support::Absent(Errno::ENOSYS));
        assert!(!kernel.has(feature));
        for tier in [Tier::Full, Tier::WithoutNamespaces] {
            let is_needed = feature.need() == Need::Must && feature.is_for(tier);
            assert_eq!(kernel.can_run(tier), !is_needed, "{feature:?} {tier:?}");
        }
    }
}

#[test]
fn whatever_is_not_there_has_one_sentence_of_advice() {
    let reasons = [
        Support::Absent(Errno::ENOSYS),
        Support::Absent(Errno::EMFILE),
        Support::Absent(Errno::ECHILD),
        Support::Forbidden(Obstacle::Filter(Errno::EPERM)),
        Support::Forbidden(Obstacle::Killed(Signal::SYS)),
        Support::Forbidden(Obstacle::Killed(Signal::INT)),
        Support::Forbidden(Obstacle::TimedOut),
        Support::Forbidden(Obstacle::NoProcess(Errno::EPERM)),
        Support::Forbidden(Obstacle::NoProcess(Errno::EAGAIN)),
        Support::Forbidden(Obstacle::Chroot),
        Support::Forbidden(Obstacle::NotDumpable),
        Support::Forbidden(Obstacle::Confined {
            module: "AppArmor",
            label: "docker-default (enforce)".into(),
        }),
        Support::Forbidden(Obstacle::Limit {
            name: "RLIMIT_NOFILE",
            value: 4,
            errno: Errno::EMFILE,
        }),
        Support::Forbidden(Obstacle::Lacks(Feature::UserNamespace)),
        Support::Forbidden(Obstacle::Sysctl {
            name: "vm.memfd_noexec",
            value: "2".into(),
            wanted: "0 or 1",
        }),
    ];
    let managers = [
        None,
        Some(Manager::Docker),
        Some(Manager::Podman),
        Some(Manager::Kubernetes),
        Some(Manager::Systemd),
        Some(Manager::Container),
    ];
    let all = Feature::ALL
        .iter()
        .flat_map(|feature| managers.map(|manager| (*feature, manager)));
    for (feature, manager) in all {
        for reason in &reasons {
            let around = Surroundings {
                manager,
                ..Surroundings::default()
            };
            let kernel = Kernel::with_everything("").amid(around);
            let kernel = kernel.with(feature, reason.clone());
            let finding = kernel
                .findings()
                .iter()
                .find(|finding| !finding.is_present());
            let advice = finding.and_then(super::Finding::advice).unwrap_or_default();
            assert!(
                advice.ends_with('.')
                    && !advice.contains(". ")
                    && !advice.contains(['\n', '\t'])
                    && !advice.contains("  "),
                "{feature:?}: {advice:?}"
            );
        }
    }
    let whole = Kernel::with_everything("");
    assert!(
        whole
            .findings()
            .iter()
            .all(|finding| finding.advice().is_none())
    );
}

/// Such as a sysctl that keeps processes of one user from tracing each other.
#[test]
fn nobody_is_asked_to_allow_what_is_not_needed() {
    let sysctl = Obstacle::Sysctl {
        name: "kernel.any",
        value: "1".into(),
        wanted: "0",
    };
    let confined = Obstacle::Confined {
        module: "AppArmor",
        label: "docker-default (enforce)".into(),
    };
    let obstacles = [
        sysctl.clone(),
        confined,
        Obstacle::Filter(Errno::EPERM),
        Obstacle::Killed(Signal::SYS),
    ];
    let told = |feature: Feature, obstacle: &Obstacle| {
        let support = Support::Forbidden(obstacle.clone());
        let kernel = Kernel::with_everything("").with(feature, support);
        let advice = kernel.findings().iter().find_map(super::Finding::advice);
        advice.expect("advice")
    };
    for &feature in Feature::ALL {
        match feature.need() {
            Need::Unused => {
                for obstacle in &obstacles {
                    assert_eq!(told(feature, obstacle), feature.advice());
                }
                assert!(feature.advice().starts_with("Leave it"), "{feature:?}");
            }
            need => {
                let advice = told(feature, &sysctl);
                assert!(advice.contains("kernel.any"), "{advice}");
                assert_eq!(advice.ends_with(", or leave it."), need == Need::May);
            }
        }
    }
}

#[test]
fn a_probe_tries_everything_and_changes_nothing() {
    // This thread's: a test is on another than the process' first.
    let status = || std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let before = status();
    let kernel = Kernel::probe();
    let after = status();
    let tried: Vec<_> = kernel
        .findings()
        .iter()
        .map(|finding| finding.feature)
        .collect();
    assert_eq!(tried, Feature::ALL);
    assert!(!kernel.release().is_empty());
    for key in [
        "NoNewPrivs:",
        "Seccomp:",
        "Seccomp_filters:",
        "CapBnd:",
        "CapEff:",
    ] {
        let line = |status: &str| {
            status
                .lines()
                .find(|line| line.starts_with(key))
                .map(str::to_owned)
        };
        assert_eq!(line(&before), line(&after));
    }
    assert_eq!(linux_raw::prctl::get_dumpable(), Ok(true));
    assert_ne!(linux_raw::prctl::get_mdwe(), Ok(true));
}

#[test]
fn a_probe_leaves_no_descriptor_behind() {
    // Other tests of this process open and close things too: some round must be undisturbed.
    let count = |path| std::fs::read_dir(path).unwrap().count();
    let undisturbed = (0..50).any(|_| {
        let before = count("/proc/self/fd");
        let _ = Kernel::probe();
        count("/proc/self/fd") == before
    });
    assert!(undisturbed);
}

#[test]
fn names_are_keys() {
    for &feature in Feature::ALL {
        assert_eq!(Feature::named(feature.name()), Some(feature));
    }
    assert_eq!(Feature::named("telepathy"), None);
}

#[test]
fn what_others_rest_on_is_tried_before_them() {
    for (index, feature) in Feature::ALL.iter().enumerate() {
        if let Some(base) = feature.rests_on() {
            assert!(Feature::ALL[..index].contains(&base), "{feature:?}");
            assert!(feature.since() >= base.since(), "{feature:?} is older");
            // A may that a must rests on would have to be a must.
            assert!(
                feature.need() != Need::Must || base.need() == Need::Must,
                "{feature:?}"
            );
        }
    }
}

#[test]
fn musts_are_first() {
    let is_must = |feature: &Feature| feature.need() == Need::Must;
    assert!(Feature::ALL.is_sorted_by_key(|feature| !is_must(feature)));
}

#[test]
fn a_layer_that_a_kernel_may_lack_has_one_feature() {
    for layer in Layer::ALL {
        let carries = |feature: &Feature| feature.layers().contains(layer);
        let features: Vec<_> = Feature::ALL.iter().copied().filter(carries).collect();
        let need = match layer.need() {
            LayerNeed::Must => Need::Must,
            LayerNeed::May => Need::May,
            LayerNeed::OnRequest => Need::OnRequest,
        };
        for feature in &features {
            assert_eq!(feature.need(), need, "{feature:?} {layer:?}");
            // Where the tier does without the feature, it does without the layer.
            let weaker = Tier::WithoutNamespaces;
            assert!(
                feature.is_for(weaker) || !layer.is_in(weaker),
                "{feature:?} {layer:?}"
            );
        }
        if need != Need::Must {
            let [feature] = features[..] else {
                panic!("{layer:?} rests on {features:?}");
            };
            assert_eq!(feature.since().to_string(), layer.since());
        }
    }
}

#[test]
fn what_nothing_rests_on_is_only_shown() {
    for feature in Feature::ALL
        .iter()
        .filter(|feature| feature.need() == Need::Unused)
    {
        assert!(feature.layers().is_empty());
        assert!(
            Feature::ALL
                .iter()
                .all(|other| other.rests_on() != Some(*feature))
        );
    }
}
