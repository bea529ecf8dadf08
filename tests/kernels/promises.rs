//! Values that say more than is there: nothing falls back, and the feature is named.

use std::time::Duration;

use cellwall::{Blame, Config, Engine, Errno, Error, Feature, Need, Support};
use linux_raw::nr::{self, Nr};
use linux_raw::seccomp::{Cond, Is, Program, Refusal, compile_refusing, length_refusing};

use super::untried::under;
use super::{found, lives, machine, of, over_all_threads, start};
use crate::harness::{alone, both, config, eventually, forbid, kill, nurseries};

/// `PIDFD_THREAD` (include/uapi/linux/pidfd.h), and `PR_SET_MDWE`, `PR_GET_MDWE`
/// (include/uapi/linux/prctl.h).
const THREAD: u64 = 0o200;
const SET_MDWE: u64 = 65;
const GET_MDWE: u64 = 66;

const fn refused(call: Nr, when: &'static [Cond], errno: Errno) -> [Refusal; 1] {
    [Refusal { call, when, errno }]
}

const CLONE3: [Refusal; 1] = refused(nr::CLONE3, &[], Errno::ENOSYS);
const SETUP: [Refusal; 1] = refused(nr::IO_URING_SETUP, &[], Errno::ENOSYS);
const UFFD: [Refusal; 1] = refused(nr::USERFAULTFD, &[], Errno::ENOSYS);
const MSEAL: [Refusal; 1] = refused(nr::MSEAL, &[], Errno::ENOSYS);
const ENTER: [Refusal; 1] = refused(nr::IO_URING_ENTER, &[], Errno::EPERM);
const OPEN: [Refusal; 1] = refused(
    nr::PIDFD_OPEN,
    &[Cond {
        arg: 1,
        is: Is::Equal(THREAD),
    }],
    Errno::EINVAL,
);
const MDWE: [Refusal; 1] = refused(
    nr::PRCTL,
    &[Cond {
        arg: 0,
        is: Is::AnyOf2(SET_MDWE, GET_MDWE),
    }],
    Errno::EINVAL,
);
static NO_CLONE3: Program<{ length_refusing(&CLONE3) }> = compile_refusing(&CLONE3);
static NO_SETUP: Program<{ length_refusing(&SETUP) }> = compile_refusing(&SETUP);
static NO_UFFD: Program<{ length_refusing(&UFFD) }> = compile_refusing(&UFFD);
static NO_MSEAL: Program<{ length_refusing(&MSEAL) }> = compile_refusing(&MSEAL);
static NO_ENTER: Program<{ length_refusing(&ENTER) }> = compile_refusing(&ENTER);
static NO_OPEN: Program<{ length_refusing(&OPEN) }> = compile_refusing(&OPEN);
static NO_MDWE: Program<{ length_refusing(&MDWE) }> = compile_refusing(&MDWE);

/// As kernels answer that are too old.
const OLD: [(Feature, Errno, fn()); 6] = [
    (Feature::Clone3, Errno::ENOSYS, || forbid(&NO_CLONE3)),
    (Feature::IoUring, Errno::ENOSYS, || forbid(&NO_SETUP)),
    (Feature::Userfaultfd, Errno::ENOSYS, || forbid(&NO_UFFD)),
    (Feature::Mseal, Errno::ENOSYS, || forbid(&NO_MSEAL)),
    (Feature::PidfdThread, Errno::EINVAL, || forbid(&NO_OPEN)),
    (Feature::DenyWriteExecute, Errno::EINVAL, || {
        forbid(&NO_MDWE)
    }),
];

/// The feature that a start is refused for.
fn broken(config: &Config) -> (Feature, Errno) {
    let started = Engine::new(config).and_then(|engine| start(&engine).map(drop));
    let Err(error) = started else {
        panic!("a start without what was promised");
    };
    named(&error)
}

fn named(error: &Error) -> (Feature, Errno) {
    let text = error.to_string();
    let Blame::KernelDiffers { feature, errno } = error.blame else {
        panic!("{text}");
    };
    assert!(text.contains(feature.name()), "{text}");
    (feature, errno)
}

/// The same machine, seen by an engine that was told and one that was not.
#[test]
fn an_old_kernel_is_learnt_and_never_mistaken_for_a_new_one() {
    for (feature, errno, filter) in OLD {
        println!("{}", feature.name());
        under(filter, || {
            both(|config| {
                let engine = Engine::new(config).unwrap();
                lives(&engine);
                let learnt = engine.shortfalls().unwrap();
                let learnt = found(&learnt, feature).expect("its name");
                assert_eq!(learnt.support, Support::Absent(errno));
                assert_eq!(learnt.instead, feature.without());
                let more = machine().clone().with(feature, Support::Present);
                assert_eq!(broken(&config.clone().kernel(more)), (feature, errno));
            });
        });
    }
}

/// What this machine lacks itself, one by one.
#[test]
fn what_this_kernel_lacks_cannot_be_had_by_a_value() {
    for feature in of(Need::May) {
        if machine().has(feature) {
            continue;
        }
        let more = machine().clone().with(feature, Support::Present);
        assert_eq!(broken(&config().kernel(more)).0, feature);
    }
}

/// A feature that goes away between one nursery and the next, or one worker and the next. Whoever
/// was told what there is says which; others know only that the walls are not the same.
#[test]
fn what_a_later_worker_lacks_ends_its_start() {
    if !machine().has(Feature::DenyWriteExecute) {
        return absence::absent("mdwe", "there is no layer to lose");
    }
    alone(
        "kernels::promises::what_a_later_worker_lacks_ends_its_start",
        || {
            let mut engines = Vec::new();
            both(|config| {
                let told = Engine::new(&config.clone().kernel(machine().clone())).unwrap();
                let untold = Engine::new(config).unwrap();
                lives(&told);
                lives(&untold);
                engines.push((told, untold));
            });
            over_all_threads(&NO_MDWE);
            for nursery in nurseries() {
                kill(nursery, "-KILL");
            }
            for (told, untold) in engines {
                // What was idle dies first where it was the nursery's.
                let refusal = |engine: &Engine| match start(engine).err()?.blame {
                    Blame::Died(_) => None,
                    blame => Some(blame),
                };
                let first = |engine: &Engine| {
                    let mut found = None;
                    eventually(Duration::from_secs(5), "a refusal", || {
                        found = refusal(engine);
                        found.is_some()
                    });
                    found.unwrap()
                };
                let (feature, errno) = (Feature::DenyWriteExecute, Errno::EINVAL);
                for _ in 0..2 {
                    assert_eq!(first(&told), Blame::KernelDiffers { feature, errno });
                    assert_eq!(first(&untold), Blame::LayerMissing(None));
                }
                // No worker runs without it.
                assert!(found(&untold.shortfalls().unwrap(), feature).is_none());
            }
        },
    );
}

/// Workers are reaped all the same, and no start follows.
#[test]
fn what_fails_later_ends_all_starts() {
    if !machine().has(Feature::IoUring) {
        return absence::absent("io_uring", "no ring can be made");
    }
    alone(
        "kernels::promises::what_fails_later_ends_all_starts",
        || {
            let kernel = machine().clone();
            let engine = Engine::new(&config().kernel(kernel)).unwrap();
            // Its nursery is there, and goes on.
            lives(&engine);
            over_all_threads(&NO_ENTER);
            let refusal = || start(&engine).err();
            eventually(Duration::from_secs(5), "a refusal", || refusal().is_some());
            let expected = (Feature::IoUring, Errno::EPERM);
            assert_eq!(named(&refusal().unwrap()), expected);
            assert_eq!(named(&engine.warm_up().unwrap_err()), expected);
            // Nobody was told, so it goes on.
            let untold = Engine::new(&config()).unwrap();
            lives(&untold);
            eventually(Duration::from_secs(5), "it is named", || {
                found(&untold.shortfalls().unwrap(), Feature::IoUring).is_some()
            });
        },
    );
}
