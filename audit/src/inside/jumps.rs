//! Jumps to every instruction of the zygote's code, and to every byte of it.
//!
//! What a jump does is for no table to say. The kernel must not have made a call that is not left,
//! and for that the filter stands: a worker that tries one is dead. So whatever legal comes of it
//! is right, as long as host and sibling are as they were, and the host has a value for it.

use cellwall::abi::PAGE_BYTES;
use cellwall::{Access, Error, Interrupt, Signal, TrapKind};
use iced_x86::{Decoder, DecoderOptions};
use vmctx::{Layer, map};

use super::guests::RANDOM_BYTES;
use super::kit::{DATA, STACK};
use super::lane::{Attempt, Lane, PATIENT, SHORT, Stage, share_hiding};
use super::outcome::{Expected, May, Outcome, Shape, Tally};
use super::props::{FRAME, FRAME_INFO, ZEROS};
use crate::row::{Row, Verdict};

pub(super) const NAME: &str = "jumps";

/// Whatever may come of code that does not know who called it.
pub(super) const ANYTHING_LEGAL: Expected = &[
    May(Shape::Trap(TrapKind::Memory), "a fault"),
    May(Shape::Trap(TrapKind::Bus), "a fault"),
    May(Shape::Trap(TrapKind::IllegalInstruction), "a fault"),
    May(Shape::Trap(TrapKind::Arithmetic), "a fault"),
    May(Shape::Trap(TrapKind::Breakpoint), "a fault"),
    May(Shape::Forbidden, "the filter"),
    May(Shape::FinishedAny, "it came back"),
    May(Shape::Hostcall, "it reached the trampoline"),
    May(Shape::Forged, "it wrote a word that cannot be"),
    May(Shape::Deadline, "it did not come back"),
    // In the zygote's own code a guest is not stopped, but killed.
    May(Shape::Unresponsive, "it did not come back"),
    May(Shape::OutOfGas, "it reached the code that says so"),
    May(Shape::ExitedAny, "it reached the call that ends the worker"),
    May(Shape::Killed(Signal::SEGV), "no signal frame fits"),
];

/// The registers of a jump.
struct Registers {
    name: &'static str,
    /// rax rbx rcx rdx rsi rbp rsp r8 r9 r10 r12 r13 r14 r15.
    values: [u64; 14],
}

/// Where jumps have their stack: full of zeros above.
const MIDDLE: u64 = STACK + 0x8000;

/// In `rax` is a call, should a jump reach a `syscall`: `execve`, `rt_sigreturn`, `futex`.
const SETS: &[Registers] = &[
    Registers {
        name: "zeros",
        values: [0, 0, 0, 0, 0, 0, MIDDLE, 0, 0, 0, 0, 0, 0, 0],
    },
    Registers {
        name: "addresses",
        values: [
            59, DATA, 64, ZEROS, DATA, MIDDLE, MIDDLE, 64, ZEROS, 0, DATA, DATA, DATA, DATA,
        ],
    },
    Registers {
        name: "a signal frame",
        values: [
            15,
            FRAME,
            1,
            FRAME + 8,
            FRAME_INFO,
            FRAME,
            FRAME + 8,
            8,
            0,
            0,
            FRAME,
            FRAME,
            FRAME,
            11,
        ],
    },
    Registers {
        name: "the worker's own pages",
        values: [
            202,
            map::TURN_PAGE.start,
            8,
            1,
            map::GUEST_PAGE.start,
            map::ALT_STACK.end,
            map::STACK.end - 0x100,
            map::HOST_PAGE.start,
            map::TURN_PAGE.start,
            0,
            map::TURN_PAGE.start,
            map::TURN_PAGE.start,
            map::GUEST_PAGE.start,
            map::IMAGE.start,
        ],
    },
];

/// The set that goes to every byte: most things find something to work on.
const EVERYWHERE: usize = 1;

/// Jumps from one thread's hands at a time.
const CHUNK: usize = 64;

pub(super) fn run(stage: &Stage) -> Result<Vec<Row>, Error> {
    let mut lane = Lane::new(stage)?;
    let text = text(&mut lane)?;
    drop(lane);
    if text.is_empty() {
        return Ok(vec![unread()]);
    }
    let start = map::IMAGE.start;
    let bytes: Vec<u64> = (start..start + text.len() as u64).collect();
    let instructions = instructions(&text);
    let mut rows = Vec::new();
    let is_emulated = is_emulated();
    for (set, registers) in SETS.iter().enumerate() {
        rows.push(match set {
            EVERYWHERE if is_emulated => left_out("bytes of the zygote's code"),
            EVERYWHERE => jumps(stage, registers, &bytes, "bytes of the zygote's code")?,
            _ => jumps(
                stage,
                registers,
                &instructions,
                "instructions of the zygote's code",
            )?,
        });
    }
    if is_emulated {
        rows.push(left_out("bytes of random code"));
        return Ok(rows);
    }
    let start = stage.kit.entry("random bytes");
    let random: Vec<u64> = (start..start + RANDOM_BYTES as u64).collect();
    for registers in [&SETS[EVERYWHERE], &SETS[SETS.len() - 1]] {
        rows.push(jumps(stage, registers, &random, "bytes of random code")?);
    }
    Ok(rows)
}

/// Whether the CPU is one that QEMU's translator emulates, and not a CPU.
fn is_emulated() -> bool {
    // Where hypervisors say who they are (KVM's Documentation/virt/kvm/x86/cpuid.rst).
    let told = core::arch::x86_64::__cpuid(0x4000_0000);
    let name = [told.ebx, told.ecx, told.edx].map(u32::to_le_bytes);
    name.as_flattened() == b"TCGTCGTCGTCG"
}

/// Between the bytes of others is an `iretd`. An emulated CPU lets any program return with it to
/// virtual 8086 mode, which a CPU has neither for programs nor in long mode, and the next page
/// fault is the end of the kernel: of every kernel, so nothing is learnt about this one.
fn left_out(what: &str) -> Row {
    let mut tally = Tally::new(ANYTHING_LEGAL);
    let why = "not tried: QEMU's emulated CPU has a hole there that no CPU has".to_owned();
    tally.note(why, Verdict::Off);
    tally.row(NAME, format!("jumps to each of the {what}"), None)
}

fn jumps(stage: &Stage, registers: &Registers, targets: &[u64], what: &str) -> Result<Row, Error> {
    let chunks: Vec<&[u64]> = targets.chunks(CHUNK).collect();
    let done = share_hiding(stage, chunks.len(), |lane, chunk| {
        let one = |target: &u64| Ok((*target, jump(lane, registers, *target)?));
        chunks[chunk]
            .iter()
            .map(one)
            .collect::<Result<Vec<_>, Error>>()
    })?;
    let mut tally = Tally::brief(ANYTHING_LEGAL);
    for (target, outcome) in done.iter().flatten() {
        tally.add(outcome, 0, &format!("to {target:#x}"));
    }
    let attempt = format!(
        "jumps to each of {} {what}, registers: {}",
        targets.len(),
        registers.name
    );
    Ok(tally.row(NAME, attempt, Some(Layer::SystemCalls)))
}

/// Where instructions begin, one after the other.
fn instructions(text: &[u8]) -> Vec<u64> {
    let decoder = Decoder::with_ip(64, text, map::IMAGE.start, DecoderOptions::NONE);
    decoder.into_iter().map(|next| next.ip()).collect()
}

fn jump(lane: &mut Lane<'_>, registers: &Registers, target: u64) -> Result<Outcome, Error> {
    let mut block = vec![target];
    block.extend(registers.values);
    lane.run(&Attempt {
        entry: lane.stage.kit.entry("jump"),
        args: [0; 3],
        block: &block,
        deadline: SHORT,
    })
}

/// The part of the image that can be executed, as a guest finds it out: a page of which a jump says
/// that it cannot be executed is not part of it.
pub(super) fn text(lane: &mut Lane<'_>) -> Result<Vec<u8>, Error> {
    let mut end = map::IMAGE.start;
    while end < map::IMAGE.start + map::IMAGE_BYTES_MAX && is_code(lane, end)? {
        end += PAGE_BYTES;
    }
    let mut copy = vec![0; usize::try_from(end - map::IMAGE.start).unwrap_or(0)];
    let read = lane.copy_out(map::IMAGE.start, &mut copy)?;
    if read.finished().is_none() {
        return Ok(Vec::new());
    }
    // What follows the last instruction is filled up.
    let filling = |byte: &&u8| **byte == 0xcc || **byte == 0;
    let filled = copy.iter().rev().take_while(filling).count();
    copy.truncate(copy.len() - filled);
    Ok(copy)
}

fn is_code(lane: &mut Lane<'_>, page: u64) -> Result<bool, Error> {
    let outcome = jump(lane, &SETS[0], page)?;
    Ok(!matches!(
        outcome.result,
        Ok(Interrupt::Trap(trap)) if trap.access == Some(Access::Execute) && trap.pc == Some(page)
    ))
}

fn unread() -> Row {
    let mut tally = Tally::new(ANYTHING_LEGAL);
    tally.note("the image could not be read".into(), Verdict::Unverified);
    tally.row(NAME, "reading the zygote's code".into(), None)
}

/// The word that a signal frame begins with: where the handler would return to.
pub(super) fn restorers(lane: &mut Lane<'_>) -> Result<Vec<u64>, Error> {
    let bytes = usize::try_from(map::ALT_STACK.end - map::ALT_STACK.start).unwrap_or(0);
    let mut copy = vec![0; bytes];
    let fault = Attempt {
        entry: lane.stage.kit.entry("instruction ud2"),
        args: [0; 3],
        block: &[],
        deadline: PATIENT,
    };
    lane.run(&fault)?;
    lane.copy_out(map::ALT_STACK.start, &mut copy)?;
    let words = copy.chunks_exact(8).map(|word| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        u64::from_le_bytes(bytes)
    });
    let mut found: Vec<u64> = words.filter(|word| map::IMAGE.contains(word)).collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}
