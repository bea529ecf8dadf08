//! The handlers' way back into a guest, taken without a signal: with frames that the guest wrote.
//!
//! It ends in `iretq` with five words from the frame. A program may try that instruction anyway;
//! what is asked here is whether the zygote's way to it makes anything of a frame but the loss of
//! the guest's own registers.

use cellwall::Error;
use cellwall::abi::FINISH;
use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use vmctx::{State, map};

use super::guests::stops::MARK;
use super::jumps::{ANYTHING_LEGAL, text};
use super::kit::{BLOCK, STACK};
use super::lane::{Attempt, Lane, SHORT, Stage, share_hiding};
use super::outcome::{Outcome, Tally};
use crate::row::{Row, Verdict};

pub(super) const NAME: &str = "handlers";

/// How many instructions before each `iretq` are jumped to: all of its handler and of what it calls
/// to go on.
const BEFORE: usize = 72;

/// Where the forged frame is: the `ucontext` that handlers take.
const CONTEXT: u64 = BLOCK + 0x400;
/// Its registers begin with `r8`.
const REGISTERS: u64 = CONTEXT + 40;
/// The stack that it names; what returns from there finishes.
const FRAME_STACK: u64 = BLOCK + 0xf00;
/// Vector state of zeros, which is the initial one. Above the alternate stack, so that what is
/// wiped up to the end of that is nothing.
const VECTORS: u64 = map::TURN_PAGE.start + 0x400;

const USER_CODE: u64 = 0x33;
const USER_DATA: u64 = 0x2b;
const USER_FLAGS: u64 = 0x202;

/// What a frame says beside what an honest one does.
#[derive(Clone, Copy)]
struct Frame {
    name: &'static str,
    code: u64,
    stack_segment: u64,
    flags: u64,
    /// 0 for the program that says who it is.
    rip: u64,
    rsp: u64,
    vectors: u64,
}

const HONEST: Frame = Frame {
    name: "an honest one",
    code: USER_CODE,
    stack_segment: USER_DATA,
    flags: USER_FLAGS,
    rip: 0,
    rsp: FRAME_STACK,
    vectors: VECTORS,
};

const FRAMES: &[Frame] = &[
    HONEST,
    Frame {
        name: "the kernel's segments",
        code: 0x10,
        stack_segment: 0x18,
        ..HONEST
    },
    Frame {
        name: "the kernel's code segment, by the user's right",
        code: 0x13,
        ..HONEST
    },
    Frame {
        name: "the kernel's code segment and address",
        code: 0x10,
        stack_segment: 0x18,
        rip: 0xffff_ffff_8100_0000,
        rsp: 0xffff_ffff_8200_0000,
        ..HONEST
    },
    Frame {
        name: "32-bit code",
        code: 0x23,
        ..HONEST
    },
    Frame {
        name: "no segments",
        code: 0,
        stack_segment: 0,
        ..HONEST
    },
    Frame {
        name: "a local segment",
        code: 7,
        stack_segment: 0xf,
        ..HONEST
    },
    Frame {
        name: "I/O privileges and virtual interrupts",
        flags: USER_FLAGS | 0x18_3000,
        ..HONEST
    },
    Frame {
        name: "no interrupts",
        flags: 2,
        ..HONEST
    },
    Frame {
        name: "the trap flag",
        flags: USER_FLAGS | 0x100,
        ..HONEST
    },
    Frame {
        name: "nested task, alignment check, direction",
        flags: USER_FLAGS | 0x4_4400,
        ..HONEST
    },
    Frame {
        name: "virtual-8086 mode",
        flags: USER_FLAGS | 0x2_0000,
        ..HONEST
    },
    Frame {
        name: "every flag",
        flags: u64::MAX,
        ..HONEST
    },
    Frame {
        name: "a kernel address",
        rip: 0xffff_ffff_8100_0000,
        ..HONEST
    },
    Frame {
        name: "an address that is none",
        rip: 1 << 63,
        ..HONEST
    },
    Frame {
        name: "the vsyscall page",
        rip: 0xffff_ffff_ff60_0000,
        ..HONEST
    },
    Frame {
        name: "a kernel stack",
        rsp: 0xffff_8880_0000_0000,
        ..HONEST
    },
    Frame {
        name: "a stack on the host page",
        rsp: map::HOST_PAGE.start + 0x800,
        ..HONEST
    },
    Frame {
        name: "a stack in the middle of the alternate stack",
        rsp: map::ALT_STACK.start + 0x8000,
        ..HONEST
    },
    Frame {
        name: "vector state that is none",
        vectors: u64::MAX - 63,
        ..HONEST
    },
    Frame {
        name: "vector state in the kernel",
        vectors: 0xffff_8880_0000_0000,
        ..HONEST
    },
    Frame {
        name: "vector state on the host page",
        vectors: map::HOST_PAGE.start,
        ..HONEST
    },
    Frame {
        name: "vector state below everything, to be wiped with it",
        vectors: map::GUEST.start,
        ..HONEST
    },
    Frame {
        name: "vector state in the zygote's text, to be wiped with what follows",
        vectors: map::IMAGE.start,
        ..HONEST
    },
];

pub(super) fn run(stage: &Stage) -> Result<Vec<Row>, Error> {
    let targets = targets(&text(&mut Lane::new(stage)?)?);
    let mut rows = share_hiding(stage, FRAMES.len(), |lane, index| {
        attack(lane, &FRAMES[index], &targets)
    })?;
    // Without one that arrives, the others show nothing.
    let arrived = rows.iter().any(|row| row.1 > 0);
    if let Some((row, _)) = rows.first_mut().filter(|_| !arrived) {
        row.outcome.push_str("; no jump reached the return");
        row.verdict = row.verdict.max(Verdict::Unverified);
    }
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// The instructions that lead to an `iretq`.
fn targets(text: &[u8]) -> Vec<u64> {
    let decoder = Decoder::with_ip(64, text, map::IMAGE.start, DecoderOptions::NONE);
    let all: Vec<_> = decoder.into_iter().collect();
    let mut targets = Vec::new();
    for (index, instruction) in all.iter().enumerate() {
        if instruction.mnemonic() == Mnemonic::Iretq {
            let first = index.saturating_sub(BEFORE);
            targets.extend(all[first..=index].iter().map(iced_x86::Instruction::ip));
        }
    }
    targets.sort_unstable();
    targets.dedup();
    targets
}

/// One frame at every place. Gives how many guests arrived where it says, too.
fn attack(lane: &mut Lane<'_>, frame: &Frame, targets: &[u64]) -> Result<(Row, usize), Error> {
    let mut tally = Tally::brief(ANYTHING_LEGAL);
    let mut arrived = 0;
    for target in targets {
        let block = block(lane, frame, *target);
        let outcome = lane.run(&Attempt {
            entry: lane.stage.kit.entry("jump"),
            args: [0; 3],
            block: &block,
            deadline: SHORT,
        })?;
        tally.add(&outcome, 0, &format!("to {target:#x}"));
        if let Some((code, flags)) = arrival(&outcome) {
            arrived += 1;
            if code & 3 != 3 || flags & 0x3000 != 0 || flags & USER_FLAGS != USER_FLAGS {
                let text = format!("to {target:#x}: at cs {code:#x}, flags {flags:#x}");
                tally.note(text, Verdict::GotThrough);
            }
        }
    }
    let attempt = format!(
        "jumps to each of {} instructions of the handlers, the frame: {}",
        targets.len(),
        frame.name
    );
    Ok((tally.row(NAME, attempt, None), arrived))
}

/// Code segment and flags of a guest that arrived.
fn arrival(outcome: &Outcome) -> Option<(u64, u64)> {
    let value = outcome.finished()?;
    (value >> 48 == MARK).then_some((value & 0xffff, value >> 16 & 0xffff_ffff))
}

/// Where to jump, with what in the registers, and the frame.
fn block(lane: &Lane<'_>, frame: &Frame, target: u64) -> Vec<u64> {
    let mut block = vec![0; 0x1000 / 8];
    // The registers as the handlers have them: rbx and rdx at the frame, rsp where `stop` puts it,
    // in r12 the state that the host settles by itself.
    block[..15].copy_from_slice(&[
        target,
        frame.rip,
        CONTEXT,
        0,
        CONTEXT,
        STACK,
        0,
        REGISTERS,
        0,
        0,
        0,
        State::Interrupted as u64,
        0,
        0,
        0,
    ]);
    let rip = match frame.rip {
        0 => lane.stage.kit.entry("who am I"),
        rip => rip,
    };
    let mut put = |address: u64, words: &[u64]| {
        let at = usize::try_from((address - BLOCK) / 8).unwrap_or(0);
        block[at..at + words.len()].copy_from_slice(words);
    };
    // rsp, rip, flags; cs, gs, fs, ss; of the fault; the vector state.
    let segments = frame.code | frame.stack_segment << 48;
    put(REGISTERS + 15 * 8, &[frame.rsp, rip, frame.flags, segments]);
    put(REGISTERS + 23 * 8, &[frame.vectors]);
    put(FRAME_STACK, &[FINISH]);
    block
}
