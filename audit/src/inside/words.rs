//! Lies in the shared words, and writes to what only the host may write.

use std::time::Duration;

use cellwall::abi::{CODE_WINDOW, FINISH, TURN_LINE};
use cellwall::{Error, Signal, TrapKind};
use vmctx::{Layer, State, StateWord, map};

use super::jumps::ANYTHING_LEGAL;
use super::kit::{CONSTANTS, COPIES, DATA, LOW_CODE, STACK};
use super::lane::{Attempt, Lane, PATIENT, SHORT, Stage, share};
use super::outcome::{Expected, May, Outcome, Shape, Tally};
use crate::row::Row;

pub(super) const NAME: &str = "memory and words";

const FORGED: Expected = &[May(
    Shape::Forged,
    "no worker may reach this state now: the host kills it",
)];
const IGNORED: Expected = &[
    FORGED[0],
    May(Shape::Deadline, "it is what the host itself wrote"),
];
/// A guest may say that it was stopped before it is, and that its gas is used up.
const INTERRUPTED: Expected = &[May(Shape::Deadline, "a guest may say that it was stopped")];
const OUT_OF_GAS: Expected = &[May(Shape::OutOfGas, "a guest may say so")];
const HOSTCALL: Expected = &[May(Shape::Hostcall, "a guest may make hostcalls")];
const FINISHED: Expected = &[May(Shape::FinishedAny, "a guest may finish")];
/// A guest may say that it trapped, by a signal that is a fault's.
const TRAPPED: Expected = &[
    May(Shape::Trap(TrapKind::Memory), "a guest may say so"),
    May(Shape::Trap(TrapKind::Bus), "a guest may say so"),
    May(
        Shape::Trap(TrapKind::IllegalInstruction),
        "a guest may say so",
    ),
    May(Shape::Trap(TrapKind::Arithmetic), "a guest may say so"),
    May(Shape::Trap(TrapKind::Breakpoint), "a guest may say so"),
];
const NO_FAULT: Expected = &[May(Shape::Forged, "no fault raises this signal")];

/// Where forbidden calls are reported, a guest may report one too.
const REPORTED: Expected = &[May(Shape::Forbidden, "a guest may say so")];
const SIGSYS: u64 = 31;

/// Signals of faults: ILL, TRAP, BUS, FPE, SEGV.
const FAULTS: [u64; 5] = [4, 5, 7, 8, 11];

/// Accesses that the page tables forbid.
struct Access {
    name: &'static str,
    program: &'static str,
    addresses: &'static [u64],
    layer: Option<Layer>,
}

const NO_ACCESS: Expected = &[May(Shape::Trap(TrapKind::Memory), "no mapping allows it")];

const ACCESSES: &[Access] = &[
    Access {
        name: "writing the host page",
        program: "write",
        addresses: &[
            map::HOST_PAGE.start,
            map::HOST_PAGE.start + 0x10,
            map::HOST_PAGE.end - 1,
        ],
        layer: Some(Layer::SharedWords),
    },
    Access {
        name: "writing code",
        program: "write",
        addresses: &[CODE_WINDOW.start, LOW_CODE, map::IMAGE.start, FINISH],
        layer: Some(Layer::WriteXorExecute),
    },
    Access {
        name: "writing constants",
        program: "write",
        addresses: &[CONSTANTS],
        layer: Some(Layer::WriteXorExecute),
    },
    Access {
        name: "executing data",
        program: "execute",
        addresses: &[
            DATA,
            CONSTANTS,
            STACK,
            COPIES,
            map::STACK.start,
            map::HOST_PAGE.start,
            map::TURN_PAGE.start,
            map::GUEST_PAGE.start,
            map::ALT_STACK.start,
        ],
        layer: Some(Layer::WriteXorExecute),
    },
    Access {
        name: "reading what is not mapped",
        program: "read",
        addresses: &[
            0,
            0x1000,
            map::GUEST.start,
            map::GUEST.end,
            map::IMAGE.start - 8,
            map::SHARED.start - 8,
            map::HOST_PAGE.end,
            // What a nursery has and its workers have not.
            map::RING.start,
            map::NURSERY_STACK.end - 8,
            map::CODE_WINDOW.end,
            0x5555_5555_4000,
            0x7ffe_0000_0000,
            map::USER_END - 8,
        ],
        layer: Some(Layer::KernelMappings),
    },
    Access {
        name: "reading and writing the kernel",
        program: "write",
        addresses: &[
            1 << 47,
            0xffff_8000_0000_0000,
            0xffff_8880_0000_0000,
            0xffff_ffff_8100_0000,
            0xffff_fe00_0000_0000,
            0xffff_ffff_ff60_0000,
            u64::MAX,
        ],
        layer: None,
    },
];

/// The entries of the vsyscall page: gettimeofday, time, getcpu; and between them.
const VSYSCALLS: &[u64] = &[0, 0x400, 0x800, 0x401, 0xc00, 0xfff];
const VSYSCALL_PAGE: u64 = 0xffff_ffff_ff60_0000;
const VSYSCALL: Expected = &[
    May(Shape::Forbidden, "the kernel treats it as a system call"),
    May(
        Shape::Trap(TrapKind::Memory),
        "a kernel without that page, or no entry",
    ),
    // The kernel answers a wild call there by a SIGSEGV that no handler sees
    // (arch/x86/entry/vsyscall/vsyscall_64.c).
    May(Shape::Killed(Signal::SEGV), "a wild call there"),
];

pub(super) fn run(stage: &Stage) -> Result<Vec<Row>, Error> {
    let mut rows = share(stage, ACCESSES.len(), |lane, index| {
        let access = &ACCESSES[index];
        let mut tally = Tally::new(NO_ACCESS);
        for address in access.addresses {
            let outcome = lane.run(&Attempt {
                entry: stage.kit.entry(access.program),
                args: [*address, 0, 0],
                block: &[],
                deadline: PATIENT,
            })?;
            tally.add(&outcome, 0, &format!("{address:#x}"));
        }
        Ok(tally.row(NAME, access.name.to_owned(), access.layer))
    })?;
    rows.push(vsyscalls(stage)?);
    rows.push(states(stage)?);
    rows.push(fault_signals(stage)?);
    rows.push(flickers(stage)?);
    rows.push(sleep_bits(stage)?);
    rows.push(last_words(stage)?);
    Ok(rows)
}

fn vsyscalls(stage: &Stage) -> Result<Row, Error> {
    let outcomes = share(stage, VSYSCALLS.len(), |lane, index| {
        let target = VSYSCALL_PAGE + VSYSCALLS[index];
        let block = [target, 0, 0, 0, 0, DATA, 0, STACK + 0x8000];
        lane.run(&Attempt {
            entry: stage.kit.entry("jump"),
            args: [0; 3],
            block: &block,
            deadline: PATIENT,
        })
    })?;
    let mut tally = Tally::new(VSYSCALL);
    for (offset, outcome) in VSYSCALLS.iter().zip(&outcomes) {
        tally.add(outcome, 0, &format!("offset {offset:#x}"));
    }
    Ok(tally.row(NAME, "calling the vsyscall page".into(), None))
}

/// Writes one state word. The guest then spins and sees no order: its worker is of no more use.
fn store(
    lane: &mut Lane<'_>,
    word: u64,
    signal: u64,
    deadline: Duration,
) -> Result<Outcome, Error> {
    let outcome = lane.run(&Attempt {
        entry: lane.stage.kit.entry("store"),
        args: [TURN_LINE, word, signal],
        block: &[],
        deadline,
    })?;
    lane.renew();
    Ok(outcome)
}

/// Every state with every other part of the word.
fn states(stage: &Stage) -> Result<Row, Error> {
    const OTHER_BITS: [u64; 5] = [
        0,
        StateWord::HOST_SLEEPS as u64,
        StateWord::WORKER_SLEEPS as u64,
        0xfc00,
        0xffff_0000,
    ];
    const ALL: Expected = &[
        FORGED[0],
        IGNORED[1],
        INTERRUPTED[0],
        OUT_OF_GAS[0],
        HOSTCALL[0],
        FINISHED[0],
        TRAPPED[0],
    ];
    let outcomes = share(stage, 256 * OTHER_BITS.len(), |lane, index| {
        let state = index as u64 % 256;
        let word = state | OTHER_BITS[index / 256];
        // Only the host's own word may be waited at.
        let deadline = if state == State::Enter as u64 {
            SHORT
        } else {
            PATIENT
        };
        store(lane, word, 11, deadline)
    })?;
    let mut tally = Tally::new(ALL);
    for (index, outcome) in outcomes.iter().enumerate() {
        let state = u8::try_from(index % 256).unwrap_or(0);
        let expected = match State::from_bits(state) {
            Some(State::Hostcall) => HOSTCALL,
            Some(State::Finished) => FINISHED,
            Some(State::Trapped) => TRAPPED,
            Some(State::Interrupted) => INTERRUPTED,
            Some(State::OutOfGas) => OUT_OF_GAS,
            Some(State::Enter) => IGNORED,
            _ => FORGED,
        };
        let what = format!("state {state}, bits {:#x}", OTHER_BITS[index / 256]);
        tally.add_expecting(expected, outcome, 0, &what);
    }
    let attempt = format!("writing {} state words", outcomes.len());
    Ok(tally.row(NAME, attempt, Some(Layer::SharedWords)))
}

/// Every signal as the reason of a trap.
fn fault_signals(stage: &Stage) -> Result<Row, Error> {
    const SIGNALS: [u64; 4] = [65, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
    const ALL: Expected = &[TRAPPED[0], NO_FAULT[0]];
    let signals: Vec<u64> = (0..=64).chain(SIGNALS).collect();
    let outcomes = share(stage, signals.len(), |lane, index| {
        store(lane, State::Trapped as u64, signals[index], PATIENT)
    })?;
    let mut tally = Tally::new(ALL);
    for (signal, outcome) in signals.iter().zip(&outcomes) {
        let expected = match *signal {
            SIGSYS if stage.config.reports_forbidden_calls() => REPORTED,
            signal if FAULTS.contains(&signal) => TRAPPED,
            _ => NO_FAULT,
        };
        tally.add_expecting(expected, outcome, 0, &format!("signal {signal}"));
    }
    let attempt = format!("reporting traps by {} signals", signals.len());
    Ok(tally.row(NAME, attempt, Some(Layer::SharedWords)))
}

/// Two words by turns, as fast as the CPU can, while the host looks and answers.
fn flickers(stage: &Stage) -> Result<Row, Error> {
    let numbers = [0, 1, 2, 3, 4, 5, 6, 7, 0x104, 0x204, 0x304, 0x102];
    let pairs: Vec<(u64, u64)> = numbers
        .iter()
        .flat_map(|a| [4, 5, 2].map(|b| (*a, b)))
        .collect();
    let outcomes = share(stage, pairs.len(), |lane, index| {
        let (a, b) = pairs[index];
        let mut outcome = lane.run(&Attempt {
            entry: stage.kit.entry("flicker"),
            args: [TURN_LINE, a, b],
            block: &[],
            deadline: SHORT,
        })?;
        // The host believes the first word that can be, and answers.
        for _ in 0..100 {
            if !Shape::Hostcall.is(&outcome, 0) {
                break;
            }
            outcome = lane.answer(0, SHORT)?;
        }
        lane.renew();
        Ok(outcome)
    })?;
    let mut tally = Tally::new(ANYTHING_LEGAL);
    for ((a, b), outcome) in pairs.iter().zip(&outcomes) {
        tally.add(outcome, 0, &format!("{a:#x} and {b:#x}"));
    }
    let attempt = format!("{} pairs of state words by turns", pairs.len());
    Ok(tally.row(NAME, attempt, Some(Layer::SharedWords)))
}

/// Taking back the bits that say who sleeps: nobody may sleep for ever by that.
fn sleep_bits(stage: &Stage) -> Result<Row, Error> {
    const EXPECTED: Expected = &[
        May(Shape::Deadline, "the host looks again by itself"),
        May(Shape::Forged, "it raced with the host's own exchange"),
    ];
    let masks = [!0x100u32, !0x200, !0x300, 0xffff, 0xff];
    let outcomes = share(stage, masks.len(), |lane, index| {
        lane.run(&Attempt {
            entry: stage.kit.entry("take bits back"),
            args: [TURN_LINE, masks[index].into(), 0],
            block: &[],
            deadline: SHORT,
        })
    })?;
    let mut tally = Tally::new(EXPECTED);
    for (mask, outcome) in masks.iter().zip(&outcomes) {
        tally.add(outcome, 0, &format!("mask {mask:#x}"));
    }
    Ok(tally.row(
        NAME,
        "taking the sleep bits back".into(),
        Some(Layer::SharedWords),
    ))
}

/// States of a worker that ends at once: the host gets a legal one, then learns of the end.
fn last_words(stage: &Stage) -> Result<Row, Error> {
    const STATUS: u64 = 9;
    const EXPECTED: Expected = &[
        HOSTCALL[0],
        FINISHED[0],
        TRAPPED[0],
        FORGED[0],
        May(Shape::Exited(9), "it ended"),
    ];
    const ENDED: Expected = &[EXPECTED[3], EXPECTED[4]];
    const REPEATS: usize = 8;
    let states = [0, 2, 3, 4, 5, 6, 7, 0x104, 0x304];
    let outcomes = share(stage, states.len() * REPEATS, |lane, index| {
        // A fault's signal for state 6, by a real fault.
        lane.run(&Attempt {
            entry: stage.kit.entry("read"),
            args: [0; 3],
            block: &[],
            deadline: PATIENT,
        })?;
        let first = lane.run(&Attempt {
            entry: stage.kit.entry("publish and end"),
            args: [0, states[index % states.len()], STATUS],
            block: &[],
            deadline: PATIENT,
        })?;
        let second = if first.is_over(false) {
            None
        } else if Shape::Hostcall.is(&first, 0) {
            Some(lane.answer(0, PATIENT)?)
        } else {
            Some(lane.run(&Attempt {
                entry: stage.kit.entry("return"),
                args: [0; 3],
                block: &[],
                deadline: PATIENT,
            })?)
        };
        lane.renew();
        Ok((first, second))
    })?;
    let mut tally = Tally::brief(EXPECTED);
    for (index, (first, second)) in outcomes.iter().enumerate() {
        let what = format!("state {:#x}", states[index % states.len()]);
        tally.add(first, 0, &what);
        if let Some(second) = second {
            tally.add_expecting(ENDED, second, 0, &format!("after {what}"));
        }
    }
    let attempt = "publishing a state and ending at once".to_owned();
    Ok(tally.row(NAME, attempt, Some(Layer::SharedWords)))
}
