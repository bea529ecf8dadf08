#![expect(unsafe_code, reason = "symbols that the compiler calls, in assembly")]
//! `memcpy` and `memmove`.

use core::arch::naked_asm;

use super::STRING_BYTES_MIN;

/// Copies at most 128 bytes and returns; falls through to label 70 with more. Everything is
/// loaded before anything is stored, so that overlap does not matter.
macro_rules! short_copy {
    () => {
        "
        mov rax, rdi
        cmp rdx, 16
        jb 20f
        cmp rdx, 32
        ja 40f
        movups xmm0, [rsi]
        movups xmm1, [rsi + rdx - 16]
        movups [rdi], xmm0
        movups [rdi + rdx - 16], xmm1
        ret

        .p2align 4
    20: cmp edx, 8
        jb 21f
        mov rcx, [rsi]
        mov r8, [rsi + rdx - 8]
        mov [rdi], rcx
        mov [rdi + rdx - 8], r8
        ret
    21: cmp edx, 4
        jb 22f
        mov ecx, [rsi]
        mov r8d, [rsi + rdx - 4]
        mov [rdi], ecx
        mov [rdi + rdx - 4], r8d
        ret
    22: cmp edx, 1
        jb 24f
        movzx ecx, byte ptr [rsi]
        je 23f
        movzx r8d, word ptr [rsi + rdx - 2]
        mov [rdi + rdx - 2], r8w
    23: mov [rdi], cl
    24: ret

        .p2align 4
    40: cmp rdx, 64
        ja 50f
        movups xmm0, [rsi]
        movups xmm1, [rsi + 16]
        movups xmm2, [rsi + rdx - 32]
        movups xmm3, [rsi + rdx - 16]
        movups [rdi], xmm0
        movups [rdi + 16], xmm1
        movups [rdi + rdx - 32], xmm2
        movups [rdi + rdx - 16], xmm3
        ret

        .p2align 4
    50: cmp rdx, 128
        ja 70f
        movups xmm0, [rsi]
        movups xmm1, [rsi + 16]
        movups xmm2, [rsi + 32]
        movups xmm3, [rsi + 48]
        movups xmm4, [rsi + rdx - 64]
        movups xmm5, [rsi + rdx - 48]
        movups xmm6, [rsi + rdx - 32]
        movups xmm7, [rsi + rdx - 16]
        movups [rdi], xmm0
        movups [rdi + 16], xmm1
        movups [rdi + 32], xmm2
        movups [rdi + 48], xmm3
        movups [rdi + rdx - 64], xmm4
        movups [rdi + rdx - 48], xmm5
        movups [rdi + rdx - 32], xmm6
        movups [rdi + rdx - 16], xmm7
        ret
        "
    };
}

/// Copies more than 128 bytes in ascending order. The first 16 and the last 64 bytes are loaded
/// before the loop and stored after it, so that the loop may store to aligned addresses and in
/// whole steps, also where the source lies just above the destination and is overwritten on the
/// way.
macro_rules! ascending_copy {
    () => {
        "
        movups xmm8, [rsi]
        movups xmm4, [rsi + rdx - 64]
        movups xmm5, [rsi + rdx - 48]
        movups xmm6, [rsi + rdx - 32]
        movups xmm7, [rsi + rdx - 16]
        lea r8, [rdi + rdx - 64]
        lea rcx, [rdi + 16]
        and rcx, -16
        sub rcx, rdi
        add rsi, rcx
        add rcx, rdi
        .p2align 5
    71: movups xmm0, [rsi]
        movups xmm1, [rsi + 16]
        movups xmm2, [rsi + 32]
        movups xmm3, [rsi + 48]
        movaps [rcx], xmm0
        movaps [rcx + 16], xmm1
        movaps [rcx + 32], xmm2
        movaps [rcx + 48], xmm3
        add rsi, 64
        add rcx, 64
        cmp rcx, r8
        jb 71b
        movups [r8], xmm4
        movups [r8 + 16], xmm5
        movups [r8 + 32], xmm6
        movups [r8 + 48], xmm7
        movups [rax], xmm8
        ret
        "
    };
}

/// The same in descending order, for a destination that lies within the source.
macro_rules! descending_copy {
    () => {
        "
        movups xmm8, [rsi + rdx - 16]
        movups xmm4, [rsi]
        movups xmm5, [rsi + 16]
        movups xmm6, [rsi + 32]
        movups xmm7, [rsi + 48]
        lea r9, [rdi + rdx - 16]
        lea r8, [rdi + 64]
        lea rcx, [rdi + rdx - 1]
        and rcx, -16
        sub rsi, rdi
        add rsi, rcx
        .p2align 5
    81: movups xmm0, [rsi - 16]
        movups xmm1, [rsi - 32]
        movups xmm2, [rsi - 48]
        movups xmm3, [rsi - 64]
        movaps [rcx - 16], xmm0
        movaps [rcx - 32], xmm1
        movaps [rcx - 48], xmm2
        movaps [rcx - 64], xmm3
        sub rsi, 64
        sub rcx, 64
        cmp rcx, r8
        ja 81b
        movups [rax], xmm4
        movups [rax + 16], xmm5
        movups [rax + 32], xmm6
        movups [rax + 48], xmm7
        movups [r9], xmm8
        ret
        "
    };
}

/// Copies between places that do not overlap.
///
/// # Safety
///
/// Both must be valid for `bytes` bytes, and apart from each other.
#[unsafe(naked)]
#[cfg_attr(cellwall_freestanding, unsafe(no_mangle))]
pub(super) unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    naked_asm!(
        short_copy!(),
        "
        .p2align 4
    70: cmp rdx, {string}
        jae 90f
        ",
        ascending_copy!(),
        "
    90: mov rcx, rdx
        rep movsb
        ret
        ",
        string = const STRING_BYTES_MIN,
    )
}

/// Copies between places that may overlap.
///
/// # Safety
///
/// Both must be valid for `bytes` bytes.
#[unsafe(naked)]
#[cfg_attr(cellwall_freestanding, unsafe(no_mangle))]
pub(super) unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    naked_asm!(
        short_copy!(),
        // Apart from each other in both directions: string instructions are slow on close ranges.
        "
        .p2align 4
    70: mov rcx, rdi
        sub rcx, rsi
        cmp rcx, rdx
        jb 80f
        neg rcx
        cmp rcx, 64
        jb 72f
        cmp rdx, {string}
        jae 90f
    72:
        ",
        ascending_copy!(),
        "
        .p2align 4
    80:
        ",
        descending_copy!(),
        "
    90: mov rcx, rdx
        rep movsb
        ret
        ",
        string = const STRING_BYTES_MIN,
    )
}
