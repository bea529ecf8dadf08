//! Every rule both ways: programs against a plain reading of the rules they came from.

#[path = "../../tests/kernel/container.rs"]
mod container;

use std::vec::Vec;

use self::container::{NO_CLONE3, NO_NAMESPACES};
use super::simulate::simulate;
use super::{
    ALLOW, Cond, ERRNO, Instruction, Is, KILL_PROCESS, Program, Refusal, Rule, SeccompData, TRAP,
    USER_NOTIF, compile, compile_notifying, compile_refusing, compile_reporting, length,
    length_notifying, length_refusing, length_reporting,
};
use crate::arch::AUDIT_ARCH;
use crate::errno::Errno;
use crate::nr::{self, Nr};

const WORD: u64 = 0x1_4019_1000;

const RULES: &[Rule] = &[
    Rule {
        call: nr::FUTEX,
        when: &[
            Cond {
                arg: 0,
                is: Is::Equal(WORD),
            },
            Cond {
                arg: 1,
                is: Is::AnyOf2(0, 1),
            },
        ],
        why: "one word",
    },
    Rule {
        call: nr::SCHED_YIELD,
        when: &[],
        why: "no conditions",
    },
    Rule {
        call: nr::MADVISE,
        when: &[
            Cond {
                arg: 0,
                is: Is::Within {
                    start: 0x2_0000_1000,
                    end: 0x2_0000_3000,
                },
            },
            Cond {
                arg: 2,
                is: Is::Masked {
                    mask: 0xff00_0000_ffff_fff0,
                    value: 0x0100_0000_0000_0010,
                },
            },
        ],
        why: "a range and a mask",
    },
    Rule {
        call: nr::MADVISE,
        when: &[Cond {
            arg: 5,
            is: Is::AnyOf2(7, 0x5_0000_0007),
        }],
        why: "a second rule of one call, and values whose high halves differ",
    },
    Rule {
        call: nr::PRCTL,
        when: &[Cond {
            arg: Cond::INSTRUCTION_POINTER,
            is: Is::Within {
                start: 0x7_ffff_f000,
                end: 0x8_0000_0000,
            },
        }],
        why: "a range that ends at a multiple of 4 GiB",
    },
    Rule {
        call: nr::MPROTECT,
        when: &[Cond {
            arg: 2,
            is: Is::AnyBit(0x0100_0000_8000_1000),
        }],
        why: "any bit of a mask",
    },
    Rule {
        call: nr::MUNMAP,
        when: &[Cond {
            arg: 1,
            is: Is::AnyBit(1 << 12),
        }],
        why: "any bit of the low half",
    },
    Rule {
        call: nr::FUTEX,
        when: &[Cond {
            arg: 3,
            is: Is::Equal(u64::MAX),
        }],
        why: "a rule apart from the others of its call",
    },
];

static FILTER: Program<{ length(RULES) }> = compile(RULES);

/// What the rules say, read without any of the assembler's cleverness.
fn allowed(rules: &[Rule], data: &SeccompData) -> bool {
    let holds = |cond: &Cond| {
        let value = match cond.arg {
            Cond::INSTRUCTION_POINTER => data.instruction_pointer,
            arg => data.args[usize::from(arg)],
        };
        match cond.is {
            Is::Equal(wanted) => value == wanted,
            Is::AnyOf2(one, other) => value == one || value == other,
            Is::Masked {
                mask,
                value: wanted,
            } => value & mask == wanted,
            Is::AnyBit(mask) => value & mask != 0,
            Is::Within { start, end } => (start..end).contains(&value),
        }
    };
    data.arch == AUDIT_ARCH
        && rules
            .iter()
            .any(|rule| rule.call.raw() == data.nr && rule.when.iter().all(holds))
}

/// Values that a condition tells apart: those it names, their neighbours, and each with a bit of
/// either half flipped.
fn telling_values(is: Is) -> Vec<u64> {
    let named = match is {
        Is::Equal(value) => [value, value],
        Is::AnyOf2(one, other) => [one, other],
        Is::Masked { mask, value } => [value, value | !mask],
        Is::AnyBit(mask) => [mask, !mask],
        Is::Within { start, end } => [start, end],
    };
    let variants = |value: u64| {
        [
            value,
            value.wrapping_add(1),
            value.wrapping_sub(1),
            value ^ 1 << 12,
            value ^ 1 << 31,
            value ^ 1 << 32,
            value ^ 1 << 56,
        ]
    };
    named.into_iter().flat_map(variants).chain([0]).collect()
}

/// Every call that combines telling values for all conditions of a rule.
fn telling_calls(rule: &Rule) -> Vec<SeccompData> {
    let mut calls = Vec::from([SeccompData {
        nr: rule.call.raw(),
        arch: AUDIT_ARCH,
        instruction_pointer: 0x40_0000,
        args: [0; 6],
    }]);
    for cond in rule.when {
        let with = |data: &SeccompData| {
            let data = *data;
            telling_values(cond.is).into_iter().map(move |value| {
                let mut data = data;
                match cond.arg {
                    Cond::INSTRUCTION_POINTER => data.instruction_pointer = value,
                    arg => data.args[usize::from(arg)] = value,
                }
                data
            })
        };
        calls = calls.iter().flat_map(with).collect();
    }
    calls
}

#[test]
fn every_rule_lets_through_what_it_says_and_nothing_else() {
    for rule in RULES {
        let (mut passed, mut killed) = (0, 0);
        for data in telling_calls(rule) {
            let expected = if allowed(RULES, &data) {
                ALLOW
            } else {
                KILL_PROCESS
            };
            let answer = simulate(FILTER.as_slice(), &data);
            assert_eq!(answer, Some(expected), "{}: {data:?}", rule.why);
            if expected == ALLOW {
                passed += 1;
            } else {
                killed += 1;
            }
            for arch in [0, 0x4000_0003, AUDIT_ARCH ^ 1 << 30, 0xc000_00b7] {
                let foreign = SeccompData { arch, ..data };
                assert_eq!(simulate(FILTER.as_slice(), &foreign), Some(KILL_PROCESS));
            }
            let x32 = SeccompData {
                nr: data.nr | 1 << 30,
                ..data
            };
            assert_eq!(simulate(FILTER.as_slice(), &x32), Some(KILL_PROCESS));
        }
        assert!(passed > 0, "never passed: {}", rule.why);
        assert!(
            killed > 0 || rule.when.is_empty(),
            "never killed: {}",
            rule.why
        );
    }
}

#[test]
fn every_other_number_is_killed() {
    let named = |nr| RULES.iter().any(|rule| rule.call == Nr::from_raw(nr));
    for nr in (0..1000)
        .chain([u32::MAX, 1 << 31])
        .filter(|nr| !named(*nr))
    {
        let data = SeccompData {
            nr,
            arch: AUDIT_ARCH,
            instruction_pointer: 0,
            args: [WORD; 6],
        };
        assert_eq!(simulate(FILTER.as_slice(), &data), Some(KILL_PROCESS));
    }
}

#[test]
fn no_rules_allow_nothing_and_few_rules_stay_short() {
    static NOTHING: Program<{ length(&[]) }> = compile(&[]);
    let data = SeccompData {
        nr: 0,
        arch: AUDIT_ARCH,
        instruction_pointer: 0,
        args: [0; 6],
    };
    assert_eq!(simulate(NOTHING.as_slice(), &data), Some(KILL_PROCESS));
    // Installing costs about a microsecond an instruction.
    const TWO: &[Rule] = &[
        Rule {
            call: nr::EXIT_GROUP,
            when: &[],
            why: "the end",
        },
        Rule {
            call: nr::FUTEX,
            when: &[Cond {
                arg: 0,
                is: Is::Equal(WORD),
            }],
            why: "one word",
        },
    ];
    assert_eq!(length(TWO), 3 + 1 + 1 + 4 + 2);
}

const REFUSALS: &[Refusal] = &[
    NO_CLONE3,
    NO_NAMESPACES,
    Refusal {
        call: nr::CLONE,
        when: &[
            Cond {
                arg: 0,
                is: Is::Equal(17),
            },
            Cond {
                arg: 1,
                is: Is::Equal(0),
            },
        ],
        errno: Errno::EAGAIN,
    },
];
static REFUSING: Program<{ length_refusing(REFUSALS) }> = compile_refusing(REFUSALS);

#[test]
fn refusals_answer_with_their_errors() {
    let padded: Program<64> = compile_refusing(REFUSALS);
    let answer = |nr: Nr, first, second| {
        let data = SeccompData {
            nr: nr.raw(),
            arch: AUDIT_ARCH,
            instruction_pointer: 0,
            args: [first, second, 0, 0, 0, 0],
        };
        let answer = simulate(REFUSING.as_slice(), &data);
        assert_eq!(answer, simulate(padded.as_slice(), &data));
        let foreign = SeccompData {
            arch: AUDIT_ARCH ^ 1,
            ..data
        };
        let killed = Some(KILL_PROCESS);
        assert_eq!(simulate(REFUSING.as_slice(), &foreign), killed);
        answer.unwrap()
    };
    let refused = |errno: Errno| ERRNO | u32::from(errno.raw());
    assert_eq!(answer(nr::CLONE3, 0, 0), refused(Errno::ENOSYS));
    assert_eq!(answer(nr::CLONE, 1 << 17, 0), refused(Errno::EPERM));
    assert_eq!(answer(nr::CLONE, 1 << 30 | 17, 0), refused(Errno::EPERM));
    assert_eq!(answer(nr::CLONE, 17, 0), refused(Errno::EAGAIN));
    assert_eq!(answer(nr::CLONE, 17, 1), ALLOW);
    assert_eq!(answer(nr::CLONE, 16, 0), ALLOW);
    assert_eq!(answer(nr::CLONE, 0x7e02_0000 << 32, 0), ALLOW);
    assert_eq!(answer(nr::GETPID, 1 << 17, 0), ALLOW);
    assert_eq!(answer(Nr::from_raw(1 << 30), 0, 0), KILL_PROCESS);
}

#[test]
fn other_answers_keep_the_rules_and_kill_what_is_foreign() {
    static REPORTING: Program<{ length_reporting(RULES) }> = compile_reporting(RULES);
    static ASKING: Program<{ length_notifying(RULES) }> = compile_notifying(RULES);
    static ASKING_ALL: Program<{ length_notifying(&[]) }> = compile_notifying(&[]);
    let programs = [
        (REPORTING.as_slice(), RULES, TRAP),
        (ASKING.as_slice(), RULES, USER_NOTIF),
        (ASKING_ALL.as_slice(), &[], USER_NOTIF),
    ];
    for (program, rules, otherwise) in programs {
        for data in RULES.iter().flat_map(telling_calls) {
            let expected = if allowed(rules, &data) {
                ALLOW
            } else {
                otherwise
            };
            assert_eq!(simulate(program, &data), Some(expected), "{data:?}");
            let arch = AUDIT_ARCH ^ 1;
            let foreign = SeccompData { arch, ..data };
            assert_eq!(simulate(program, &foreign), Some(KILL_PROCESS));
            for nr in [data.nr | 1 << 30, 1 << 30, 1 << 31, u32::MAX] {
                let x32 = SeccompData { nr, ..data };
                assert_eq!(simulate(program, &x32), Some(KILL_PROCESS));
            }
            let last = SeccompData {
                nr: (1 << 30) - 1,
                ..data
            };
            assert_eq!(simulate(program, &last), Some(otherwise));
        }
    }
}

#[test]
fn the_simulator_refuses_what_the_kernel_would() {
    let data = SeccompData {
        nr: 0,
        arch: AUDIT_ARCH,
        instruction_pointer: 0,
        args: [0; 6],
    };
    let instruction = |code, operand| Instruction {
        code,
        if_true: 0,
        if_false: 0,
        operand,
    };
    assert_eq!(simulate(&[], &data), None);
    assert_eq!(simulate(&[instruction(0x20, 64)], &data), None);
    assert_eq!(
        simulate(&[instruction(0x20, 2), instruction(0x06, 1)], &data),
        None
    );
    assert_eq!(simulate(&[instruction(0x00, 0)], &data), None);
    assert_eq!(simulate(&[instruction(0x06, 9)], &data), Some(9));
    let jump = Instruction {
        if_true: 9,
        if_false: 9,
        ..instruction(0x15, 0)
    };
    assert_eq!(simulate(&[jump, instruction(0x06, 1)], &data), None);
    let always = |to| {
        [
            instruction(0x05, to),
            instruction(0x06, 1),
            instruction(0x06, 2),
        ]
    };
    let answers = [0, 1, 2, u32::MAX].map(|to| simulate(&always(to), &data));
    assert_eq!(answers, [Some(1), Some(2), None, None]);
    let words =
        (0..16).map(|word| simulate(&[instruction(0x20, word * 4), instruction(0x06, 0)], &data));
    assert!(words.into_iter().all(|answer| answer == Some(0)));
}
