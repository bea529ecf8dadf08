//! Programs that are stopped, say that they are, count gas, and leave all that a register can hold.

use cellwall::abi::{
    FAULT_OFFSET, FAULT_REGISTERS_OFFSET, FINISH, GAS, GUEST_PAGE, REGISTER_NAMES, TURN_LINE,
};
use iced_x86::IcedError;
use iced_x86::code_asm::{
    CodeAssembler, CodeLabel, byte_ptr, cs, ds, dword_ptr, eax, ecx, edx, es, fs, gs, ptr,
    qword_ptr, r8, r9, r10, r11, r12, r13, r13d, r14, r15, rax, rbp, rbx, rcx, rdi, rdx, rsi, rsp,
    word_ptr,
};

use super::{Write, wake};
use crate::inside::kit::{BLOCK, COPIES, DATA};

/// Where a guest that goes round in circles looks whether it may end.
pub(in crate::inside) const RELEASE: u64 = DATA + 0x7000;

/// What a guest that has come where a forged frame sent it says beside its code segment and flags.
pub(in crate::inside) const MARK: u64 = 0x5e6c;

/// Where "leave all state" takes vector state from, in the format of XSAVE.
pub(in crate::inside) const LEFT: u64 = COPIES + 0x8000;
/// Where "take all state" puts vector state.
pub(in crate::inside) const TAKEN: u64 = COPIES + 0x400;

/// The components of XSAVE whose every bit is a value: x87, SSE, AVX and what AVX-512 adds.
const COMPONENTS: u32 = 0xe7;
/// Carry, parity, adjust, zero, sign, direction, overflow, nested task, alignment check, identity.
const FLAGS: i32 = 0x24_4cd5;
/// The selector of the user's data segment.
const USER_DATA: u32 = 0x2b;

/// How many bytes of a report there are, registers included.
const REPORT_BYTES: usize = FAULT_REGISTERS_OFFSET - FAULT_OFFSET + 8 * REGISTER_NAMES.len();

/// Name and code of each.
pub(super) const PROGRAMS: &[(&str, Write)] = &[
    // rdi: how often, esi: a state. Says so, over a report of ones, until it is told to go on.
    ("claim a state", |code| {
        let mut again = code.create_label();
        let mut wait = code.create_label();
        code.mov(r12, rdi)?;
        code.mov(r13, rsi)?;
        code.set_label(&mut again)?;
        code.mov(rdi, GUEST_PAGE + FAULT_OFFSET as u64)?;
        code.mov(rcx, REPORT_BYTES as u64)?;
        code.mov(eax, -1)?;
        code.rep().stosb()?;
        code.mov(rdi, TURN_LINE)?;
        code.mov(eax, r13d)?;
        code.xchg(dword_ptr(rdi), eax)?;
        code.test(eax, 0x100)?;
        code.jz(wait)?;
        wake(code)?;
        code.set_label(&mut wait)?;
        code.pause()?;
        code.cmp(byte_ptr(rdi), 3)?;
        code.jne(wait)?;
        code.dec(r12)?;
        code.jnz(again)?;
        code.mov(eax, 42)?;
        code.ret()
    }),
    // rdi: stack pointer, rsi: flags. Finishes with its flags.
    ("circle on that stack", |code| {
        code.mov(r12, rsp)?;
        code.push(rsi)?;
        code.popfq()?;
        code.mov(rsp, rdi)?;
        until_released(code, |_| Ok(()))?;
        code.mov(rsp, r12)?;
        code.pushfq()?;
        code.pop(rax)?;
        code.ret()
    }),
    // rdi: address, rsi: bytes, rdx: with what.
    ("overwrite for ever", |code| {
        code.mov(r12, rdi)?;
        until_released(code, |code| {
            code.mov(rdi, r12)?;
            code.mov(rcx, rsi)?;
            code.mov(eax, edx)?;
            code.rep().stosb()
        })?;
        code.mov(eax, 42)?;
        code.ret()
    }),
    // rdi and rsi: what the counter says, by turns.
    ("set gas for ever", |code| {
        code.mov(r12, GAS)?;
        until_released(code, |code| {
            code.mov(qword_ptr(r12), rdi)?;
            code.mov(qword_ptr(r12), rsi)
        })?;
        code.mov(eax, 42)?;
        code.ret()
    }),
    // Its code segment and its flags, with a mark, whatever the stack.
    ("who am I", |code| {
        code.pushfq()?;
        code.pop(rcx)?;
        code.mov(eax, cs)?;
        code.shl(rcx, 16)?;
        code.or(rax, rcx)?;
        code.mov(rcx, MARK << 48)?;
        code.or(rax, rcx)?;
        code.mov(r11, FINISH)?;
        code.jmp(r11)
    }),
    ("set segment bases", |code| {
        code.wrfsbase(rdi)?;
        code.wrgsbase(rdi)?;
        code.ret()
    }),
    // rdi: word, rsi: stack pointer, rdx: where to go on; block: whether there are segment bases.
    ("leave all state", |code| {
        let mut no_bases = code.create_label();
        code.mov(r8, rdi)?;
        code.mov(r9, rdx)?;
        code.xor(ecx, ecx)?;
        code.xgetbv()?;
        code.and(eax, COMPONENTS)?;
        code.xor(edx, edx)?;
        code.mov(rbx, LEFT)?;
        code.mov(qword_ptr(rbx + 512), rax)?;
        code.xrstor64(ptr(rbx))?;
        code.mov(ecx, USER_DATA)?;
        for segment in [ds, es, fs, gs] {
            code.mov(segment, ecx)?;
        }
        code.mov(rbx, BLOCK)?;
        code.cmp(qword_ptr(rbx), 0)?;
        code.je(no_bases)?;
        // No base may be an address that is none: the upper half of the word.
        code.mov(rax, r8)?;
        code.shr(rax, 17)?;
        code.wrfsbase(rax)?;
        code.wrgsbase(rax)?;
        code.set_label(&mut no_bases)?;
        code.mov(rsp, rsi)?;
        code.push(r9)?;
        code.push(FLAGS)?;
        for register in [
            rax, rbx, rcx, rdx, rsi, rdi, rbp, r9, r10, r11, r12, r13, r14, r15,
        ] {
            code.mov(register, r8)?;
        }
        code.popfq()?;
        code.ret()
    }),
    // What a guest finds in all registers. Block: whether there are segment bases.
    ("take all state", |code| {
        let mut no_bases = code.create_label();
        for (word, register) in [
            rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15,
        ]
        .into_iter()
        .enumerate()
        {
            code.mov(qword_ptr(COPIES + 8 * word as u64), register)?;
        }
        code.pushfq()?;
        code.pop(qword_ptr(COPIES + 0x80))?;
        for (word, segment) in [ds, es, fs, gs].into_iter().enumerate() {
            code.mov(word_ptr(COPIES + 0x88 + 2 * word as u64), segment)?;
        }
        code.mov(rbx, BLOCK)?;
        code.cmp(qword_ptr(rbx), 0)?;
        code.je(no_bases)?;
        code.rdfsbase(rax)?;
        code.mov(qword_ptr(COPIES + 0x90), rax)?;
        code.rdgsbase(rax)?;
        code.mov(qword_ptr(COPIES + 0x98), rax)?;
        code.set_label(&mut no_bases)?;
        code.mov(eax, -1)?;
        code.mov(edx, -1)?;
        code.mov(rcx, TAKEN)?;
        code.xsave64(ptr(rcx))?;
        code.mov(eax, 42)?;
        code.ret()
    }),
    // Says that it has finished, and computes on with what is in its registers.
    ("finish and circle", |code| {
        let mut again = code.create_label();
        code.mov(r11, TURN_LINE)?;
        code.mov(dword_ptr(r11), 5)?;
        code.set_label(&mut again)?;
        code.pause()?;
        code.jmp(again)
    }),
    // The same in code that is the worker's own; block: a word, then where.
    ("finish and hide", |code| {
        code.mov(r11, BLOCK)?;
        code.push(qword_ptr(r11 + 8))?;
        code.mov(r11, TURN_LINE)?;
        code.mov(dword_ptr(r11), 5)?;
        code.ret()
    }),
];

/// Does the same again and again until the host allows it to end. `r13` is for this.
fn until_released(
    code: &mut CodeAssembler,
    work: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<(), IcedError> {
    let mut again: CodeLabel = code.create_label();
    code.mov(r13, RELEASE)?;
    code.set_label(&mut again)?;
    // So that there is an instruction to label, and for the other thread of the core.
    code.pause()?;
    work(code)?;
    code.cmp(dword_ptr(r13), 0)?;
    code.je(again)
}
