//! The programs that attempts run. Arguments come as in C; more of them from the block of words.

mod pages;
pub(super) mod stops;

use cellwall::abi::{HOSTCALL, TURN_LINE};
use iced_x86::IcedError;
use iced_x86::code_asm::{
    CodeAssembler, byte_ptr, dword_ptr, eax, ebx, edi, edx, esi, ptr, qword_ptr, r8, r9, r10, r11,
    r12, r13, r14, r15, rax, rbp, rbx, rcx, rdi, rdx, rsi, rsp, xmm0, xmm1,
};

use super::kit::{BLOCK, Code, DATA, Program};
use super::props::MXCSR;

type Write = fn(&mut CodeAssembler) -> Result<(), IcedError>;

/// Name and code of each.
const PROGRAMS: &[(&str, Write)] = &[
    ("syscall", |code| {
        load_64_bit_call(code)?;
        code.syscall()?;
        code.ret()
    }),
    ("int 0x80", |code| {
        load_32_bit_call(code)?;
        code.int(0x80)?;
        code.ret()
    }),
    ("sysenter", |code| {
        load_32_bit_call(code)?;
        // The kernel takes the sixth argument from where ebp points: from the block.
        code.mov(rbp, BLOCK + 48)?;
        code.sysenter()?;
        code.ret()
    }),
    ("sysenter, no stack", |code| {
        load_32_bit_call(code)?;
        code.xor(rbp, rbp)?;
        code.sysenter()?;
        code.ret()
    }),
    // The block's eighth word holds the flags.
    ("syscall with flags", |code| {
        load_64_bit_call(code)?;
        load_flags(code)?;
        code.syscall()?;
        code.ret()
    }),
    ("int 0x80 with flags", |code| {
        load_32_bit_call(code)?;
        load_flags(code)?;
        code.int(0x80)?;
        code.ret()
    }),
    ("sysenter with flags", |code| {
        load_32_bit_call(code)?;
        code.mov(rbp, BLOCK + 48)?;
        load_flags(code)?;
        code.sysenter()?;
        code.ret()
    }),
    ("syscall, wild stack", |code| {
        load_64_bit_call(code)?;
        code.mov(rsp, 0xffff_8000_0000_0000u64)?;
        code.syscall()?;
        code.ret()
    }),
    // The shadow of a load of ss delays what comes before the next instruction (CVE-2018-8897).
    ("syscall, after mov ss", |code| {
        load_64_bit_call(code)?;
        code.db(&[0x8c, 0xd1, 0x8e, 0xd1])?; // mov ecx, ss; mov ss, ecx
        code.syscall()?;
        code.ret()
    }),
    // rdi times the same call: a bomb if the filter lets it. A child, which has 0 in rax, ends:
    // what there is no wall for must not take the machine with it.
    ("many calls", |code| {
        let mut again = code.create_label();
        let mut child = code.create_label();
        code.mov(rbx, rdi)?;
        code.set_label(&mut again)?;
        load_64_bit_call(code)?;
        code.syscall()?;
        code.test(rax, rax)?;
        code.jz(child)?;
        code.dec(rbx)?;
        code.jnz(again)?;
        code.ret()?;
        code.set_label(&mut child)?;
        code.mov(eax, 231)?;
        code.syscall()?;
        code.ret()
    }),
    // A wait for the value that is there: until somebody wakes it or the deadline comes.
    ("futex wait", |code| {
        code.mov(rdi, TURN_LINE)?;
        code.mov(edx, dword_ptr(rdi))?;
        code.xor(esi, esi)?;
        code.xor(r10, r10)?;
        code.mov(eax, 202)?;
        code.syscall()?;
        code.ret()
    }),
    // Wakes the host as often as it can: the host must not hold on to its sleep.
    ("wake for ever", |code| {
        let mut again = code.create_label();
        code.set_label(&mut again)?;
        wake(code)?;
        code.jmp(again)
    }),
    // The same, and takes back that the host sleeps.
    ("wake and take back", |code| {
        let mut again = code.create_label();
        code.set_label(&mut again)?;
        wake(code)?;
        code.lock().and(dword_ptr(rdi), !0x100)?;
        code.jmp(again)
    }),
    // esi: a state. The worker is gone by the time that the host reacts to it.
    ("publish and end", |code| {
        code.mov(rdi, TURN_LINE)?;
        code.mov(ebx, edx)?;
        code.xchg(dword_ptr(rdi), esi)?;
        code.mov(edi, ebx)?;
        code.mov(eax, 231)?;
        code.syscall()?;
        code.ud2()
    }),
    // rdi: frame.
    ("sigreturn", |code| {
        code.lea(rsp, ptr(rdi + 8))?;
        code.mov(eax, 15)?;
        code.syscall()?;
        code.ret()
    }),
    ("answer 42", |code| {
        code.mov(eax, 42)?;
        code.ret()
    }),
    ("return", |code| code.ret()),
    ("spin", |code| {
        let mut again = code.create_label();
        code.set_label(&mut again)?;
        code.pause()?;
        code.jmp(again)
    }),
    ("recurse", |code| {
        let mut again = code.create_label();
        code.set_label(&mut again)?;
        code.call(again)
    }),
    ("split locks", |code| {
        let mut again = code.create_label();
        code.mov(rax, DATA + 64 * 64 - 2)?;
        code.set_label(&mut again)?;
        code.lock().inc(dword_ptr(rax))?;
        code.jmp(again)
    }),
    ("read", |code| {
        code.mov(rax, qword_ptr(rdi))?;
        code.ret()
    }),
    ("write", |code| {
        code.mov(byte_ptr(rdi), 0x5a)?;
        code.ret()
    }),
    ("execute", |code| code.jmp(rdi)),
    // rdi: to, rsi: from, rdx: bytes.
    ("copy", |code| {
        code.mov(rcx, rdx)?;
        code.rep().movsb()?;
        code.ret()
    }),
    // From rdi up to rsi: a byte on each page. Then a hostcall, then one byte too many.
    ("touch", |code| {
        let mut again = code.create_label();
        code.mov(rbx, rdi)?;
        code.mov(rbp, rsi)?;
        code.set_label(&mut again)?;
        code.mov(byte_ptr(rbx), 1)?;
        code.add(rbx, 4096)?;
        code.cmp(rbx, rbp)?;
        code.jb(again)?;
        hostcall(code)?;
        code.mov(byte_ptr(rbx), 1)?;
        code.ret()
    }),
    // rdi hostcalls, numbered downwards.
    ("flood", |code| {
        let mut again = code.create_label();
        code.mov(rbx, rdi)?;
        code.set_label(&mut again)?;
        code.mov(rdi, rbx)?;
        hostcall(code)?;
        code.dec(rbx)?;
        code.jnz(again)?;
        code.ret()
    }),
    ("jump", |code| {
        load_registers(code)?;
        code.jmp(r11)
    }),
    // The same with flags of the block's, which are on the stack that it names.
    ("jump with flags", |code| {
        load_registers(code)?;
        code.push(qword_ptr(rdi + 8 * FLAGS))?;
        code.popfq()?;
        code.jmp(r11)
    }),
    ("unmasked exceptions", |code| {
        code.mov(rax, MXCSR)?;
        code.ldmxcsr(dword_ptr(rax))?;
        hostcall(code)?;
        code.mov(eax, 1)?;
        code.cvtsi2ss(xmm0, eax)?;
        code.xorps(xmm1, xmm1)?;
        code.divss(xmm0, xmm1)?;
        code.ret()
    }),
    // rdi: stack pointer.
    ("fault on that stack", |code| {
        code.mov(rsp, rdi)?;
        code.ud2()
    }),
    // rdi: address, rsi: bytes, rdx: with what; block: where to go on.
    ("scribble", |code| {
        code.mov(eax, edx)?;
        code.mov(rcx, rsi)?;
        code.rep().stosb()?;
        code.mov(r11, BLOCK)?;
        code.jmp(qword_ptr(r11))
    }),
    // rdi: address, esi: word, edx: the fault's signal; then spins.
    ("store", |code| {
        let mut again = code.create_label();
        code.mov(
            rax,
            cellwall::abi::GUEST_PAGE + cellwall::abi::FAULT_OFFSET as u64,
        )?;
        code.mov(dword_ptr(rax), edx)?;
        code.xchg(dword_ptr(rdi), esi)?;
        code.set_label(&mut again)?;
        code.pause()?;
        code.jmp(again)
    }),
    // rdi: address, esi and edx: words, by turns.
    ("flicker", |code| {
        let mut again = code.create_label();
        code.set_label(&mut again)?;
        code.mov(dword_ptr(rdi), esi)?;
        code.mov(dword_ptr(rdi), edx)?;
        code.jmp(again)
    }),
    // rdi: address, esi: mask.
    ("take bits back", |code| {
        let mut again = code.create_label();
        code.set_label(&mut again)?;
        code.lock().and(dword_ptr(rdi), esi)?;
        code.jmp(again)
    }),
    // rdi: selector, rsi: target.
    ("far return", |code| {
        code.push(rdi)?;
        code.push(rsi)?;
        code.db(FAR_RETURN)
    }),
    // Block: target, code selector, flags, stack, stack selector.
    ("interrupt return", |code| {
        code.mov(r11, BLOCK)?;
        code.sub(rsp, 8)?;
        for word in [4, 3, 2, 1, 0] {
            code.push(qword_ptr(r11 + 8 * word))?;
        }
        code.iretq()
    }),
    // Block: number, six arguments, target in 32-bit code.
    ("32-bit code", |code| {
        load_32_bit_call(code)?;
        code.mov(rbp, BLOCK + 48)?;
        code.mov(r11, BLOCK)?;
        code.push(0x23)?;
        code.push(qword_ptr(r11 + 56))?;
        code.db(FAR_RETURN)
    }),
];

/// `retfq`, which the assembler does not know.
const FAR_RETURN: &[u8] = &[0x48, 0xcb];

/// Where the flags are in the block of "jump with flags", in words.
const FLAGS: usize = 16;

pub(super) fn programs() -> Vec<Program> {
    let program = |(name, write): &(&str, Write)| Program {
        name: (*name).to_owned(),
        code: Code::Written(*write),
    };
    let random = Program {
        name: "random bytes".to_owned(),
        code: Code::Bytes(random_bytes()),
    };
    PROGRAMS
        .iter()
        .chain(pages::PROGRAMS)
        .chain(stops::PROGRAMS)
        .map(program)
        .chain(std::iter::once(random))
        .collect()
}

/// How many bytes of code nobody wrote there are.
pub(super) const RANDOM_BYTES: usize = 4096;

/// The same in every audit: by xorshift, from a seed that is no secret.
fn random_bytes() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(RANDOM_BYTES).collect()
}

/// `futex` WAKE of everybody at the state word.
fn wake(code: &mut CodeAssembler) -> Result<(), IcedError> {
    code.mov(rdi, TURN_LINE)?;
    code.mov(esi, 1)?;
    code.mov(edx, 0x7fff_ffff)?;
    code.xor(r10, r10)?;
    code.mov(eax, 202)?;
    code.syscall()
}

fn hostcall(code: &mut CodeAssembler) -> Result<(), IcedError> {
    code.mov(eax, 1)?;
    code.mov(r11, HOSTCALL)?;
    code.call(r11)
}

/// From the block: the number, then six arguments.
fn load_64_bit_call(code: &mut CodeAssembler) -> Result<(), IcedError> {
    code.mov(r11, BLOCK)?;
    let registers = [rax, rdi, rsi, rdx, r10, r8, r9];
    for (word, register) in registers.into_iter().enumerate() {
        code.mov(register, qword_ptr(r11 + 8 * word))?;
    }
    Ok(())
}

fn load_32_bit_call(code: &mut CodeAssembler) -> Result<(), IcedError> {
    code.mov(r11, BLOCK)?;
    let registers = [rax, rbx, rcx, rdx, rsi, rdi, rbp];
    for (word, register) in registers.into_iter().enumerate() {
        code.mov(register, qword_ptr(r11 + 8 * word))?;
    }
    Ok(())
}

fn load_flags(code: &mut CodeAssembler) -> Result<(), IcedError> {
    code.push(qword_ptr(r11 + 56))?;
    code.popfq()
}

/// The registers of a jump, from the block; the target goes to `r11`. `rdi` stays at the block:
/// memory that can be read and written.
fn load_registers(code: &mut CodeAssembler) -> Result<(), IcedError> {
    code.mov(rdi, BLOCK)?;
    let registers = [
        r11, rax, rbx, rcx, rdx, rsi, rbp, rsp, r8, r9, r10, r12, r13, r14, r15,
    ];
    for (word, register) in registers.into_iter().enumerate() {
        code.mov(register, qword_ptr(rdi + 8 * word))?;
    }
    Ok(())
}
