//! Futexes: one word, two operations, no timeout.

use cellwall::abi::TURN_LINE;

use super::{Escape, call};
use crate::inside::kit::DATA;
use crate::inside::outcome::{May, Shape};
use crate::inside::props::{BUFFER, TIME};
use crate::inside::sweep::KILLED;

const FUTEX: u64 = 202;
const WAIT: u64 = 0;
const WAKE: u64 = 1;
/// A value that the state word never has.
const NEVER: u64 = 0xffff;

pub(super) const ESCAPES: &[Escape] = &[
    Escape {
        name: "futex on another address",
        program: "syscall",
        calls: |_| {
            vec![
                call("the guest's own", FUTEX, &[DATA, WAIT, NEVER]),
                call("the next word", FUTEX, &[TURN_LINE + 4, WAIT, NEVER]),
                call("the word before", FUTEX, &[TURN_LINE - 4, WAKE, 1]),
                call("unaligned", FUTEX, &[TURN_LINE + 1, WAKE, 1]),
                call("another upper half", FUTEX, &[TURN_LINE | 1 << 40, WAKE, 1]),
                call("a lower half", FUTEX, &[TURN_LINE & 0xffff_ffff, WAKE, 1]),
                call("the sign bit", FUTEX, &[TURN_LINE | 1 << 63, WAKE, 1]),
                call("the guest page", FUTEX, &[TURN_LINE + 4096, WAKE, 1]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "futex with a timeout",
        program: "syscall",
        calls: |_| {
            vec![
                call("wait", FUTEX, &[TURN_LINE, WAIT, NEVER, TIME]),
                call(
                    "wait until never",
                    FUTEX,
                    &[TURN_LINE, WAIT, NEVER, u64::MAX],
                ),
                call(
                    "an upper half only",
                    FUTEX,
                    &[TURN_LINE, WAIT, NEVER, 1 << 32],
                ),
                call("wake", FUTEX, &[TURN_LINE, WAKE, 1, 1]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        // Every operation of futex(2) and some that are none, plain, private and by the real-time
        // clock, but the two that are left.
        name: "other operations of futex",
        program: "syscall",
        calls: |_| {
            let flags = [0, 1 << 7, 1 << 8, 3 << 7, 1 << 9, 1 << 31, 1 << 32, 1 << 63];
            let one = |operation: u64| flags.map(|flags| operation | flags);
            (0..16)
                .flat_map(one)
                .filter(|operation| *operation > WAKE)
                .map(|operation| {
                    call(
                        "an operation",
                        FUTEX,
                        &[TURN_LINE, operation, 1, 0, BUFFER, 1],
                    )
                })
                .collect()
        },
        expected: KILLED,
    },
    Escape {
        name: "the newer futex calls",
        program: "syscall",
        calls: |_| {
            vec![
                call("futex_waitv", 449, &[BUFFER, 1]),
                call("futex_wake", 454, &[TURN_LINE, 1, 1, 2]),
                call("futex_wait", 455, &[TURN_LINE, 0, 1, 2]),
                call("futex_requeue", 456, &[BUFFER, 0, 1, 1]),
                call("get_robust_list", 274, &[1, BUFFER, BUFFER]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "waking everybody at the state word",
        program: "syscall",
        calls: |_| {
            vec![
                call("all", FUTEX, &[TURN_LINE, WAKE, 0x7fff_ffff]),
                call("a negative number", FUTEX, &[TURN_LINE, WAKE, u64::MAX]),
                // The sixth and the fifth argument mean nothing to these operations.
                call("more arguments", FUTEX, &[TURN_LINE, WAKE, 1, 0, DATA, 7]),
                call("an upper half", FUTEX | 1 << 32, &[TURN_LINE, WAKE, 1]),
            ]
        },
        expected: &[
            May(
                Shape::Finished(0),
                "it is left to the worker: nobody sleeps there",
            ),
            May(
                Shape::Finished(1),
                "it is left to the worker: the host slept",
            ),
        ],
    },
];
