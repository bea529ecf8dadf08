//! The ways into the worker's own code, taken wrongly; and the worker's own memory, spoilt.

use cellwall::abi::{FINISH, HOSTCALL, OUT_OF_GAS, TURN_LINE};
use cellwall::{Error, TrapKind};
use vmctx::{Layer, map};

use super::jumps::{ANYTHING_LEGAL, restorers};
use super::kit::{CONSTANTS, DATA, LOW_CODE, STACK};
use super::lane::{Lane, PATIENT, SHORT, Stage, attempt, share};
use super::outcome::{Expected, May, Shape, Tally};
use super::props::FRAME;
use crate::row::{Row, Verdict};

pub(super) const NAME: &str = "trampolines";

/// Stack pointers that are none.
pub(super) const WILD_STACKS: &[u64] = &[
    0,
    1,
    8,
    DATA,
    DATA + 8,
    STACK,
    STACK + 8,
    STACK + 0x80,
    STACK + 0x81,
    CONSTANTS,
    CONSTANTS + 0x100,
    LOW_CODE + 0x40,
    map::IMAGE.start + 0x1000,
    map::STACK.start,
    map::STACK.end,
    map::HOST_PAGE.start,
    map::HOST_PAGE.end,
    map::TURN_PAGE.start + 4,
    map::TURN_PAGE.start + 8,
    map::TURN_PAGE.start + 64,
    map::GUEST_PAGE.start,
    map::GUEST_PAGE.start + 0x80,
    map::GUEST_PAGE.end,
    map::ALT_STACK.start,
    map::ALT_STACK.start + 0x100,
    map::ALT_STACK.end,
    0xffff_ffff_ff60_0800,
    0xffff_8000_0000_0000,
    0x7fff_ffff_f000,
    0x8000_0000_0000,
    1 << 63,
    u64::MAX,
    u64::MAX - 7,
];

/// Flags beside the one that is always set, and what of entering a trampoline with them.
const FLAGS: &[(&str, u64, Expected)] = &[
    ("the trap flag", 0x102, STEPPED),
    ("the direction flag", 0x402, ENTERED),
    ("the alignment flag", 0x4_0002, ENTERED),
    ("the nested-task flag", 0x4002, ENTERED),
    ("I/O privileges", 0x3002, ENTERED),
    ("everything but the trap flag", 0x24_7ed7, ENTERED),
];

const STEPPED: Expected = &[May(
    Shape::Trap(TrapKind::Breakpoint),
    "one instruction, then a trap",
)];
const ENTERED: Expected = &[
    May(Shape::Hostcall, "the trampoline does not mind"),
    May(Shape::FinishedAny, "the trampoline does not mind"),
    May(Shape::OutOfGas, "the trampoline does not mind"),
];

/// Makes some of the rows.
type Part = fn(&mut Lane<'_>) -> Result<Vec<Row>, Error>;

pub(super) fn run(stage: &Stage) -> Result<Vec<Row>, Error> {
    let parts: [Part; 6] = [flags, wild_stacks, unmasked, frames, spoilt, fault_stacks];
    let rows = share(stage, parts.len(), |lane, index| parts[index](lane))?;
    Ok(rows.into_iter().flatten().collect())
}

/// A worker that is not over works as ever; one that is over is replaced.
fn still_works(lane: &mut Lane<'_>, tally: &mut Tally, what: &str) -> Result<(), Error> {
    const WORKS: Expected = &[May(Shape::Finished(42), "")];
    let outcome = lane.run(&attempt(lane, "answer 42", [0; 3], &[]))?;
    if !WORKS[0].0.is(&outcome, 0) {
        let text = format!("afterwards, {what}: {}", outcome.text());
        tally.note(text, Verdict::Broken);
    }
    Ok(())
}

/// The block of a jump: target, registers, stack pointer, flags.
fn jump_block(target: u64, stack: u64, flags: u64) -> [u64; 17] {
    let mut block = [0; 17];
    block[0] = target;
    block[7] = stack;
    block[16] = flags;
    block
}

fn flags(lane: &mut Lane<'_>) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for (name, flags, expected) in FLAGS {
        let mut tally = Tally::new(expected);
        for target in [HOSTCALL, FINISH, OUT_OF_GAS] {
            let block = jump_block(target, STACK + 0x8000, *flags);
            let outcome = lane.run(&attempt(lane, "jump with flags", [0; 3], &block))?;
            tally.add(&outcome, 0, name);
            still_works(lane, &mut tally, name)?;
        }
        rows.push(tally.row(NAME, format!("entering with {name} set"), None));
    }
    Ok(rows)
}

/// Every trampoline with every stack pointer; a hostcall is answered too.
fn wild_stacks(lane: &mut Lane<'_>) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for (name, target) in [
        ("HOSTCALL", HOSTCALL),
        ("FINISH", FINISH),
        ("OUT_OF_GAS", OUT_OF_GAS),
    ] {
        let mut tally = Tally::new(ANYTHING_LEGAL);
        for stack in WILD_STACKS {
            let block = jump_block(target, *stack, 0);
            let what = format!("rsp {stack:#x}");
            // Nothing of it may hold for ever: the short deadline is for the words that it spoils.
            let mut attempt = attempt(lane, "jump", [0; 3], &block);
            attempt.deadline = SHORT;
            let outcome = lane.run(&attempt)?;
            tally.add(&outcome, 0, &what);
            if Shape::Hostcall.is(&outcome, 0) {
                let outcome = lane.answer(0, SHORT)?;
                tally.add(&outcome, 0, &what);
            }
            lane.renew();
            still_works(lane, &mut tally, &what)?;
        }
        let attempt = format!("{name} with {} wild stack pointers", WILD_STACKS.len());
        rows.push(tally.row(NAME, attempt, None));
    }
    Ok(rows)
}

/// SSE exceptions stay unmasked over a hostcall, and harm the guest alone.
fn unmasked(lane: &mut Lane<'_>) -> Result<Vec<Row>, Error> {
    const EXPECTED: Expected = &[
        May(Shape::Hostcall, "a hostcall changes no such register"),
        May(Shape::Trap(TrapKind::Arithmetic), "its own division"),
    ];
    let mut tally = Tally::new(EXPECTED);
    let outcome = lane.run(&attempt(lane, "unmasked exceptions", [0; 3], &[]))?;
    tally.add(&outcome, 0, "the hostcall");
    if Shape::Hostcall.is(&outcome, 0) {
        let outcome = lane.answer(0, PATIENT)?;
        tally.add(&outcome, 0, "the division");
    }
    still_works(lane, &mut tally, "with exceptions unmasked")?;
    let attempt = "a hostcall with SSE exceptions unmasked, then a division by zero";
    Ok(vec![tally.row(NAME, attempt.into(), None)])
}

/// Frames that no kernel wrote.
fn frames(lane: &mut Lane<'_>) -> Result<Vec<Row>, Error> {
    const KILLED: Expected = &[May(Shape::Forbidden, "the filter: no frame is ever read")];
    let mut forged = Tally::new(KILLED);
    for frame in [FRAME, map::ALT_STACK.end - 0x1000, 0, u64::MAX - 15] {
        let outcome = lane.run(&attempt(lane, "sigreturn", [frame, 0, 0], &[]))?;
        forged.add(&outcome, 0, &format!("a frame at {frame:#x}"));
    }
    let mut returned = Tally::new(ANYTHING_LEGAL);
    let restorers = restorers(lane)?;
    for restorer in &restorers {
        let block = jump_block(*restorer, FRAME + 8, 0);
        let mut attempt = attempt(lane, "jump", [0; 3], &block);
        attempt.deadline = SHORT;
        let outcome = lane.run(&attempt)?;
        returned.add(&outcome, 0, &format!("to {restorer:#x}"));
    }
    if restorers.is_empty() {
        let text = "no address of the image is in a frame".to_owned();
        returned.note(text, Verdict::Unverified);
    }
    let real = "a return from a handler that was never called, by what a real frame names";
    Ok(vec![
        forged.row(NAME, "rt_sigreturn with a forged frame".into(), None),
        returned.row(NAME, real.into(), None),
    ])
}

/// Memory of the worker's own that a guest can write, and whether what is in it is known after.
const SPOILT: &[(&str, map::Span)] = &[
    ("the worker's stack", map::STACK),
    ("the alternate stack", map::ALT_STACK),
    ("the guest page", map::GUEST_PAGE),
    (
        "the turn page but for its line",
        map::TURN_PAGE.start + 64..map::TURN_PAGE.end,
    ),
];

fn spoilt(lane: &mut Lane<'_>) -> Result<Vec<Row>, Error> {
    const EXPECTED: Expected = &[
        May(Shape::Hostcall, "the worker believes nothing of it"),
        May(Shape::FinishedAny, "the worker believes nothing of it"),
        May(Shape::OutOfGas, "the worker believes nothing of it"),
        May(Shape::Trap(TrapKind::IllegalInstruction), "the guest's own"),
    ];
    let fault = lane.stage.kit.entry("instruction ud2");
    let mut rows = Vec::new();
    for (name, span) in SPOILT {
        let mut tally = Tally::brief(EXPECTED);
        for filling in [0, 0xff, 0x41] {
            for next in [HOSTCALL, FINISH, OUT_OF_GAS, fault] {
                let args = [span.start, span.end - span.start, filling];
                let block = [next];
                let outcome = lane.run(&attempt(lane, "scribble", args, &block))?;
                tally.add(&outcome, 0, name);
                still_works(lane, &mut tally, name)?;
            }
        }
        rows.push(tally.row(NAME, format!("overwriting {name}"), None));
    }
    let mut tally = Tally::brief(ANYTHING_LEGAL);
    for filling in 0..=0xff {
        let args = [TURN_LINE, 64, filling];
        let block = [FINISH];
        let mut attempt = attempt(lane, "scribble", args, &block);
        attempt.deadline = SHORT;
        let outcome = lane.run(&attempt)?;
        tally.add(&outcome, 0, &format!("with {filling:#x}"));
        lane.renew();
    }
    let attempt = "overwriting the turn line with each byte".to_owned();
    rows.push(tally.row(NAME, attempt, Some(Layer::SharedWords)));
    Ok(rows)
}

/// A fault with the stack pointer anywhere: on the alternate stack the kernel nests its frames
/// below.
fn fault_stacks(lane: &mut Lane<'_>) -> Result<Vec<Row>, Error> {
    let mut tally = Tally::new(ANYTHING_LEGAL);
    let alternate = (0..32).map(|part| map::ALT_STACK.start + part * 0x800 + 8);
    for stack in alternate.chain(WILD_STACKS.iter().copied()) {
        let args = [stack, 0, 0];
        let mut attempt = attempt(lane, "fault on that stack", args, &[]);
        attempt.deadline = SHORT;
        let outcome = lane.run(&attempt)?;
        let what = format!("rsp {stack:#x}");
        tally.add(&outcome, 0, &what);
        still_works(lane, &mut tally, &what)?;
    }
    Ok(vec![tally.row(
        NAME,
        "faults with wild stack pointers".into(),
        None,
    )])
}
