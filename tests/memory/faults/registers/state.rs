//! A guest that loads all that a CPU has from one block, and stores it into another.

use std::fs;

use iced_x86::code_asm::registers::{gpr64, k as masks, xmm as narrow, ymm as middle, zmm as wide};
use iced_x86::code_asm::{
    AsmRegister64, AsmRegisterXmm, AsmRegisterYmm, AsmRegisterZmm, CodeAssembler, dword_ptr, ptr,
    qword_ptr, rsp, tbyte_ptr, word_ptr,
};

use crate::harness::DATA;

/// Where what is loaded begins, and what is stored: the same layout.
pub(super) const IN: u64 = DATA;
pub(super) const OUT: u64 = DATA + 0x4000;
/// The layout, in bytes.
const GENERAL: u64 = 0;
const FLAGS: u64 = 0x80;
const MXCSR: u64 = 0x88;
const CONTROL: u64 = 0x90;
const BASES: u64 = 0x98;
const MASKS: u64 = 0xc0;
const FLOATS: u64 = 0x100;
const VECTORS: u64 = 0x200;
pub(super) const BYTES: u64 = VECTORS + 32 * 64;

/// Carry, parity, adjust, zero, sign, direction, overflow.
pub(super) const SETTABLE: u64 = 0xcd5;
pub(super) const DIRECTION: u64 = 1 << 10;
pub(super) const ALIGNMENT_CHECK: u64 = 1 << 18;

/// All that hold a general value. `rsp` is restored at the end: a fault needs no guest stack.
pub(super) const GENERAL_REGISTERS: [AsmRegister64; 16] = [
    gpr64::r8,
    gpr64::r9,
    gpr64::r10,
    gpr64::r11,
    gpr64::r12,
    gpr64::r13,
    gpr64::r14,
    gpr64::r15,
    gpr64::rdi,
    gpr64::rsi,
    gpr64::rbp,
    gpr64::rbx,
    gpr64::rdx,
    gpr64::rax,
    gpr64::rcx,
    rsp,
];

/// What this CPU and kernel have beside what all have.
#[derive(Clone, Copy)]
pub(super) struct Has {
    wide: bool,
    middle: bool,
    bases: bool,
}

impl Has {
    pub(super) fn now() -> Self {
        Self {
            wide: is_x86_feature_detected!("avx512bw"),
            middle: is_x86_feature_detected!("avx"),
            bases: programs_may_set_bases(),
        }
    }

    /// How many vector registers of how many bytes.
    fn vectors(self) -> (u64, u64) {
        match self {
            Self { wide: true, .. } => (32, 64),
            Self { middle: true, .. } => (16, 32),
            _ => (16, 16),
        }
    }
}

/// The kernel says so in the second word of capabilities (`HWCAP2_FSGSBASE`, since Linux 5.9).
fn programs_may_set_bases() -> bool {
    const AT_HWCAP2: u64 = 26;
    let vector = fs::read("/proc/self/auxv").expect("/proc");
    let (words, _) = vector.as_chunks::<8>();
    let words: Vec<u64> = words.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    words
        .chunks(2)
        .any(|pair| pair[0] == AT_HWCAP2 && pair[1] & 2 != 0)
}

const XMM: [AsmRegisterXmm; 16] = [
    narrow::xmm0,
    narrow::xmm1,
    narrow::xmm2,
    narrow::xmm3,
    narrow::xmm4,
    narrow::xmm5,
    narrow::xmm6,
    narrow::xmm7,
    narrow::xmm8,
    narrow::xmm9,
    narrow::xmm10,
    narrow::xmm11,
    narrow::xmm12,
    narrow::xmm13,
    narrow::xmm14,
    narrow::xmm15,
];
const YMM: [AsmRegisterYmm; 16] = [
    middle::ymm0,
    middle::ymm1,
    middle::ymm2,
    middle::ymm3,
    middle::ymm4,
    middle::ymm5,
    middle::ymm6,
    middle::ymm7,
    middle::ymm8,
    middle::ymm9,
    middle::ymm10,
    middle::ymm11,
    middle::ymm12,
    middle::ymm13,
    middle::ymm14,
    middle::ymm15,
];
const ZMM: [AsmRegisterZmm; 32] = [
    wide::zmm0,
    wide::zmm1,
    wide::zmm2,
    wide::zmm3,
    wide::zmm4,
    wide::zmm5,
    wide::zmm6,
    wide::zmm7,
    wide::zmm8,
    wide::zmm9,
    wide::zmm10,
    wide::zmm11,
    wide::zmm12,
    wide::zmm13,
    wide::zmm14,
    wide::zmm15,
    wide::zmm16,
    wide::zmm17,
    wide::zmm18,
    wide::zmm19,
    wide::zmm20,
    wide::zmm21,
    wide::zmm22,
    wide::zmm23,
    wide::zmm24,
    wide::zmm25,
    wide::zmm26,
    wide::zmm27,
    wide::zmm28,
    wide::zmm29,
    wide::zmm30,
    wide::zmm31,
];
const K: [iced_x86::code_asm::AsmRegisterK; 8] = [
    masks::k0,
    masks::k1,
    masks::k2,
    masks::k3,
    masks::k4,
    masks::k5,
    masks::k6,
    masks::k7,
];

pub(super) type Written = Result<(), iced_x86::IcedError>;

/// Loads or stores all vector and mask registers.
fn vectors(code: &mut CodeAssembler, has: Has, block: u64, load: bool) -> Written {
    let at = |number: usize| ptr(block + VECTORS + number as u64 * has.vectors().1);
    if has.wide {
        for (number, register) in ZMM.into_iter().enumerate() {
            if load {
                code.vmovdqu64(register, at(number))?;
            } else {
                code.vmovdqu64(at(number), register)?;
            }
        }
        for (number, mask) in K.into_iter().enumerate() {
            let at = qword_ptr(block + MASKS + number as u64 * 8);
            if load {
                code.kmovq(mask, at)?;
            } else {
                code.kmovq(at, mask)?;
            }
        }
        return Ok(());
    }
    for number in 0..16 {
        match (has.middle, load) {
            (true, true) => code.vmovdqu(YMM[number], at(number))?,
            (true, false) => code.vmovdqu(at(number), YMM[number])?,
            (false, true) => code.movups(XMM[number], at(number))?,
            (false, false) => code.movups(at(number), XMM[number])?,
        }
    }
    Ok(())
}

/// The guest: `touch` is what it does between the load and the store.
pub(super) fn guest(
    code: &mut CodeAssembler,
    has: Has,
    touch: impl FnOnce(&mut CodeAssembler) -> Written,
) -> Written {
    code.mov(qword_ptr(OUT - 8), rsp)?;
    vectors(code, has, IN, true)?;
    if has.bases {
        code.mov(gpr64::rax, qword_ptr(IN + BASES))?;
        code.wrfsbase(gpr64::rax)?;
        code.mov(gpr64::rax, qword_ptr(IN + BASES + 8))?;
        code.wrgsbase(gpr64::rax)?;
    }
    code.fninit()?;
    for number in (0..8).rev() {
        code.fld(tbyte_ptr(IN + FLOATS + number * 16))?;
    }
    code.fldcw(word_ptr(IN + CONTROL))?;
    code.ldmxcsr(dword_ptr(IN + MXCSR))?;
    code.push(qword_ptr(IN + FLAGS))?;
    code.popfq()?;
    for (number, register) in GENERAL_REGISTERS.into_iter().enumerate() {
        code.mov(register, qword_ptr(IN + GENERAL + number as u64 * 8))?;
    }
    touch(code)?;
    for (number, register) in GENERAL_REGISTERS.into_iter().enumerate() {
        code.mov(qword_ptr(OUT + GENERAL + number as u64 * 8), register)?;
    }
    code.mov(rsp, qword_ptr(OUT - 8))?;
    code.pushfq()?;
    code.pop(qword_ptr(OUT + FLAGS))?;
    code.push(2)?;
    code.popfq()?;
    code.stmxcsr(dword_ptr(OUT + MXCSR))?;
    code.fnstcw(word_ptr(OUT + CONTROL))?;
    vectors(code, has, OUT, false)?;
    if has.bases {
        code.rdfsbase(gpr64::rax)?;
        code.mov(qword_ptr(OUT + BASES), gpr64::rax)?;
        code.rdgsbase(gpr64::rax)?;
        code.mov(qword_ptr(OUT + BASES + 8), gpr64::rax)?;
    }
    for number in 0..8 {
        code.fstp(tbyte_ptr(OUT + FLOATS + number * 16))?;
    }
    code.xor(gpr64::rax, gpr64::rax)?;
    code.ret()
}

/// What the registers hold: no two alike, and another set for each seed.
pub(super) fn block(has: Has, flags: u64, seed: u64) -> Vec<u8> {
    let bytes = usize::try_from(BYTES).unwrap();
    let mut block: Vec<u8> = (1_u64..)
        .map(|at| (at + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .flat_map(u64::to_le_bytes)
        .take(bytes)
        .collect();
    let mut put = |at: u64, bytes: &[u8]| {
        let at = usize::try_from(at).unwrap();
        block[at..at + bytes.len()].copy_from_slice(bytes);
    };
    // One bit is always set, and interrupts are.
    put(FLAGS, &(flags | 0x202).to_le_bytes());
    // Every exception masked and raised already, rounding towards zero, denormals as zeros.
    put(MXCSR, &0xffff_u64.to_le_bytes());
    // Rounding up, double precision.
    put(CONTROL, &0x0a7f_u64.to_le_bytes());
    put(BASES, &0x7fff_1234_5678_u64.to_le_bytes());
    put(BASES + 8, &0x1234_5678_9ab0_u64.to_le_bytes());
    let rest = if has.bases { BASES + 16 } else { BASES };
    put(rest, &vec![0; usize::try_from(MASKS - rest).unwrap()]);
    if !has.wide {
        put(MASKS, &[0; 64]);
    }
    // Numbers of 80 bits: any mantissa with its first bit, any exponent in between.
    for number in 0..8 {
        let mantissa = (1 << 63) | (0x0123_4567_89ab_cdef_u64 * (number + seed + 1));
        let exponent = 0x3fff + number * 17 + (number & 1) * 0x8000;
        let mut float = [0; 16];
        float[..8].copy_from_slice(&mantissa.to_le_bytes());
        float[8..].copy_from_slice(&exponent.to_le_bytes());
        put(FLOATS + number * 16, &float);
    }
    put(FLOATS + 8 * 16, &[0; 128]);
    let (count, each) = has.vectors();
    let end = VECTORS + count * each;
    put(end, &vec![0; usize::try_from(BYTES - end).unwrap()]);
    block
}
