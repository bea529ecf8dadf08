//! The guests: one piece of machine code with many entries. What each computes is here again in
//! Rust, for those who check it.

use cellwall::abi::{CODE_WINDOW, GAS, HOSTCALL, OUT_OF_GAS};
use iced_x86::IcedError;
use iced_x86::code_asm::{
    AsmRegister64, AsmRegisterXmm, CodeAssembler, CodeLabel, dword_ptr, eax, ebx, ecx, edi, edx,
    qword_ptr, r8, r9, r10, r11, r12, r13, r14, r15, rax, rbp, rbx, rcx, rdi, rdx, rsi, xmm0, xmm1,
    xmm2, xmm3, xmm4, xmm5, xmm6, xmm7, xmm8, xmm9, xmm10, xmm11, xmm12, xmm13, xmm14, xmm15,
};

use crate::lands::{CONSTANTS, DATA};

/// Room for each entry's code.
const CELL: usize = 512;

/// What a guest can be told to do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Entry {
    /// Finishes with all that is not zero in its registers, and in so many words (rdi, rsi, rdx:
    /// first, count, distance).
    Look,
    /// Fills words as those (rcx: with what), and its registers.
    Mark,
    /// Sums words as those.
    Sum,
    /// Exchanges a word (rdi) with rsi, and finishes with what it was.
    Swap,
    /// Computes [`scrambled`].
    Scramble,
    /// Makes rdi hostcalls, and finishes with the sum of the answers.
    Call,
    /// Counts at `DATA` until there is something at `DATA + 8`, which it finishes with.
    Count,
    /// Counts rdi down with a unit of gas for each step, and finishes with how many there were.
    Pay,
    /// Does what traps, by number.
    Trap,
    /// Ends its process with the status rdi.
    Exit,
    /// Makes the system call rdi.
    Forbidden,
    /// Makes one by the gate for 32-bit programs.
    Gate,
}

type Write = fn(&mut CodeAssembler) -> Result<(), IcedError>;

const ENTRIES: [Write; 12] = [
    look, mark, sum, swap, scramble, call, count, pay, trap, exit, forbidden, gate,
];

impl Entry {
    /// Where it is.
    pub(crate) fn address(self) -> u64 {
        CODE_WINDOW.start + self as u64 * CELL as u64
    }
}

/// The code of all entries, for the start of the code window.
pub(crate) fn code() -> Vec<u8> {
    let mut all = Vec::new();
    for (number, write) in ENTRIES.iter().enumerate() {
        let cell = assemble(CODE_WINDOW.start + all.len() as u64, write);
        assert!(cell.len() <= CELL, "entry {number} has no room");
        all.extend(cell);
        // What is left of a cell traps.
        all.resize((number + 1) * CELL, 0xcc);
    }
    all
}

/// One routine, at an address.
pub(crate) fn assemble(
    at: u64,
    write: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Vec<u8> {
    let mut code = CodeAssembler::new(64).expect("an assembler for 64 bits");
    write(&mut code).expect("instructions that exist");
    code.assemble(at).expect("jumps that reach")
}

/// Those that are zero at an entry, whoever was in the worker before. `r11` is the entry.
const REGISTERS: [AsmRegister64; 8] = [rbx, rbp, r10, r12, r13, r14, r15, rcx];
const VECTORS: [AsmRegisterXmm; 15] = [
    xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7, xmm8, xmm9, xmm10, xmm11, xmm12, xmm13, xmm14, xmm15,
];

fn look(code: &mut CodeAssembler) -> Result<(), IcedError> {
    for register in REGISTERS.into_iter().chain([r8, r9]) {
        code.or(rax, register)?;
    }
    for vector in VECTORS {
        code.por(xmm0, vector)?;
    }
    code.movq(rcx, xmm0)?;
    code.or(rax, rcx)?;
    code.psrldq(xmm0, 8)?;
    code.movq(rcx, xmm0)?;
    code.or(rax, rcx)?;
    each_word(code, |code| code.or(rax, qword_ptr(rdi)))?;
    code.ret()
}

/// Does something to rsi words, rdx bytes apart, by their addresses in rdi.
fn each_word(code: &mut CodeAssembler, what: Write) -> Result<(), IcedError> {
    let again = label_here(code)?;
    what(code)?;
    code.add(rdi, rdx)?;
    code.dec(rsi)?;
    code.jnz(again)
}

fn label_here(code: &mut CodeAssembler) -> Result<CodeLabel, IcedError> {
    let mut label = code.create_label();
    code.set_label(&mut label)?;
    Ok(label)
}

fn mark(code: &mut CodeAssembler) -> Result<(), IcedError> {
    each_word(code, |code| code.mov(qword_ptr(rdi), rcx))?;
    code.movq(xmm0, rcx)?;
    code.punpcklqdq(xmm0, xmm0)?;
    for vector in VECTORS {
        code.movdqa(vector, xmm0)?;
    }
    for register in REGISTERS
        .into_iter()
        .chain([rax, rdi, rsi, rdx, r8, r9, r11])
    {
        code.mov(register, rcx)?;
    }
    code.ret()
}

fn sum(code: &mut CodeAssembler) -> Result<(), IcedError> {
    each_word(code, |code| code.add(rax, qword_ptr(rdi)))?;
    code.ret()
}

fn swap(code: &mut CodeAssembler) -> Result<(), IcedError> {
    code.xchg(qword_ptr(rdi), rsi)?;
    code.mov(rax, rsi)?;
    code.ret()
}

fn scramble(code: &mut CodeAssembler) -> Result<(), IcedError> {
    scrambles(code, SHIFTS)
}

/// How [`scrambled`] shifts in the guests' common code.
pub(crate) const SHIFTS: [u32; 3] = [13, 7, 17];

/// Scrambles rsi, rdi times.
pub(crate) fn scrambles(code: &mut CodeAssembler, shifts: [u32; 3]) -> Result<(), IcedError> {
    let [one, two, three] = shifts;
    code.mov(rax, rsi)?;
    let again = label_here(code)?;
    code.mov(rcx, rax)?;
    code.shl(rcx, one)?;
    code.xor(rax, rcx)?;
    code.mov(rcx, rax)?;
    code.shr(rcx, two)?;
    code.xor(rax, rcx)?;
    code.mov(rcx, rax)?;
    code.shl(rcx, three)?;
    code.xor(rax, rcx)?;
    code.add(rax, rdi)?;
    code.dec(rdi)?;
    code.jnz(again)?;
    code.ret()
}

/// The same.
pub(crate) fn scrambled(rounds: u64, seed: u64, [one, two, three]: [u32; 3]) -> u64 {
    let mut word = seed;
    for left in (1..=rounds).rev() {
        word ^= word << one;
        word ^= word >> two;
        word ^= word << three;
        word = word.wrapping_add(left);
    }
    word
}

/// Hostcall number `left`, with what is left, rsi, the sum so far and a constant; counts down.
fn call(code: &mut CodeAssembler) -> Result<(), IcedError> {
    code.mov(rbx, rdi)?;
    code.mov(r12, rsi)?;
    let again = label_here(code)?;
    code.mov(rdi, rbx)?;
    code.mov(rsi, r12)?;
    code.mov(rdx, r13)?;
    code.mov(r9, CALL_MARK)?;
    code.mov(eax, ebx)?;
    code.mov(r11, HOSTCALL)?;
    code.call(r11)?;
    code.add(r13, rax)?;
    // Arguments survive.
    code.sub(rdi, rbx)?;
    code.add(r13, rdi)?;
    code.dec(rbx)?;
    code.jnz(again)?;
    code.mov(rax, r13)?;
    code.ret()
}

/// The last argument of each hostcall.
pub(crate) const CALL_MARK: u64 = 0x5eed_ca11;

fn count(code: &mut CodeAssembler) -> Result<(), IcedError> {
    code.mov(rdi, DATA)?;
    let again = label_here(code)?;
    code.inc(qword_ptr(rdi))?;
    code.mov(rax, qword_ptr(rdi + 8))?;
    code.test(rax, rax)?;
    code.jz(again)?;
    code.ret()
}

fn pay(code: &mut CodeAssembler) -> Result<(), IcedError> {
    code.mov(r12, GAS)?;
    let again = label_here(code)?;
    let mut paid = code.create_label();
    code.sub(qword_ptr(r12), 1)?;
    code.jns(paid)?;
    code.mov(r11, OUT_OF_GAS)?;
    code.call(r11)?;
    code.set_label(&mut paid)?;
    code.inc(rax)?;
    code.dec(rdi)?;
    code.jnz(again)?;
    code.ret()
}

/// Writes where nothing is: at this address.
pub(crate) const NOWHERE: u64 = 8;

fn trap(code: &mut CodeAssembler) -> Result<(), IcedError> {
    let kinds: [Write; 8] = [
        |code| code.ud2(),
        |code| code.mov(dword_ptr(NOWHERE), eax),
        |code| {
            code.xor(edx, edx)?;
            code.xor(ecx, ecx)?;
            code.div(ecx)
        },
        |code| code.int3(),
        |code| code.hlt(),
        |code| code.mov(dword_ptr(CONSTANTS), ebx),
        |code| {
            code.mov(rax, DATA)?;
            code.jmp(rax)
        },
        |code| {
            let again = label_here(code)?;
            code.push(rax)?;
            code.jmp(again)
        },
    ];
    for (number, kind) in (0_u32..).zip(kinds) {
        let mut next = code.create_label();
        code.cmp(edi, number)?;
        code.jne(next)?;
        kind(code)?;
        code.set_label(&mut next)?;
    }
    code.ret()
}

fn exit(code: &mut CodeAssembler) -> Result<(), IcedError> {
    code.mov(eax, 231)?; // exit_group
    code.syscall()
}

fn forbidden(code: &mut CodeAssembler) -> Result<(), IcedError> {
    code.mov(rax, rdi)?;
    code.syscall()?;
    code.ret()
}

fn gate(code: &mut CodeAssembler) -> Result<(), IcedError> {
    code.mov(eax, 1)?; // exit, for 32 bits; write, for 64
    code.int(0x80)?;
    code.ret()
}
