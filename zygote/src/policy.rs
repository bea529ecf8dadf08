//! The system calls that are left: three, one address.

use linux_raw::nr;
use linux_raw::seccomp::{
    Cond, Is, Program, Rule, compile, compile_reporting, length, length_reporting,
};
use vmctx::map;

/// Everything else kills the process. The architecture is checked first.
///
/// Each rule is needed by code of the zygote's that runs between guests; `cargo xtask
/// build-zygote --check` finds one that is not.
pub const RULES: &[Rule] = &[
    Rule {
        call: nr::FUTEX,
        when: &[
            Cond {
                arg: 0,
                is: Is::Equal(map::STATE_WORD),
            },
            Cond {
                arg: 1,
                is: Is::AnyOf2(FUTEX_WAIT, FUTEX_WAKE),
            },
            Cond {
                arg: 3,
                is: Is::Equal(0),
            },
        ],
        why: "wait for the host and wake it: on the state word, without a timeout",
    },
    Rule {
        call: nr::SCHED_YIELD,
        when: &[],
        why: "let the host run where CPUs are short",
    },
    Rule {
        call: nr::EXIT_GROUP,
        when: &[],
        why: "end, which a guest may do at any time",
    },
];

/// The operations, without any of the flags that make others of them.
const FUTEX_WAIT: u64 = linux_raw::sys::general::FUTEX_WAIT as u64;
const FUTEX_WAKE: u64 = linux_raw::sys::general::FUTEX_WAKE as u64;

/// What a nursery and the lock-down of its workers need. It is in force long before [`RULES`],
/// which forbid most of it again, and the kernel installs those faster: it tries each call that is
/// allowed so far against a new filter (kernel/seccomp.c, `seccomp_cache_prepare_bitmap`).
pub const NURSERY_RULES: &[Rule] = &[
    every(nr::FUTEX, "sleep until the next request; wait for the host"),
    every(nr::CLONE3, "clone a worker"),
    every(nr::CLONE, "the same where clone3 is forbidden"),
    every(nr::CLOSE, "give back what the host has handed over"),
    every(nr::CLOSE_RANGE, "close every descriptor of a worker's"),
    every(nr::RECVMSG, "take what the host hands over"),
    every(nr::SENDMSG, "give what the host may not fetch"),
    every(nr::DUP3, "keep it under the number that the host said"),
    every(nr::WAITID, "reap workers"),
    every(
        nr::PIDFD_SEND_SIGNAL,
        "end a worker that the host cannot take over",
    ),
    every(nr::MMAP, "map a worker's memory"),
    every(nr::PWRITE64, "leave a worker its wall"),
    every(nr::MSEAL, "seal a worker's mappings"),
    every(
        nr::PRCTL,
        "the worker's name, and its core-scheduling cookie",
    ),
    every(
        nr::USERFAULTFD,
        "make the descriptor of a worker's page table",
    ),
    every(nr::PRLIMIT64, "a worker's limits"),
    every(nr::SECCOMP, "the worker's filter"),
    every(nr::SCHED_YIELD, "what a guest may do"),
    every(nr::EXIT_GROUP, "what a guest may do, and how a start fails"),
];

const fn every(call: nr::Nr, why: &'static str) -> Rule {
    Rule {
        call,
        when: &[],
        why,
    }
}

/// The nursery's filter.
pub static NURSERY_FILTER: Program<{ length(NURSERY_RULES) }> = compile(NURSERY_RULES);

/// The filter, assembled at compile time.
pub static FILTER: Program<{ length(RULES) }> = compile(RULES);

/// The same rules; what they forbid is a SIGSYS that can be reported. Other architectures' calls
/// still kill.
pub static REPORTING_FILTER: Program<{ length_reporting(RULES) }> = compile_reporting(RULES);
