//! Runs a filter on made-up calls, to test a policy without a process to kill.

use super::bpf::{AND, Instruction, JUMP_IF_AT_LEAST, JUMP_IF_EQUAL, LOAD, RETURN, SeccompData};

/// What a program answers to a call, or `None` if the program is not one the kernel would take:
/// an instruction unknown here, a load outside of the data, or no answer at the end.
#[must_use]
pub(super) fn simulate(program: &[Instruction], data: &SeccompData) -> Option<u32> {
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
            JUMP_IF_EQUAL => arm(instruction, loaded == operand),
            JUMP_IF_AT_LEAST => arm(instruction, loaded >= operand),
            RETURN => return Some(operand),
            _ => return None,
        };
        rest = after.get(skip..)?;
    }
    None
}

/// How far a jump goes.
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
