//! Programs for memory that the host fills, protects and gives to the next guest.

use cellwall::abi::TURN_LINE;
use iced_x86::code_asm::{
    byte_ptr, dword_ptr, ebx, ecx, edx, esi, ptr, qword_ptr, r8, r9, r10, r11, r12, r12d, r13, r14,
    r15, rax, rbp, rbx, rcx, rdi, rdx, rsi, rsp, xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7,
    xmm8, xmm9, xmm10, xmm11, xmm12, xmm13, xmm14, xmm15,
};

use super::Write;

/// Name and code of each.
pub(super) const PROGRAMS: &[(&str, Write)] = &[
    ("exchange", |code| {
        code.xchg(qword_ptr(rdi), rsi)?;
        code.ret()
    }),
    ("locked add", |code| {
        code.lock().add(qword_ptr(rdi), rsi)?;
        code.ret()
    }),
    ("compare and exchange", |code| {
        // Also where the words differ the CPU writes what was there.
        code.mov(rax, rsi)?;
        code.lock().cmpxchg(qword_ptr(rdi), rsi)?;
        code.ret()
    }),
    ("write 16 bytes", |code| {
        code.movups(ptr(rdi), xmm0)?;
        code.ret()
    }),
    ("write past the cache", |code| {
        code.movntps(ptr(rdi), xmm0)?;
        code.ret()
    }),
    ("save the x87 state", |code| {
        code.fxsave64(ptr(rdi))?;
        code.ret()
    }),
    ("push", |code| {
        code.lea(rsp, ptr(rdi + 8))?;
        code.push(rsi)?;
        code.ret()
    }),
    // rdi: to, rsi: bytes.
    ("fill backwards", |code| {
        code.std()?;
        code.mov(rcx, rsi)?;
        code.lea(rdi, ptr(rdi + rsi - 1))?;
        code.rep().stosb()?;
        code.cld()?;
        code.ret()
    }),
    // rdi: address, rsi: the CPU's error code, edx: signal. Says that it has faulted there; when it
    // is told to go on, it writes there.
    ("claim a fault", |code| {
        let (mut wait, mut again) = (code.create_label(), code.create_label());
        let fault = cellwall::abi::GUEST_PAGE + cellwall::abi::FAULT_OFFSET as u64;
        code.mov(rax, fault)?;
        code.mov(dword_ptr(rax), edx)?;
        code.mov(dword_ptr(rax + 4), 1)?;
        code.mov(qword_ptr(rax + 8), rdi)?;
        code.mov(qword_ptr(rax + 16), rsi)?;
        code.mov(qword_ptr(rax + 24), 14)?;
        code.mov(r8, TURN_LINE)?;
        code.mov(esi, 6)?;
        code.xchg(dword_ptr(r8), esi)?;
        code.set_label(&mut wait)?;
        code.pause()?;
        code.cmp(byte_ptr(r8), 3)?;
        code.jne(wait)?;
        code.mov(byte_ptr(rdi), 0x5a)?;
        code.set_label(&mut again)?;
        code.pause()?;
        code.jmp(again)
    }),
    // rdi: word, rsi: page, edx: state. Says that it has finished, then writes the word over the
    // page and over the turn line, and the state beside it, again and again.
    ("finish and go on", |code| {
        let mut again = code.create_label();
        code.mov(r8, TURN_LINE)?;
        code.mov(r9, rdi)?;
        code.mov(r10, rsi)?;
        code.mov(r12, rdx)?;
        // A fault would be reported after the lie.
        code.mov(qword_ptr(rsi), rdi)?;
        code.mov(ebx, 5)?;
        code.xchg(dword_ptr(r8), ebx)?;
        code.set_label(&mut again)?;
        code.mov(rax, r9)?;
        code.mov(rdi, r10)?;
        code.mov(ecx, 512)?;
        code.rep().stosq()?;
        code.mov(ecx, 7)?;
        code.lea(rdi, ptr(r8 + 8))?;
        code.rep().stosq()?;
        code.test(r12, r12)?;
        code.jz(again)?;
        code.mov(dword_ptr(r8), r12d)?;
        code.jmp(again)
    }),
    // rdi: word, rsi: stack pointer, rdx: where to go on. All registers hold the word.
    ("leave everything", |code| {
        code.mov(rsp, rsi)?;
        code.push(rdx)?;
        code.movq(xmm0, rdi)?;
        code.movlhps(xmm0, xmm0)?;
        for xmm in [
            xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7, xmm8, xmm9, xmm10, xmm11, xmm12, xmm13,
            xmm14, xmm15,
        ] {
            code.movaps(xmm, xmm0)?;
        }
        for register in [
            rax, rbx, rcx, rdx, rsi, rbp, r8, r9, r10, r11, r12, r13, r14, r15,
        ] {
            code.mov(register, rdi)?;
        }
        code.ret()
    }),
    // rdi: where to. What a guest finds in its registers.
    ("take everything", |code| {
        let general = [
            rax, rbx, rcx, rdx, rsi, rbp, r8, r9, r10, r11, r12, r13, r14, r15,
        ];
        for (word, register) in general.into_iter().enumerate() {
            code.mov(qword_ptr(rdi + 8 * word), register)?;
        }
        code.fxsave64(ptr(rdi + 0x80))?;
        code.ret()
    }),
];
