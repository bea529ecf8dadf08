//! The table and the decisions, without a kernel.

use linux_raw::Errno;
use linux_raw::signal::Signal;
use vmctx::{Layer, LayerNeed, LayerSet, Step, Tier};

use super::{Ways, Without, carrier, errno_of, is_needed, is_used};
use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Blame, Stage};
use crate::probe::{Feature, Kernel, Need, Obstacle, Support};

const NONE: Errno = Errno::ENOSYS;
const GONE: Support = Support::Absent(NONE);

#[test]
fn no_feature_is_lost_in_silence() {
    for feature in Feature::ALL {
        let layers_are_mays = feature
            .layers()
            .iter()
            .all(|layer| layer.need() == LayerNeed::May);
        match (feature.need(), feature.without()) {
            (Need::Must, Without::Refused)
            | (Need::OnRequest, Without::RefusedIfAsked | Without::Nothing)
            | (Need::Unused, Without::Nothing) => {}
            (Need::May, Without::AnotherWay(_) | Without::FixedMemory) => {
                assert!(
                    feature.layers().is_empty(),
                    "{feature:?} takes layers along"
                );
            }
            (Need::May, Without::WithoutLayers(layers)) => {
                assert!(!layers.is_empty() && layers_are_mays, "{feature:?}");
            }
            (need, without) => panic!("{feature:?}: {need:?} and {without:?}"),
        }
    }
    let carried = Layer::ALL.iter().filter(|layer| carrier(**layer).is_some());
    let carried = carried.fold(LayerSet::NONE, |set, layer| set.with(*layer));
    assert_eq!(carried, LayerSet::MAY);
}

#[test]
fn whatever_a_value_lacks_workers_leave_out_only_what_kernels_may_lack() {
    let nothing = Feature::ALL
        .iter()
        .filter(|feature| feature.need() != Need::Must)
        .fold(Kernel::with_everything("7.0"), |kernel, feature| {
            kernel.with(*feature, GONE)
        });
    let ways = Ways::new(&Config::default().kernel(nothing)).unwrap();
    assert_eq!(ways.without(), LayerSet::MAY);
    for (need, wanted) in [(Need::May, true), (Need::Must, false)] {
        let shortfalls = ways.shortfalls();
        let mut named = shortfalls.iter().map(|lacking| lacking.feature.need());
        assert_eq!(named.any(|one| one == need), wanted);
    }
}

/// The zygote ends the start, whatever the host's word says besides what a kernel may lack.
#[test]
fn no_word_takes_away_a_must() {
    for direct in [false, true] {
        let config = Config::default().tier(absence::tier()).direct(direct);
        let with = |left_out: Vec<Layer>| {
            let mut ways = Ways::new(&config).unwrap();
            ways.left_out = left_out.into_iter().map(|layer| (layer, NONE)).collect();
            Engine::with_ways(&config, ways).unwrap().layers()
        };
        let mays = || {
            Layer::ALL
                .iter()
                .copied()
                .filter(|layer| LayerSet::MAY.has(*layer))
        };
        let _ = with(mays().collect()).expect("a wall without what a kernel may lack");
        for layer in Layer::ALL
            .iter()
            .filter(|layer| !LayerSet::MAY.has(**layer))
        {
            for others in [vec![], mays().collect()] {
                let error = with([others, vec![*layer]].concat()).unwrap_err();
                assert_eq!(error.stage, Stage::Lockdown(Step::SharedPages), "{error}");
                assert!(error.is_errno(Errno::EBADMSG), "{error}");
            }
        }
    }
}

#[test]
fn a_value_is_taken_at_its_word() {
    let without = |feature| Kernel::with_everything("7.0").with(feature, GONE);
    let told = Ways::new(&Config::default().kernel(without(Feature::IoUring))).unwrap();
    assert!(!told.may_use(Feature::IoUring) && told.may_use(Feature::Mseal));
    let broken = told.lack(Stage::Start, Feature::Mseal, Errno::ENOSYS);
    assert!(matches!(
        broken.unwrap_err().blame,
        Blame::KernelDiffers {
            feature: Feature::Mseal,
            errno: Errno::ENOSYS
        }
    ));
    told.still_hold().unwrap();
    told.lack_from_now_on(Feature::Clone3, Errno::ENOSYS);
    told.still_hold().unwrap_err();
    assert_eq!(told.shortfalls().len(), 1, "what was said to be missing");

    let untold = Ways::new(&Config::default()).unwrap();
    assert!(untold.shortfalls().is_empty());
    for _ in 0..2 {
        let lacking = untold.lack(Stage::Start, Feature::Mseal, Errno::ENOSYS);
        lacking.unwrap();
    }
    untold.lack_from_now_on(Feature::Clone3, Errno::ENOSYS);
    untold.still_hold().unwrap();
    let shown: Vec<String> = untold
        .shortfalls()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        shown,
        [
            "clone3 (absent: ENOSYS (38)): processes are made by clone",
            "mseal (absent: ENOSYS (38)): the wall stands without mseal"
        ]
    );
}

/// A trial that ran out of something is no word about the kernel, so no layer is given up for it.
#[test]
fn a_probe_at_a_bad_moment_makes_no_lesser_engine() {
    let limit = Obstacle::Limit {
        name: "RLIMIT_NOFILE",
        value: 4,
        errno: Errno::EMFILE,
    };
    let moments = [
        Support::Absent(Errno::EAGAIN),
        Support::Absent(Errno::ENOMEM),
        Support::Absent(Errno::EMFILE),
        Support::Absent(Errno::ENFILE),
        Support::Absent(Errno::ECHILD),
        Support::Forbidden(limit),
        Support::Forbidden(Obstacle::TimedOut),
        Support::Forbidden(Obstacle::Killed(Signal::KILL)),
    ];
    let refused = |config: Config, feature: Feature, support: &Support| {
        let kernel = Kernel::with_everything("7.0").with(feature, support.clone());
        match Ways::new(&config.kernel(kernel)) {
            Ok(_) => false,
            Err(error) => {
                let expected = matches!(&error.blame, Blame::KernelLacks(missing)
                    if missing.len() == 1 && missing[0].feature == feature);
                assert!(expected, "{error}");
                true
            }
        }
    };
    for feature in Feature::ALL.iter().copied() {
        let takes_away = matches!(
            feature.without(),
            Without::Refused | Without::WithoutLayers(_) | Without::FixedMemory
        );
        for moment in &moments {
            let is_refused = refused(Config::default(), feature, moment);
            assert_eq!(is_refused, takes_away, "{feature:?} {moment}");
        }
    }
    // An answer of the kernel's, or what was not wanted.
    let killed = Support::Forbidden(Obstacle::Killed(Signal::SYS));
    assert!(!refused(Config::default(), Feature::Mseal, &killed));
    let plain = Config::default().fixed_memory(true).keep_speculation(true);
    for feature in [Feature::Userfaultfd, Feature::StoreBypass] {
        assert!(!refused(plain.clone(), feature, &moments[0]));
    }
}

#[test]
fn only_what_a_configuration_uses_counts() {
    let weaker = Config::default().tier(Tier::WithoutNamespaces);
    for feature in Feature::ALL {
        let by_default = is_needed(*feature, &Config::default());
        assert_eq!(by_default, feature.need() == Need::Must, "{feature:?}");
        let is_both = by_default && feature.is_for(Tier::WithoutNamespaces);
        assert_eq!(is_needed(*feature, &weaker), is_both, "{feature:?}");
    }
    let plain = Config::default().fixed_memory(true).keep_speculation(true);
    assert!(!is_used(Feature::Userfaultfd, &plain) && !is_used(Feature::StoreBypass, &plain));
    assert!(is_needed(
        Feature::CoreScheduling,
        &plain.core_scheduling(true)
    ));
}

#[test]
fn obstacles_answer_as_calls_do() {
    let filter = Support::Forbidden(Obstacle::Filter(Errno::EPERM));
    let lacks = Support::Forbidden(Obstacle::Lacks(Feature::Landlock));
    assert_eq!(errno_of(&filter), Errno::EPERM);
    assert_eq!(errno_of(&lacks), Errno::ENOSYS);
    assert_eq!(errno_of(&Support::Absent(Errno::EINVAL)), Errno::EINVAL);
    let limit = Support::Forbidden(Obstacle::Limit {
        name: "RLIMIT_MEMLOCK",
        value: 8192,
        errno: Errno::ENOMEM,
    });
    assert_eq!(errno_of(&limit), Errno::ENOMEM);
}
