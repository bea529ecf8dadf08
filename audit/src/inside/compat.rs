//! 32-bit mode and other segments: what far transfers reach.

use std::time::Duration;

use cellwall::abi::FINISH;
use cellwall::{Error, TrapKind};
use iced_x86::code_asm::r11;

use super::kit::{Code, LOW_CODE, Program, STACK};
use super::lane::{Attempt, PATIENT, SHORT, Stage, share};
use super::outcome::{Expected, May, Shape, Tally};
use super::sweep::FROM_64_BIT;
use crate::row::Row;

/// The user's 64-bit code segment in the kernel's global descriptor table
/// (arch/x86/include/asm/segment.h, `__USER_CS`). That of 32-bit code is `guests`' to enter.
const USER_64: u16 = 0x33;

/// 64-bit programs below 4 GiB.
pub(super) fn native() -> Vec<Program> {
    let back = Code::Written(|code| {
        code.mov(r11, FINISH)?;
        code.jmp(r11)
    });
    let named = |name: &str, code| Program {
        name: name.to_owned(),
        code,
    };
    vec![
        // It is first: 32-bit code goes on here.
        named("64-bit again", back),
        // `ud2` in every mode.
        named("far target", Code::Bytes(vec![0x0f, 0x0b])),
    ]
}

/// 32-bit programs: each tries a door, then goes back to 64-bit code and finishes.
pub(super) fn programs() -> Vec<Program> {
    DOORS
        .iter()
        .map(|door| {
            let mut code = door.bytes.to_vec();
            // jmp far USER_64:LOW_CODE
            code.push(0xea);
            code.extend(&LOW_CODE.to_le_bytes()[..4]);
            code.extend(USER_64.to_le_bytes());
            Program {
                name: door.name.to_owned(),
                code: Code::Bytes(code),
            }
        })
        .collect()
}

/// One thing that 32-bit code does.
struct Door {
    name: &'static str,
    bytes: &'static [u8],
    /// How many bytes come before the instruction that is tried.
    before: u64,
    /// 32-bit system call numbers to try it with.
    calls: &'static [u64],
    deadline: Duration,
    expected: Expected,
}

/// `getpid`, `open`, `futex`, `sched_yield`, `exit_group`, `mmap2`, `fork` of i386, and the numbers
/// that are allowed to x86-64.
const CALLS: &[u64] = &[20, 5, 240, 158, 252, 192, 2, 202, 24, 231];

const GATE: Expected = &[
    FROM_64_BIT[0],
    FROM_64_BIT[1],
    May(
        Shape::Refused(TrapKind::IllegalInstruction),
        "the CPU has no such instruction in this mode",
    ),
    May(
        Shape::Trap(TrapKind::Memory),
        "a kernel without 32-bit programs has no such segment",
    ),
];

const PRIVILEGED: Expected = &[May(
    Shape::Trap(TrapKind::Memory),
    "privileged in every mode",
)];

const DOORS: &[Door] = &[
    Door {
        name: "int 0x80 in 32-bit code",
        bytes: &[0xcd, 0x80],
        before: 0,
        calls: CALLS,
        deadline: PATIENT,
        expected: GATE,
    },
    Door {
        name: "syscall in 32-bit code",
        bytes: &[0x0f, 0x05],
        before: 0,
        calls: CALLS,
        deadline: PATIENT,
        expected: GATE,
    },
    Door {
        name: "sysenter in 32-bit code",
        bytes: &[0x0f, 0x34],
        before: 0,
        calls: CALLS,
        deadline: PATIENT,
        expected: GATE,
    },
    Door {
        name: "hlt in 32-bit code",
        bytes: &[0xf4],
        before: 0,
        calls: &[0],
        deadline: PATIENT,
        expected: PRIVILEGED,
    },
    Door {
        name: "a call gate in 32-bit code",
        bytes: &[0x9a, 0, 0, 0, 0, 0x10, 0],
        before: 0,
        calls: &[0],
        deadline: PATIENT,
        expected: PRIVILEGED,
    },
    Door {
        name: "a wild stack in 32-bit code",
        // mov esp, 8; push eax
        bytes: &[0xbc, 8, 0, 0, 0, 0x50],
        before: 5,
        calls: &[0],
        deadline: PATIENT,
        expected: &[May(
            Shape::Trap(TrapKind::Memory),
            "nothing is mapped there",
        )],
    },
    Door {
        name: "an endless loop in 32-bit code",
        bytes: &[0xeb, 0xfe],
        before: 0,
        calls: &[0],
        deadline: SHORT,
        expected: &[
            May(Shape::Deadline, "the host kills it"),
            May(
                Shape::Trap(TrapKind::Memory),
                "a kernel without 32-bit programs has no such segment",
            ),
        ],
    },
];

pub(super) const NAME: &str = "other modes";

pub(super) fn run(stage: &Stage) -> Result<Vec<Row>, Error> {
    let mut rows = share(stage, DOORS.len(), |lane, index| {
        let door = &DOORS[index];
        let place = stage.kit.entry(door.name);
        let mut tally = Tally::new(door.expected);
        for number in door.calls {
            let block = [*number, 0, 0, 0, 0, 0, 0, place];
            let outcome = lane.run(&Attempt {
                entry: stage.kit.entry("32-bit code"),
                args: [0; 3],
                block: &block,
                deadline: door.deadline,
            })?;
            tally.add(&outcome, place + door.before, &format!("call {number}"));
        }
        Ok(tally.row(NAME, door.name.to_owned(), None))
    })?;
    rows.push(far_returns(stage)?);
    rows.push(interrupt_returns(stage)?);
    Ok(rows)
}

/// Every selector of the tables that a program could name, local ones included: at each that can
/// be entered is an instruction that is none.
fn far_returns(stage: &Stage) -> Result<Row, Error> {
    const EXPECTED: Expected = &[
        May(
            Shape::Trap(TrapKind::Memory),
            "no code segment, or the kernel's",
        ),
        May(Shape::Trap(TrapKind::Bus), "a segment that is not present"),
        May(
            Shape::Trap(TrapKind::IllegalInstruction),
            "one of the user's code segments: the target is an invalid instruction",
        ),
    ];
    const SELECTORS: usize = 0x200;
    let target = stage.kit.entry("far target");
    let outcomes = share(stage, SELECTORS, |lane, selector| {
        lane.run(&Attempt {
            entry: stage.kit.entry("far return"),
            args: [selector as u64, target, 0],
            block: &[],
            deadline: PATIENT,
        })
    })?;
    let mut tally = Tally::new(EXPECTED);
    for (selector, outcome) in outcomes.iter().enumerate() {
        tally.add(outcome, target, &format!("selector {selector:#x}"));
    }
    let attempt = format!("far returns to all selectors below {SELECTORS:#x}");
    Ok(tally.row(NAME, attempt, None))
}

/// Returns from interrupts that never were: to the kernel's segments, with I/O privileges, nested.
fn interrupt_returns(stage: &Stage) -> Result<Row, Error> {
    const EXPECTED: Expected = &[
        May(
            Shape::Trap(TrapKind::Memory),
            "a general protection fault: the CPU gains no privilege by a return",
        ),
        May(Shape::Trap(TrapKind::Bus), "a stack segment that is none"),
        May(
            Shape::Trap(TrapKind::IllegalInstruction),
            "the user's own segments: the target is an invalid instruction",
        ),
        May(
            Shape::Trap(TrapKind::Breakpoint),
            "the user's own segments, with the trap flag",
        ),
    ];
    let target = stage.kit.entry("far target");
    let stack = STACK + 0x8000;
    let mut frames = Vec::new();
    for code in [0x10, 0x08, 0x13, 0x33, 0x23, 0x2b, 0x7b, 0] {
        for data in [0x2b, 0x18, 0x1b, 0, 0x33] {
            // Plain; I/O privileges; the nested-task, trap, virtual-8086 and resume flags.
            for flags in [0x202, 0x3202, 0x4202, 0x302, 0x2_0202, 0x1_0202] {
                frames.push([target, code, flags, stack, data]);
            }
        }
    }
    for address in [0, 1 << 63, 0xffff_8000_0000_0000] {
        frames.push([address, 0x33, 0x202, stack, 0x2b]);
        frames.push([target, 0x33, 0x202, address, 0x2b]);
    }
    let outcomes = share(stage, frames.len(), |lane, index| {
        lane.run(&Attempt {
            entry: stage.kit.entry("interrupt return"),
            args: [0; 3],
            block: &frames[index],
            deadline: PATIENT,
        })
    })?;
    let mut tally = Tally::new(EXPECTED);
    for (frame, outcome) in frames.iter().zip(&outcomes) {
        tally.add(outcome, target, &format!("{frame:x?}"));
    }
    let attempt = format!("iretq with {} forged frames", frames.len());
    Ok(tally.row(NAME, attempt, None))
}
