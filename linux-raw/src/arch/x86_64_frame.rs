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
    /// Address of the [`FpState`], or zero.
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

/// The legacy floating-point area of a frame, where the XSAVE area begins (`struct _fpstate_64`).
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct FpState {
    /// The FXSAVE image up to what the hardware leaves to software.
    pub fxsave: [u8; 464],
    /// What the kernel says about the rest.
    pub software: FpSoftware,
}

/// What the kernel writes into the bytes of [`FpState`] that are software's (`struct
/// _fpx_sw_bytes`).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct FpSoftware {
    /// [`FP_XSTATE_MAGIC1`] if an XSAVE area follows.
    pub magic1: u32,
    /// Bytes in all, with the second magic number at the end.
    pub extended_bytes: u32,
    /// The state components that the area holds, a mask for `xrstor`.
    pub features: u64,
    /// Bytes of the XSAVE area.
    pub xstate_bytes: u32,
    /// Unused.
    pub padding: [u32; 7],
}

/// Marks a frame that carries an XSAVE area.
pub const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;

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
    assert!(size_of::<FpState>() == 512);
    assert!(offset_of!(FpState, software) == 464);
    assert!(size_of::<FpSoftware>() == 48);
    assert!(offset_of!(FpSoftware, features) == 8);
};
