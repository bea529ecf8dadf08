#![expect(unsafe_code, reason = "a symbol that the compiler calls, in assembly")]
//! `memset`.

use core::arch::naked_asm;

use super::STRING_BYTES_MIN;

/// Fills with the lowest byte of `byte`.
///
/// # Safety
///
/// `to` must be valid for `bytes` bytes.
#[unsafe(naked)]
#[cfg_attr(cellwall_freestanding, unsafe(no_mangle))]
pub(super) unsafe extern "C" fn memset(to: *mut u8, byte: i32, bytes: usize) -> *mut u8 {
    naked_asm!(
        "
        mov rax, rdi
        movzx esi, sil
        cmp rdx, 16
        jb 20f
        movd xmm0, esi
        punpcklbw xmm0, xmm0
        pshuflw xmm0, xmm0, 0
        punpcklqdq xmm0, xmm0
        cmp rdx, 64
        ja 40f
        movups [rdi], xmm0
        movups [rdi + rdx - 16], xmm0
        cmp rdx, 32
        jbe 24f
        movups [rdi + 16], xmm0
        movups [rdi + rdx - 32], xmm0
        ret

        .p2align 4
    20: movabs rcx, 0x0101010101010101
        imul rcx, rsi
        cmp edx, 8
        jb 21f
        mov [rdi], rcx
        mov [rdi + rdx - 8], rcx
        ret
    21: cmp edx, 4
        jb 22f
        mov [rdi], ecx
        mov [rdi + rdx - 4], ecx
        ret
    22: cmp edx, 1
        jb 24f
        mov [rdi], cl
        je 24f
        mov [rdi + rdx - 2], cx
    24: ret

        .p2align 4
    40: cmp rdx, {string}
        jae 90f
        movups [rdi], xmm0
        lea rcx, [rdi + 16]
        and rcx, -16
        lea r8, [rdi + rdx - 64]
        cmp rcx, r8
        jae 42f
        .p2align 5
    41: movaps [rcx], xmm0
        movaps [rcx + 16], xmm0
        movaps [rcx + 32], xmm0
        movaps [rcx + 48], xmm0
        add rcx, 64
        cmp rcx, r8
        jb 41b
    42: movups [r8], xmm0
        movups [r8 + 16], xmm0
        movups [r8 + 32], xmm0
        movups [r8 + 48], xmm0
        ret

    90: mov r8, rax
        mov eax, esi
        mov rcx, rdx
        rep stosb
        mov rax, r8
        ret
        ",
        string = const STRING_BYTES_MIN,
    )
}
