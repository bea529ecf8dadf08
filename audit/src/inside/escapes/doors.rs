//! The doors to the kernel, entered with flags and stacks that no program has.

use cellwall::TrapKind;

use super::{Call, Escape, call};
use crate::inside::outcome::{Expected, May, Shape};
use crate::inside::sweep::{FROM_64_BIT, KILLED};

/// The trap flag, beside the bit that is always set.
const STEP: u64 = 0x102;
/// Direction, nested task, I/O privileges, alignment check, identification, and all of them.
const FLAGS: [u64; 6] = [0x402, 0x4002, 0x3002, 0x4_0002, 0x20_0002, 0x24_7ed7];

/// `kill` of x86-64 and of i386, and numbers that are left to x86-64.
const CALLS_64: [u64; 4] = [39, 62, 219, 15];
const CALLS_32: [u64; 6] = [20, 37, 1, 24, 202, 231];

/// Each number with each of the flags.
fn with(numbers: &[u64], flags: &[u64]) -> Vec<Call> {
    let one = |number: &u64| {
        let number = *number;
        flags.iter().map(move |flags| {
            let mut call = call("a call", number, &[]);
            call.block[7] = *flags;
            call
        })
    };
    numbers.iter().flat_map(one).collect()
}

/// The step is over before the door is open, or the call is made and killed.
const STEPPED: Expected = &[
    FROM_64_BIT[0],
    FROM_64_BIT[1],
    FROM_64_BIT[2],
    May(Shape::Trap(TrapKind::Breakpoint), "the step ends before"),
];

pub(super) const ESCAPES: &[Escape] = &[
    Escape {
        name: "syscall with the trap flag set",
        program: "syscall with flags",
        calls: |_| with(&CALLS_64, &[STEP]),
        expected: KILLED,
    },
    Escape {
        name: "syscall with other flags set",
        program: "syscall with flags",
        calls: |_| with(&CALLS_64, &FLAGS),
        expected: KILLED,
    },
    Escape {
        name: "a call that is left, with the trap flag set",
        program: "syscall with flags",
        calls: |_| with(&[24], &[STEP]),
        expected: &[May(
            Shape::Trap(TrapKind::Breakpoint),
            "the trap comes after the call",
        )],
    },
    Escape {
        name: "int 0x80 with the trap flag set",
        program: "int 0x80 with flags",
        calls: |_| with(&CALLS_32, &[STEP]),
        expected: STEPPED,
    },
    Escape {
        name: "int 0x80 with other flags set",
        program: "int 0x80 with flags",
        calls: |_| with(&CALLS_32, &FLAGS),
        expected: FROM_64_BIT,
    },
    Escape {
        name: "sysenter with the trap flag set",
        program: "sysenter with flags",
        calls: |_| with(&CALLS_32, &[STEP]),
        expected: STEPPED,
    },
    Escape {
        name: "sysenter with other flags set",
        program: "sysenter with flags",
        calls: |_| with(&CALLS_32, &FLAGS),
        expected: FROM_64_BIT,
    },
    Escape {
        name: "a call in the shadow of a load of ss",
        program: "syscall, after mov ss",
        calls: |_| with(&CALLS_64, &[0]),
        expected: KILLED,
    },
    Escape {
        name: "a call with a stack pointer into the kernel",
        program: "syscall, wild stack",
        calls: |_| with(&CALLS_64, &[0]),
        expected: KILLED,
    },
];
