#![expect(unsafe_code, reason = "symbols that the compiler calls, in assembly")]
//! `memcmp`, `bcmp` and `strlen`.

use core::arch::naked_asm;

/// Orders as bytes: below, at or above zero.
///
/// Sixteen bytes at a time; of the last step's bytes some may have been compared before, which
/// cannot change the result. Below that, eight, four and single ones.
///
/// # Safety
///
/// Both must be valid for `bytes` bytes.
#[unsafe(naked)]
#[cfg_attr(cellwall_freestanding, unsafe(no_mangle))]
pub(super) unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, bytes: usize) -> i32 {
    naked_asm!(
        "
        cmp rdx, 16
        jb 20f
        xor ecx, ecx
        sub rdx, 16
    2:  movups xmm0, [rdi + rcx]
        movups xmm1, [rsi + rcx]
        pcmpeqb xmm0, xmm1
        pmovmskb eax, xmm0
        xor eax, 0xffff
        jnz 3f
        cmp rcx, rdx
        jae 24f
        add rcx, 16
        cmp rcx, rdx
        cmova rcx, rdx
        jmp 2b
    3:  bsf eax, eax
        add rcx, rax
        movzx eax, byte ptr [rdi + rcx]
        movzx edx, byte ptr [rsi + rcx]
        sub eax, edx
        ret

        .p2align 4
    20: cmp edx, 8
        jb 21f
        mov rax, [rdi]
        mov rcx, [rsi]
        cmp rax, rcx
        jne 25f
        mov rax, [rdi + rdx - 8]
        mov rcx, [rsi + rdx - 8]
        cmp rax, rcx
        jne 25f
        xor eax, eax
        ret
    21: cmp edx, 4
        jb 22f
        mov eax, [rdi]
        mov ecx, [rsi]
        cmp eax, ecx
        jne 25f
        mov eax, [rdi + rdx - 4]
        mov ecx, [rsi + rdx - 4]
        cmp eax, ecx
        jne 25f
        xor eax, eax
        ret
    22: mov r8, rdx
        xor r9d, r9d
    23: cmp r9, r8
        jae 24f
        movzx eax, byte ptr [rdi + r9]
        movzx edx, byte ptr [rsi + r9]
        inc r9
        sub eax, edx
        jz 23b
        ret
    24: xor eax, eax
        ret

        // Different words: the lowest address decides, hence the most significant byte after a
        // swap.
    25: bswap rax
        bswap rcx
        cmp rax, rcx
        sbb eax, eax
        or eax, 1
        ret
        "
    )
}

/// Like `memcmp`, for callers that ask only whether the bytes differ.
///
/// # Safety
///
/// Both must be valid for `bytes` bytes.
#[unsafe(naked)]
#[cfg_attr(cellwall_freestanding, unsafe(no_mangle))]
pub(super) unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, bytes: usize) -> i32 {
    naked_asm!("jmp {memcmp}", memcmp = sym memcmp)
}

/// Counts the bytes before the first zero byte.
///
/// Reads aligned steps of 16 bytes, which never cross into a page that the string does not reach.
///
/// # Safety
///
/// A zero byte must follow, and all up to it must be readable.
#[unsafe(naked)]
#[cfg_attr(cellwall_freestanding, unsafe(no_mangle))]
pub(super) unsafe extern "C" fn strlen(text: *const u8) -> usize {
    naked_asm!(
        "
        mov rsi, rdi
        and rsi, -16
        pxor xmm0, xmm0
        movaps xmm1, [rsi]
        pcmpeqb xmm1, xmm0
        pmovmskb eax, xmm1
        mov ecx, edi
        and ecx, 15
        shr eax, cl
        test eax, eax
        jnz 3f
    2:  add rsi, 16
        movaps xmm1, [rsi]
        pcmpeqb xmm1, xmm0
        pmovmskb eax, xmm1
        test eax, eax
        jz 2b
        bsf eax, eax
        sub rsi, rdi
        add rax, rsi
        ret
    3:  bsf eax, eax
        ret
        "
    )
}
