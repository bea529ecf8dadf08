//! What the CPU keeps for the kernel, and what it gives to everybody.

use cellwall::{Error, Signal, TrapKind};

use super::kit::{Code, Program};
use super::lane::{Attempt, PATIENT, Stage, share};
use super::outcome::{Expected, May, Shape, Tally};
use super::props::{RUBBISH, ZEROS};
use crate::row::Row;

mod table;

use table::{ALLOWED, PRIVILEGED, RUBBISH_READERS};

pub(super) const NAME: &str = "instructions";

/// One instruction, with what leads to it.
struct Instruction {
    name: &'static str,
    bytes: &'static [u8],
    expected: Expected,
}

const REFUSED: Expected = &[
    May(
        Shape::Trap(TrapKind::Memory),
        "a general protection fault: it is privileged",
    ),
    May(
        Shape::Trap(TrapKind::IllegalInstruction),
        "the CPU does not have it, or not in this mode",
    ),
];

/// An instruction of these may do what it does to every program, or be none.
const HARMLESS: Expected = &[
    May(Shape::FinishedAny, "it gives no power: every program may"),
    REFUSED[0],
    REFUSED[1],
];

const HARMLESS_OR_ARITHMETIC: Expected = &[
    HARMLESS[0],
    HARMLESS[1],
    HARMLESS[2],
    May(
        Shape::Trap(TrapKind::Arithmetic),
        "an exception that it has unmasked",
    ),
];

/// Memory that protection keys deny.
const DENIED: Expected = &[
    REFUSED[0],
    REFUSED[1],
    May(
        Shape::Killed(Signal::SEGV),
        "the kernel may not write a signal frame either",
    ),
];

const BREAKPOINT: Expected = &[May(Shape::Trap(TrapKind::Breakpoint), "what it is for")];

/// Software interrupts: the kernel opens three gates.
const GATES: Expected = &[
    May(
        Shape::Trap(TrapKind::Memory),
        "a general protection fault: the gate is the kernel's; 4 is an overflow",
    ),
    May(Shape::Trap(TrapKind::Breakpoint), "3 is the breakpoint"),
    May(
        Shape::Forbidden,
        "0x80 is a system call, of a foreign architecture",
    ),
];

const KERNEL_GATE: Expected = &[GATES[0]];
const CALL_GATE: Expected = &[GATES[2], GATES[0]];

/// Segment selectors.
const SELECTED: Expected = &[
    May(Shape::FinishedAny, "a data segment of the user's"),
    May(Shape::Trap(TrapKind::Memory), "none of the user's"),
    May(Shape::Trap(TrapKind::Bus), "a segment that is not present"),
];

const SEGMENTS: &[(&str, u8)] = &[
    ("ds", 0xdf),
    ("es", 0xc7),
    ("fs", 0xe7),
    ("gs", 0xef),
    ("ss", 0xd7),
];

/// Selectors that are tried: of the whole table of the kernel's, and of a local one.
const SELECTORS: usize = 0x200;

fn all() -> impl Iterator<Item = &'static Instruction> {
    PRIVILEGED.iter().chain(ALLOWED).chain(RUBBISH_READERS)
}

pub(super) fn programs() -> Vec<Program> {
    let program = |name: String, bytes: &[u8]| {
        let mut code = bytes.to_vec();
        code.push(0xc3);
        Program {
            name,
            code: Code::Bytes(code),
        }
    };
    let named = all().map(|instruction| program(name(instruction), instruction.bytes));
    let interrupts = (0..=u8::MAX).map(|vector| program(interrupt(vector), &[0xcd, vector]));
    let segments = SEGMENTS
        .iter()
        .map(|(segment, operand)| program(load(segment), &[0x8e, *operand]));
    named.chain(interrupts).chain(segments).collect()
}

fn name(instruction: &Instruction) -> String {
    format!("instruction {}", instruction.name)
}

fn interrupt(vector: u8) -> String {
    format!("interrupt {vector}")
}

fn load(segment: &str) -> String {
    format!("load {segment}")
}

pub(super) fn run(stage: &Stage) -> Result<Vec<Row>, Error> {
    let instructions: Vec<&Instruction> = all().collect();
    let mut rows = share(stage, instructions.len(), |lane, index| {
        let instruction = instructions[index];
        let mut tally = Tally::brief(instruction.expected);
        // A descriptor, a port, a register of the model's, a mask of features.
        for third in [0, 0x60, u64::MAX] {
            let outcome = lane.run(&Attempt {
                entry: stage.kit.entry(&name(instruction)),
                args: [memory_of(instruction), 0x20, third],
                block: &[],
                deadline: PATIENT,
            })?;
            tally.add(&outcome, 0, instruction.name);
        }
        Ok(tally.row(NAME, instruction.name.to_owned(), None))
    })?;
    rows.push(interrupts(stage)?);
    for (segment, _) in SEGMENTS {
        rows.push(selectors(stage, segment)?);
    }
    Ok(rows)
}

/// What `rdi` points at.
fn memory_of(instruction: &Instruction) -> u64 {
    let rubbish = RUBBISH_READERS
        .iter()
        .any(|other| other.name == instruction.name);
    if rubbish { RUBBISH } else { ZEROS }
}

fn interrupts(stage: &Stage) -> Result<Row, Error> {
    let outcomes = share(stage, 256, |lane, index| {
        let vector = u8::try_from(index).unwrap_or(u8::MAX);
        lane.run(&Attempt {
            entry: stage.kit.entry(&interrupt(vector)),
            args: [0; 3],
            block: &[],
            deadline: PATIENT,
        })
    })?;
    let mut tally = Tally::new(GATES);
    for (vector, outcome) in outcomes.iter().enumerate() {
        // Each gate for itself: only 3 is a breakpoint, only 0x80 a call.
        let expected = match vector {
            3 => BREAKPOINT,
            0x80 => CALL_GATE,
            _ => KERNEL_GATE,
        };
        tally.add_expecting(expected, outcome, 0, &format!("int {vector:#x}"));
    }
    Ok(tally.row(NAME, "int 0 to int 255".into(), None))
}

fn selectors(stage: &Stage, segment: &str) -> Result<Row, Error> {
    let entry = stage.kit.entry(&load(segment));
    let outcomes = share(stage, SELECTORS, |lane, selector| {
        lane.run(&Attempt {
            entry,
            args: [selector as u64, 0, 0],
            block: &[],
            deadline: PATIENT,
        })
    })?;
    let mut tally = Tally::brief(SELECTED);
    for (selector, outcome) in outcomes.iter().enumerate() {
        tally.add(outcome, 0, &format!("{segment} = {selector:#x}"));
    }
    let attempt = format!("loading {segment} with all selectors below {SELECTORS:#x}");
    Ok(tally.row(NAME, attempt, None))
}
