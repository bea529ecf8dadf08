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

/// The filter, assembled at compile time.
pub static FILTER: Program<{ length(RULES) }> = compile(RULES);

/// The same rules; what they forbid is a SIGSYS that can be reported. Other architectures' calls
/// still kill.
pub static REPORTING_FILTER: Program<{ length_reporting(RULES) }> = compile_reporting(RULES);
