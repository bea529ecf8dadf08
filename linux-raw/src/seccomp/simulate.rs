//! Runs a filter on made-up calls, to test a policy without a process to kill.

use linux_raw_sys::ptrace as sys;

use super::bpf::{
    AND, Instruction, JUMP_IF_ANY_BIT, JUMP_IF_AT_LEAST, JUMP_IF_EQUAL, LOAD, RETURN, SeccompData,
    code,
};

/// The longest program that the kernel takes.
const LENGTH_MAX: usize = sys::BPF_MAXINSNS as usize;
/// Jumps always, as far as the operand says (`BPF_JMP | BPF_JA`): for programs of other assemblers.
const JUMP: u16 = code(sys::BPF_JMP | sys::BPF_JA);

/// What the kernel would answer to a call under this program, or `None` if it would refuse the
/// program: an empty or overlong one, a jump past the end, a load outside of the data, a last
/// instruction that does not answer. Instructions that neither [`Assembler`](super::bpf::Assembler)
/// nor the crate `seccompiler` writes count as refused too.
#[must_use]
pub fn simulate(program: &[Instruction], data: &SeccompData) -> Option<u32> {
    if program.len() > LENGTH_MAX || program.last()?.code != RETURN {
        return None;
    }
    let mut behind = program;
    while let [instruction, after @ ..] = behind {
        if !is_sound(instruction, after.len()) {
            return None;
        }
        behind = after;
    }
    run(program, data)
}

/// Whether the kernel takes an instruction that has so many others behind it.
fn is_sound(instruction: &Instruction, behind: usize) -> bool {
    match instruction.code {
        LOAD => instruction.operand.is_multiple_of(4) && instruction.operand < DATA_BYTES,
        AND | RETURN => true,
        JUMP => distance(instruction) < behind,
        JUMP_IF_EQUAL | JUMP_IF_AT_LEAST | JUMP_IF_ANY_BIT => {
            arm(instruction, true).max(arm(instruction, false)) < behind
        }
        _ => false,
    }
}

/// How much there is to load.
#[expect(clippy::cast_possible_truncation, reason = "64 bytes")]
const DATA_BYTES: u32 = size_of::<SeccompData>() as u32;

/// Runs a sound program.
fn run(program: &[Instruction], data: &SeccompData) -> Option<u32> {
    let mut loaded = 0;
    let mut rest = program;
    while let [instruction, after @ ..] = rest {
        let operand = instruction.operand;
        let skip = match instruction.code {
            LOAD => {
                loaded = word(data, operand)?;
                0
            }
            AND => {
                loaded &= operand;
                0
            }
            JUMP => distance(instruction),
            JUMP_IF_EQUAL => arm(instruction, loaded == operand),
            JUMP_IF_AT_LEAST => arm(instruction, loaded >= operand),
            JUMP_IF_ANY_BIT => arm(instruction, loaded & operand != 0),
            RETURN => return Some(operand),
            _ => return None,
        };
        rest = after.get(skip..)?;
    }
    None
}

/// How far a jump without a condition goes.
fn distance(jump: &Instruction) -> usize {
    usize::try_from(jump.operand).unwrap_or(usize::MAX)
}

/// How far a jump with a condition goes.
fn arm(jump: &Instruction, holds: bool) -> usize {
    usize::from(if holds { jump.if_true } else { jump.if_false })
}

/// The word at an offset of the data.
fn word(data: &SeccompData, offset: u32) -> Option<u32> {
    let index = usize::try_from(offset / 4).ok()?;
    if !offset.is_multiple_of(4) {
        return None;
    }
    let [low, high] = halves(data.instruction_pointer);
    let head = [data.nr, data.arch, low, high];
    match index.checked_sub(head.len()) {
        None => head.get(index).copied(),
        Some(rest) => halves(*data.args.get(rest / 2)?).get(rest % 2).copied(),
    }
}

/// The low and the high half of a register.
#[expect(clippy::cast_possible_truncation, reason = "both halves are answered")]
const fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}
