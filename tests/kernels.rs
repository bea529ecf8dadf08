//! Engines on kernels that lack something, each feature alone: the kernels are values, made of what
//! the probe finds here. Either the wall stands all the same, but for what is named, or there is no
//! engine.

mod promises;
mod untried;

use std::sync::OnceLock;

use cellwall::{
    Blame, Cgroup, Config, Engine, Errno, Error, Feature, Instance, Interrupt, Kernel, Layer,
    Layers, Need, Protection, Shortfall, Standing, Support, Tier, Without, abi,
};
use iced_x86::code_asm::{qword_ptr, rax, rdi};
use linux_raw::prctl;
use linux_raw::seccomp::{InstallFlags, Program, install};

use crate::harness::{
    DATA, alone, assemble, both, call, children, config, descriptors, parts, status, tier,
};

const PAGE: u64 = 0x1000;
/// Where nothing is.
const NOWHERE: u64 = 0x40_0000;
const GONE: Support = Support::Absent(Errno::ENOSYS);

/// This kernel.
fn machine() -> &'static Kernel {
    static MACHINE: OnceLock<Kernel> = OnceLock::new();
    MACHINE.get_or_init(Kernel::probe)
}

/// This kernel without these features.
fn lacking(features: &[Feature]) -> Kernel {
    let without = |kernel: Kernel, feature: &Feature| kernel.with(*feature, GONE);
    features.iter().fold(machine().clone(), without)
}

fn of(need: Need) -> Vec<Feature> {
    let all = Feature::ALL.iter().copied();
    all.filter(|feature| feature.need() == need).collect()
}

/// A guest that calls its host and then reads at its argument.
fn start(engine: &Engine) -> Result<Instance, Error> {
    let mut module = parts(&assemble(|code| {
        code.mov(rax, abi::HOSTCALL).unwrap();
        code.call(rax).unwrap();
        code.mov(rax, qword_ptr(rdi)).unwrap();
        code.ret().unwrap();
    }));
    if engine.can_change_maps() {
        module = module.dynamic_paging();
    }
    engine.instantiate(&module.build(engine)?)
}

/// A whole life: a hostcall, a page fault as far as there are any, the end.
fn lives(engine: &Engine) {
    let mut instance = start(engine).expect("a worker");
    let is_paged = engine.can_change_maps();
    call(&mut instance, &[if is_paged { NOWHERE } else { DATA }]);
    assert!(matches!(instance.run().unwrap(), Interrupt::Hostcall(_)));
    instance.answer(1).unwrap();
    if is_paged {
        let Interrupt::PageFault(fault) = instance.run().unwrap() else {
            panic!("no page fault");
        };
        let mapped = instance.map_zero(fault.page(), PAGE, Protection::ReadWrite);
        mapped.unwrap();
    }
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(0));
}

/// A filter over every thread that there is, engines' own included.
fn over_all_threads<const N: usize>(filter: &'static Program<N>) {
    /// `SECCOMP_FILTER_FLAG_TSYNC` (include/uapi/linux/seccomp.h).
    const TSYNC: u32 = 1;
    prctl::set_no_new_privs().unwrap();
    install(filter.as_slice(), InstallFlags::from_bits_retain(TSYNC)).unwrap();
}

fn found(shortfalls: &[Shortfall], feature: Feature) -> Option<&Shortfall> {
    let mut shortfalls = shortfalls.iter();
    shortfalls.find(|shortfall| shortfall.feature == feature)
}

/// The layers are those of this kernel, but for exactly these.
fn are_all_but(without: &[Layer], layers: &Layers, here: &Layers) {
    for layer in Layer::ALL {
        let (standing, real) = (layers.standing(*layer), here.standing(*layer));
        match (without.contains(layer), real) {
            (true, Standing::InForce | Standing::Absent(_)) => {
                assert_eq!(standing, Standing::Absent(Errno::ENOSYS), "{layer:?}");
            }
            // What this kernel itself lacks, the probe and a worker may each say in their own way.
            (false, Standing::Absent(_)) => {
                assert!(matches!(standing, Standing::Absent(_)), "{layer:?}");
            }
            _ => assert_eq!(standing, real, "{layer:?}"),
        }
    }
}

/// An engine without these features lives, has the layers that do not rest on them, and says so.
fn lives_without(config: &Config, features: &[Feature]) -> Engine {
    let here = Engine::new(config).unwrap().layers().unwrap();
    let engine = Engine::new(&config.clone().kernel(lacking(features))).unwrap();
    lives(&engine);
    let layers: Vec<Layer> = features
        .iter()
        .flat_map(|feature| feature.layers())
        .copied()
        .collect();
    are_all_but(&layers, &engine.layers().unwrap(), &here);
    let shortfalls = engine.shortfalls().unwrap();
    for feature in features {
        let shortfall = found(&shortfalls, *feature);
        let shortfall = shortfall.unwrap_or_else(|| panic!("{feature:?} is not named"));
        assert_eq!(shortfall.support, GONE);
        assert_eq!(shortfall.instead, feature.without());
    }
    let is_paged = machine().has(Feature::Userfaultfd) && !features.contains(&Feature::Userfaultfd);
    assert_eq!(engine.can_change_maps(), is_paged);
    engine
}

fn refused(config: &Config) -> (Vec<Feature>, String) {
    let error = Engine::new(config).expect_err("an engine without a must");
    let text = error.to_string();
    match error.blame {
        Blame::KernelLacks(missing) => {
            (missing.into_iter().map(|lack| lack.feature).collect(), text)
        }
        _ => panic!("{text}"),
    }
}

/// At once, by name and with advice; nothing has been started or made.
#[test]
fn a_must_is_refused_by_name() {
    alone("kernels::a_must_is_refused_by_name", || {
        let before = descriptors();
        let mut refusals = 0;
        for tier in [Tier::Full, Tier::WithoutNamespaces] {
            for feature in of(Need::Must) {
                if !feature.is_for(tier) {
                    continue;
                }
                assert_eq!(feature.without(), Without::Refused);
                let config = Config::default().tier(tier).kernel(lacking(&[feature]));
                for config in [config.clone().direct(true), config] {
                    let (missing, text) = refused(&config);
                    let all = machine().missing(tier).map(|lack| lack.feature);
                    let all: Vec<Feature> = all.chain([feature]).collect();
                    assert!(missing.iter().all(|lack| all.contains(lack)), "{missing:?}");
                    let sentence = format!("{} ({GONE}), for ", feature.name());
                    assert!(
                        missing.contains(&feature) && text.contains(&sentence),
                        "{text}"
                    );
                    assert!(text.contains(feature.advice()), "{text}");
                    refusals += 1;
                }
            }
        }
        assert!(refusals > 40, "{refusals}");
        assert_eq!(children(), 0, "a process was started");
        assert_eq!(descriptors(), before);
    });
}

/// All that is missing is in one message, from a value that has nothing at all.
#[test]
fn all_that_is_missing_is_named_at_once() {
    let kernel = lacking(&of(Need::Must));
    for tier in [Tier::Full, Tier::WithoutNamespaces] {
        let (missing, text) = refused(&Config::default().tier(tier).kernel(kernel.clone()));
        let wanted = of(Need::Must).into_iter();
        let wanted: Vec<Feature> = wanted.filter(|feature| feature.is_for(tier)).collect();
        assert_eq!(missing, wanted);
        for feature in wanted {
            assert!(text.contains(feature.advice()), "{feature:?} in {text}");
        }
    }
}

/// What only the full tier needs, the weaker one does without in the first place.
#[test]
fn a_must_of_the_other_tier_is_none_of_this_one() {
    let config = config().tier(Tier::WithoutNamespaces);
    let here = Engine::new(&config).unwrap().layers().unwrap();
    let others: Vec<Feature> = of(Need::Must)
        .into_iter()
        .filter(|feature| !feature.is_for(Tier::WithoutNamespaces))
        .collect();
    for missing in others.chunks(1).chain([others.as_slice()]) {
        let engine = Engine::new(&config.clone().kernel(lacking(missing))).unwrap();
        lives(&engine);
        are_all_but(&[], &engine.layers().unwrap(), &here);
        let shortfalls = engine.shortfalls().unwrap();
        assert!(
            missing
                .iter()
                .all(|lack| found(&shortfalls, *lack).is_none())
        );
    }
}

#[test]
fn each_that_a_kernel_may_lack() {
    for feature in of(Need::May) {
        println!("{}", feature.name());
        both(|config| drop(lives_without(config, &[feature])));
        if tier() == Tier::Full {
            lives_without(&config().tier(Tier::WithoutNamespaces), &[feature]);
        }
    }
}

#[test]
fn all_that_a_kernel_may_lack_at_once() {
    both(|config| {
        let engine = lives_without(config, &of(Need::May));
        let shortfalls = engine.shortfalls().unwrap().into_iter();
        let named: Vec<Feature> = shortfalls.map(|lacking| lacking.feature).collect();
        assert_eq!(named, of(Need::May), "and nothing else");
    });
}

/// What was not wanted is not missed.
#[test]
fn what_is_not_used_is_no_shortfall() {
    let unwanted = [
        Feature::Userfaultfd,
        Feature::StoreBypass,
        Feature::IndirectBranch,
    ];
    let config = config().fixed_memory(true).keep_speculation(true);
    let here = Engine::new(&config).unwrap();
    let engine = Engine::new(&config.kernel(lacking(&unwanted))).unwrap();
    for engine in [here, engine] {
        lives(&engine);
        let shortfalls = engine.shortfalls().unwrap();
        assert!(
            unwanted
                .iter()
                .all(|lack| found(&shortfalls, *lack).is_none())
        );
        for layer in [Layer::StoreBypass, Layer::IndirectBranch] {
            assert_eq!(engine.layers().unwrap().standing(layer), Standing::Off);
        }
    }
}

#[test]
fn what_is_asked_for_must_be_there() {
    // Nobody gets as far as to open it.
    let group = || Cgroup::at("/nowhere");
    for feature in of(Need::OnRequest) {
        let kernel = lacking(&[feature]);
        let engine = Engine::new(&config().kernel(kernel.clone())).unwrap();
        lives(&engine);
        assert!(found(&engine.shortfalls().unwrap(), feature).is_none());
        let asking = match feature {
            Feature::CoreScheduling => config().core_scheduling(true),
            Feature::TimestampCounter => config().timestamp_counter(false),
            Feature::ClonesIntoCgroup => config().cgroup(group()),
            // Groups are made by others.
            Feature::Cgroup => {
                assert_eq!(feature.without(), Without::Nothing);
                continue;
            }
            other => panic!("{other:?}: who asks for it?"),
        };
        assert_eq!(feature.without(), Without::RefusedIfAsked);
        let (missing, text) = refused(&asking.kernel(kernel));
        assert!(missing.contains(&feature), "{missing:?}");
        assert!(text.contains(feature.advice()), "{text}");
    }
    // `clone` knows no cgroup.
    let old = config().cgroup(group()).kernel(lacking(&[Feature::Clone3]));
    assert!(refused(&old).0.contains(&Feature::Clone3));
}

#[test]
fn nothing_rests_on_what_is_only_shown() {
    let unused = of(Need::Unused);
    let engine = Engine::new(&config().kernel(lacking(&unused))).unwrap();
    lives(&engine);
    for feature in unused {
        assert_eq!(feature.without(), Without::Nothing);
        assert!(found(&engine.shortfalls().unwrap(), feature).is_none());
    }
}

/// Without a value an engine finds by doing what the probe finds by trying.
#[test]
fn what_is_learnt_is_what_the_probe_finds() {
    both(|config| {
        let learnt = Engine::new(config).unwrap().shortfalls().unwrap();
        let told = Engine::new(&config.clone().kernel(machine().clone())).unwrap();
        lives(&told);
        let features = |shortfalls: Vec<Shortfall>| -> Vec<Feature> {
            let each = shortfalls.into_iter();
            each.map(|shortfall| shortfall.feature).collect()
        };
        assert_eq!(features(learnt), features(told.shortfalls().unwrap()));
    });
}

/// As `/proc` shows it: neither a ring nor a userfaultfd, and no seals or mitigations by ourselves.
#[test]
fn what_is_left_out_is_not_there() {
    alone("kernels::what_is_left_out_is_not_there", || {
        let open = |what: &str| {
            descriptors()
                .iter()
                .filter(|link| link.contains(what))
                .count()
        };
        let engine = lives_without(&config(), &of(Need::May));
        let bare = start(&engine).unwrap();
        assert_eq!(open("[io_uring]") + open("[userfaultfd]"), 0);
        let mitigations = |worker: &Instance| {
            ["Speculation_Store_Bypass", "SpeculationIndirectBranch"].map(|key| status(worker, key))
        };
        let own = |key: &str| {
            let text = std::fs::read_to_string("/proc/self/status").unwrap();
            let value = text.lines().find_map(|line| line.strip_prefix(key));
            value
                .expect("a mitigation")
                .trim_matches([':', '\t'])
                .to_owned()
        };
        let inherited = ["Speculation_Store_Bypass", "SpeculationIndirectBranch"].map(own);
        assert_eq!(mitigations(&bare), inherited);
        drop((bare, engine));
        let whole = Engine::new(&config()).unwrap();
        let _whole = start(&whole).unwrap();
        let expected = usize::from(machine().has(Feature::IoUring));
        assert_eq!(open("[io_uring]"), expected);
        let expected = usize::from(machine().has(Feature::Userfaultfd));
        assert_eq!(open("[userfaultfd]"), expected);
    });
}
