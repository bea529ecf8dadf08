//! x86-64: the frame that the kernel builds for a signal handler.

use core::mem::offset_of;

use crate::signal::{AltStack, SigSet};

/// The saved registers in a signal frame (`struct sigcontext`).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[expect(
    missing_docs,
    reason = "the fields are the registers they are named after"
)]
pub struct SigContext {
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rsp: u64,
    pub rip: u64,
    pub eflags: u64,
    pub cs: u16,
    pub gs: u16,
    pub fs: u16,
    pub ss: u16,
    /// The page-fault error code, or that of another exception.
    pub err: u64,
    /// The exception's vector: 14 is a page fault.
    pub trapno: u64,
    pub oldmask: u64,
    /// The address that faulted.
    pub cr2: u64,
    /// Address of the floating-point state, or zero.
    pub fpstate: u64,
    pub reserved: [u64; 8],
}

/// The third argument of a signal handler (`struct ucontext`).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct UContext {
    /// `UC_FP_XSTATE` and its like.
    pub flags: u64,
    /// Always null.
    pub link: u64,
    /// The alternate stack that `rt_sigreturn` restores.
    pub stack: AltStack,
    /// The registers.
    pub registers: SigContext,
    /// The signals that were blocked.
    pub mask: SigSet,
}

const _: () = {
    assert!(size_of::<SigContext>() == 256);
    assert!(offset_of!(SigContext, rip) == 128);
    assert!(offset_of!(SigContext, cs) == 144);
    assert!(offset_of!(SigContext, err) == 152);
    assert!(offset_of!(SigContext, cr2) == 176);
    assert!(offset_of!(SigContext, fpstate) == 184);
    assert!(offset_of!(UContext, stack) == 16);
    assert!(offset_of!(UContext, registers) == 40);
    assert!(offset_of!(UContext, mask) == 296);
    assert!(size_of::<UContext>() == 304);
};
