//! The programs of tenants, beside each other in one module.

use cellwall::abi::{CODE_WINDOW, HOSTCALL};
use cellwall::{Instance, Interrupt, Module, ModuleBuilder, Protection};
use iced_x86::code_asm::{
    AsmRegister64, CodeAssembler, ds, dword_ptr, eax, ecx, edx, es, fs, get_k, get_mm, get_xmm,
    get_ymm, get_zmm, gs, ptr, qword_ptr, r8, r9, r10, r11, r12, r13, r14, r15, rax, rbp, rbx, rcx,
    rdi, rdx, rsi, rsp, word_ptr, xmm0, ymm0,
};
use iced_x86::{IcedError, Register};
use vmctx::map::Span;

use super::{NOWHERE, PATTERN};
use crate::harness::{CONSTANTS, DATA};

/// Where [`Program::Dump`] writes: the general registers, flags, segments, then the XSAVE area.
pub(in crate::memory) const DUMP: u64 = DATA;
pub(in crate::memory) const DUMP_BYTES: usize = 0x8000;
const DUMP_XSAVE: u64 = DUMP + 0x100;
/// Which bytes of a dump are the header of the XSAVE format: what the CPU has seen used.
pub(in crate::memory) const DUMP_HEADER: std::ops::Range<usize> = 0x100 + 512..0x100 + 576;

/// Each is at an entry of its own.
#[derive(Clone, Copy, Debug)]
pub(in crate::memory) enum Program {
    /// Start, how many words, the word.
    Fill,
    /// First page, bytes to the next, how many, the word.
    Scatter,
    /// Start, how many words, the word's complement: how many are there.
    Search,
    /// Address: the word there.
    Read,
    /// Address, word.
    Write,
    /// Writes down all registers.
    Dump,
    /// The word goes into all registers; then the guest finishes, calls, traps, faults.
    TaintAndFinish,
    TaintAndCall,
    TaintAndTrap,
    TaintAndFault,
    TaintAndDump,
}

type Write = fn(&mut CodeAssembler) -> Result<(), IcedError>;

/// In the order of [`Program`].
const PROGRAMS: [Write; 11] = [
    |code| {
        code.mov(rcx, rsi)?;
        code.mov(rax, rdx)?;
        code.rep().stosq()?;
        code.ret()
    },
    |code| {
        let mut again = code.create_label();
        code.mov(r8, rdi)?;
        code.mov(rax, rcx)?;
        code.set_label(&mut again)?;
        code.mov(rdi, r8)?;
        code.mov(ecx, 512)?;
        code.rep().stosq()?;
        code.add(r8, rsi)?;
        code.dec(rdx)?;
        code.jnz(again)?;
        code.ret()
    },
    |code| {
        let (mut again, mut done) = (code.create_label(), code.create_label());
        code.mov(rax, rdx)?;
        code.not(rax)?;
        code.mov(rcx, rsi)?;
        code.xor(r8, r8)?;
        code.set_label(&mut again)?;
        code.test(rcx, rcx)?;
        code.jz(done)?;
        code.repne().scasq()?;
        code.jne(done)?;
        code.inc(r8)?;
        code.jmp(again)?;
        code.set_label(&mut done)?;
        code.mov(rax, r8)?;
        code.ret()
    },
    |code| {
        code.mov(rax, qword_ptr(rdi))?;
        code.ret()
    },
    |code| {
        code.mov(qword_ptr(rdi), rsi)?;
        code.ret()
    },
    dump,
    |code| {
        taint(code)?;
        code.ret()
    },
    |code| {
        taint(code)?;
        code.call(qword_ptr(CONSTANTS))?;
        code.ret()
    },
    |code| {
        taint(code)?;
        code.ud2()
    },
    |code| {
        taint(code)?;
        code.mov(qword_ptr(NOWHERE - 0x1000), rax)?;
        code.ret()
    },
    |code| {
        taint(code)?;
        dump(code)
    },
];

/// From one entry to the next.
const SLOT: usize = 0x400;

const GENERAL: [AsmRegister64; 15] = [
    rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15,
];

/// Carry, parity, adjust, zero, sign, direction, overflow, nested task, alignment check, identity:
/// all flags that a program can set and go on with.
const FLAGS: i32 = 0x24_4cd5;
/// All exceptions masked and raised, round to zero, flush to zero.
const MXCSR: i32 = 0xffbf;
/// The selector of the user's data segment on x86-64 Linux.
const USER_DATA: u32 = 0x2b;

fn dump(code: &mut CodeAssembler) -> Result<(), IcedError> {
    for (number, register) in GENERAL.into_iter().enumerate() {
        code.mov(qword_ptr(DUMP + 8 * number as u64), register)?;
    }
    code.mov(qword_ptr(DUMP + 0x78), rsp)?;
    code.pushfq()?;
    code.pop(qword_ptr(DUMP + 0x80))?;
    for (number, segment) in [ds, es, fs, gs].into_iter().enumerate() {
        code.mov(word_ptr(DUMP + 0x88 + 2 * number as u64), segment)?;
    }
    if cpu_has("fsgsbase") {
        code.rdfsbase(rax)?;
        code.mov(qword_ptr(DUMP + 0x90), rax)?;
        code.rdgsbase(rax)?;
        code.mov(qword_ptr(DUMP + 0x98), rax)?;
    }
    code.mov(eax, -1)?;
    code.mov(edx, -1)?;
    code.mov(rcx, DUMP_XSAVE)?;
    code.xsave64(ptr(rcx))?;
    code.ret()
}

/// The word in `rdi` into all registers but the stack pointer, which has it below itself.
fn taint(code: &mut CodeAssembler) -> Result<(), IcedError> {
    code.mov(rax, rdi)?;
    for _ in 0..8 {
        code.push(rax)?;
    }
    code.add(rsp, 64)?;
    code.push(MXCSR)?;
    code.ldmxcsr(dword_ptr(rsp))?;
    // Round up, single precision.
    code.mov(word_ptr(rsp), 0x087f)?;
    code.fldcw(word_ptr(rsp))?;
    code.pop(rcx)?;
    for number in 0..8 {
        code.movq(get_mm(Register::MM0 + number).expect("mm"), rax)?;
    }
    taint_vectors(code)?;
    code.mov(ecx, USER_DATA)?;
    for segment in [ds, es, fs, gs] {
        code.mov(segment, ecx)?;
    }
    if cpu_has("fsgsbase") {
        code.wrfsbase(rax)?;
        code.wrgsbase(rax)?;
    }
    for register in GENERAL {
        code.mov(register, rdi)?;
    }
    code.push(FLAGS)?;
    code.popfq()
}

/// The word in `rax` into every vector register that the CPU has, as wide as it is.
fn taint_vectors(code: &mut CodeAssembler) -> Result<(), IcedError> {
    if cpu_has("avx512f") {
        for number in 0..32 {
            code.vpbroadcastq(get_zmm(Register::ZMM0 + number).expect("zmm"), rax)?;
        }
        for number in 0..8 {
            let mask = get_k(Register::K0 + number).expect("k");
            if cpu_has("avx512bw") {
                code.kmovq(mask, rax)?;
            } else {
                code.kmovw(mask, eax)?;
            }
        }
        return Ok(());
    }
    for number in 0..16 {
        let xmm = get_xmm(Register::XMM0 + number).expect("xmm");
        code.movq(xmm, rax)?;
        code.movlhps(xmm, xmm)?;
    }
    if cpu_has("avx") {
        code.vinsertf128(ymm0, ymm0, xmm0, 1)?;
        for number in 1..16 {
            code.vmovaps(get_ymm(Register::YMM0 + number).expect("ymm"), ymm0)?;
        }
    }
    Ok(())
}

/// Whether the kernel lets programs use this feature of the CPU's.
pub(in crate::memory) fn cpu_has(feature: &str) -> bool {
    static FLAGS: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        let text = std::fs::read_to_string("/proc/cpuinfo").expect("/proc/cpuinfo");
        let flags = text.lines().find(|line| line.starts_with("flags"));
        flags.expect("the CPU's flags").to_owned()
    });
    FLAGS.split_whitespace().any(|flag| flag == feature)
}

/// A module with all programs, and nothing else but what they need.
pub(in crate::memory) fn builder() -> ModuleBuilder {
    let mut all = Vec::new();
    for write in PROGRAMS {
        let mut code = CodeAssembler::new(64).expect("an assembler");
        write(&mut code).expect("instructions");
        let code = code.assemble(CODE_WINDOW.start + all.len() as u64);
        let mut code = code.expect("valid instructions");
        assert!(code.len() <= SLOT, "{} bytes", code.len());
        code.resize(SLOT, 0xcc);
        all.extend(code);
    }
    let builder = Module::builder().code(&all);
    builder.data(CONSTANTS, &HOSTCALL.to_le_bytes(), Protection::Read)
}

/// Code that finishes with this word.
pub(in crate::memory) fn answering(word: u64) -> Vec<u8> {
    let mut code = CodeAssembler::new(64).expect("an assembler");
    code.mov(rax, word).expect("an instruction");
    code.ret().expect("an instruction");
    code.assemble(0).expect("valid instructions")
}

/// Runs a program up to where it stops.
pub(in crate::memory) fn run(instance: &mut Instance, program: Program, args: &[u64]) -> Interrupt {
    let entry = CODE_WINDOW.start + (program as usize * SLOT) as u64;
    instance.call(entry, args).expect("a call");
    instance.run().expect("a turn")
}

/// Runs a program that finishes.
pub(in crate::memory) fn finish(instance: &mut Instance, program: Program, args: &[u64]) -> u64 {
    match run(instance, program, args) {
        Interrupt::Finished(value) => value,
        other => panic!("{program:?} with {args:x?}: {other}"),
    }
}

/// Fills memory with the pattern.
pub(in crate::memory) fn fill(instance: &mut Instance, span: &Span) {
    let words = (span.end - span.start) / 8;
    finish(instance, Program::Fill, &[span.start, words, PATTERN]);
}

/// How many words of memory are the pattern, as the guest sees it. It is never told what it looks
/// for, which would then be found.
pub(in crate::memory) fn search(instance: &mut Instance, span: &Span) -> u64 {
    let words = (span.end - span.start) / 8;
    finish(instance, Program::Search, &[span.start, words, !PATTERN])
}

/// All registers as a guest finds them when it is entered. Bytes that differ between two that are
/// alike are left out.
pub(in crate::memory) fn registers(instance: &mut Instance) -> Vec<u8> {
    finish(instance, Program::Dump, &[]);
    dump_of(instance)
}

/// What has been written down.
pub(in crate::memory) fn dump_of(instance: &mut Instance) -> Vec<u8> {
    let mut bytes = instance.read(DUMP, DUMP_BYTES as u64).expect("a dump");
    bytes[DUMP_HEADER].fill(0);
    bytes
}
