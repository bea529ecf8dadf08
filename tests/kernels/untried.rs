//! What a value lacks is not even tried: under filters whose answer nothing takes for absence.

use cellwall::{Engine, Feature, Kernel};
use linux_raw::Errno;
use linux_raw::nr::{self, Nr};
use linux_raw::seccomp::{Cond, Is, Program, Refusal, compile_refusing, length_refusing};

use super::{lacking, lives, machine, over_all_threads, start};
use crate::harness::{alone, both, forbid};

/// `PIDFD_THREAD` (include/uapi/linux/pidfd.h), `PR_SET_MDWE`, `PR_GET_SPECULATION_CTRL` and its
/// two kinds (include/uapi/linux/prctl.h).
const THREAD: u64 = 0o200;
const SET_MDWE: u64 = 65;
const GET_SPECULATION: u64 = 52;
const STORE_BYPASS: u64 = 0;
const INDIRECT_BRANCH: u64 = 1;
/// The sizes of `struct landlock_ruleset_attr` with rights on the network, and with scopes.
const WITH_NETWORK: u64 = 16;
const WITH_SCOPES: u64 = 24;

const fn forbidden(call: Nr, when: &'static [Cond]) -> [Refusal; 1] {
    [Refusal {
        call,
        when,
        errno: Errno::EPERM,
    }]
}

const fn arg(arg: u8, value: u64) -> Cond {
    Cond {
        arg,
        is: Is::Equal(value),
    }
}

const CLONE3: [Refusal; 1] = forbidden(nr::CLONE3, &[]);
const SETUP: [Refusal; 1] = forbidden(nr::IO_URING_SETUP, &[]);
const UFFD: [Refusal; 1] = forbidden(nr::USERFAULTFD, &[]);
const MSEAL: [Refusal; 1] = forbidden(nr::MSEAL, &[]);
const OPEN: [Refusal; 1] = forbidden(nr::PIDFD_OPEN, &[arg(1, THREAD)]);
const MDWE: [Refusal; 1] = forbidden(nr::PRCTL, &[arg(0, SET_MDWE)]);
const STORES: [Refusal; 1] = forbidden(nr::PRCTL, &[arg(0, GET_SPECULATION), arg(1, STORE_BYPASS)]);
const BRANCHES: [Refusal; 1] = forbidden(
    nr::PRCTL,
    &[arg(0, GET_SPECULATION), arg(1, INDIRECT_BRANCH)],
);
const SCOPES: [Refusal; 1] = forbidden(nr::LANDLOCK_CREATE_RULESET, &[arg(1, WITH_SCOPES)]);
const RULES: [Refusal; 1] = [Refusal {
    call: nr::LANDLOCK_CREATE_RULESET,
    when: &[Cond {
        arg: 1,
        is: Is::AnyOf2(WITH_NETWORK, WITH_SCOPES),
    }],
    errno: Errno::EPERM,
}];
static NO_CLONE3: Program<{ length_refusing(&CLONE3) }> = compile_refusing(&CLONE3);
static NO_SETUP: Program<{ length_refusing(&SETUP) }> = compile_refusing(&SETUP);
static NO_UFFD: Program<{ length_refusing(&UFFD) }> = compile_refusing(&UFFD);
static NO_MSEAL: Program<{ length_refusing(&MSEAL) }> = compile_refusing(&MSEAL);
static NO_OPEN: Program<{ length_refusing(&OPEN) }> = compile_refusing(&OPEN);
static NO_MDWE: Program<{ length_refusing(&MDWE) }> = compile_refusing(&MDWE);
static NO_STORES: Program<{ length_refusing(&STORES) }> = compile_refusing(&STORES);
static NO_BRANCHES: Program<{ length_refusing(&BRANCHES) }> = compile_refusing(&BRANCHES);
static NO_SCOPES: Program<{ length_refusing(&SCOPES) }> = compile_refusing(&SCOPES);
static NO_RULES: Program<{ length_refusing(&RULES) }> = compile_refusing(&RULES);

/// A filter, and what must be missing for a start not to meet it. The kernel's own answer is never
/// asked for: a call that is made fails.
type Case = (&'static [Feature], fn());

const CASES: [Case; 9] = [
    (&[Feature::IoUring], || forbid(&NO_SETUP)),
    (&[Feature::Userfaultfd], || forbid(&NO_UFFD)),
    (&[Feature::Mseal], || forbid(&NO_MSEAL)),
    (&[Feature::PidfdThread], || forbid(&NO_OPEN)),
    (&[Feature::DenyWriteExecute], || forbid(&NO_MDWE)),
    (&[Feature::StoreBypass], || forbid(&NO_STORES)),
    (&[Feature::IndirectBranch], || forbid(&NO_BRANCHES)),
    (&[Feature::LandlockScopes], || forbid(&NO_SCOPES)),
    (&[Feature::LandlockNetwork, Feature::LandlockScopes], || {
        forbid(&NO_RULES)
    }),
];

/// In a thread of its own: the filter comes over what that makes, and over nobody else.
pub(super) fn under(filter: fn(), body: impl FnOnce() + Send) {
    let kernel = machine(); // probed without the filter
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            filter();
            body();
        });
        run.join().expect("a thread that passes");
    });
    assert_eq!(kernel, machine());
}

#[test]
fn what_a_kernel_lacks_is_not_even_tried() {
    for (missing, filter) in CASES {
        println!("{missing:?}");
        under(filter, || {
            both(|config| {
                let told = config.clone().kernel(lacking(missing));
                lives(&Engine::new(&told).unwrap());
                // The filter does forbid it.
                if missing.iter().all(|feature| machine().has(*feature)) {
                    let whole = config.clone().kernel(machine().clone());
                    let started = Engine::new(&whole).and_then(|engine| start(&engine).map(drop));
                    started.expect_err("a start by a call that is forbidden");
                }
            });
        });
    }
}

/// The same for `clone3`, by which the C library makes threads too: the engine has its own already
/// when the filter comes over all of them.
#[test]
fn a_kernel_without_clone3_is_not_asked_for_one() {
    alone(
        "kernels::untried::a_kernel_without_clone3_is_not_asked_for_one",
        || {
            let engines = |kernel: &Kernel| {
                let mut engines = Vec::new();
                both(|config| {
                    engines.push(Engine::new(&config.clone().kernel(kernel.clone())).unwrap())
                });
                engines
            };
            let (told, whole) = (engines(&lacking(&[Feature::Clone3])), engines(machine()));
            over_all_threads(&NO_CLONE3);
            told.iter().for_each(lives);
            if machine().has(Feature::Clone3) {
                for engine in whole {
                    start(&engine).expect_err("a start by a call that is forbidden");
                }
            }
        },
    );
}
