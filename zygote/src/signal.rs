#![expect(unsafe_code, reason = "the kernel calls it with raw frames")]
//! From fault to report.
//!
//! The handler never returns to the kernel: it publishes and goes on with the next order. So
//! `rt_sigreturn` is in no filter. It runs on the alternate stack, with no signal blocked; a
//! fault inside it nests until that stack is full, and then the kernel kills the process.

use core::arch::naked_asm;
use core::sync::atomic::Ordering;

use linux_raw::arch::{SigContext, UContext};
use linux_raw::called::{Called as _, Failed};
use linux_raw::signal::{
    self, AltStack, AltStackFlags, MaskHow, SaFlags, SigAction, SigInfo, SigSet, Signal,
};
use linux_raw::{Errno, nr};
use vmctx::guest_page::REGISTERS;
use vmctx::map;

use crate::address;
use crate::last_words::guest_page;
use crate::trampoline::cellwall_trapped;

/// The faults that a guest's instructions can raise.
const FAULTS: [Signal; 5] = [
    Signal::SEGV,
    Signal::BUS,
    Signal::ILL,
    Signal::FPE,
    Signal::TRAP,
];

/// How many frames the alternate stack must hold: a fault, one while it is reported, one to spare.
const FRAMES: usize = 3;

/// The last signal's number, real-time ones included.
const SIGNALS: u32 = 64;

/// The kernel's defaults for every signal: the clone cleared the host's handlers, but not what
/// the host ignores.
fn forget() -> Result<(), Failed> {
    for signal in (1..=SIGNALS).filter_map(Signal::from_raw) {
        if signal != Signal::KILL && signal != Signal::STOP {
            // SAFETY: no handler is installed, and nothing here waits for a signal.
            unsafe { signal::sigaction(signal, &SigAction::DEFAULT) }.called(nr::RT_SIGACTION)?;
        }
    }
    Ok(())
}

/// Handlers for every fault, on the alternate stack, with no signal blocked. A forbidden system
/// call is a fault too, if the filter reports it.
pub(crate) fn install(frame_bytes: usize, report_calls: bool) -> Result<(), Failed> {
    forget()?;
    let stack_bytes = address::length(&map::ALT_STACK);
    if frame_bytes.saturating_mul(FRAMES) > stack_bytes {
        return Err(Failed(nr::SIGALTSTACK, Errno::ENOMEM));
    }
    let stack = AltStack {
        base: core::ptr::with_exposed_provenance_mut(address::of(map::ALT_STACK.start)),
        flags: AltStackFlags::empty(),
        bytes: stack_bytes,
    };
    // SAFETY: the step before mapped this memory, and nothing else uses it.
    unsafe { signal::sigaltstack(&stack) }.called(nr::SIGALTSTACK)?;
    let forbidden_call = report_calls.then_some(Signal::SYS);
    for fault in FAULTS.into_iter().chain(forbidden_call) {
        let action = SigAction {
            handler: handler as *const () as usize,
            flags: SaFlags::SIGINFO | SaFlags::ONSTACK | SaFlags::NODEFER | SaFlags::RESTORER,
            restorer: never as *const () as usize,
            mask: SigSet::EMPTY,
        };
        // SAFETY: `handler` has the signature that SA_SIGINFO asks for and never returns, so
        // that its restorer is never reached.
        unsafe { signal::sigaction(fault, &action) }.called(nr::RT_SIGACTION)?;
    }
    signal::sigprocmask(MaskHow::Set, &SigSet::EMPTY).called(nr::RT_SIGPROCMASK)?;
    Ok(())
}

/// Where a signal frame's restorer points: the handler never returns.
///
/// # Safety
///
/// Only the kernel may jump there.
#[unsafe(naked)]
unsafe extern "C" fn never() {
    naked_asm!("ud2")
}

/// The kernel clears the direction and the trap flag for a handler but not the alignment check.
///
/// # Safety
///
/// Only the kernel may call it, on the alternate stack.
#[unsafe(naked)]
unsafe extern "C" fn handler(signal: i32, info: *const SigInfo, context: *const UContext) {
    naked_asm!("push 2", "popfq", "jmp {report}", report = sym report)
}

/// In the order of [`vmctx::guest_page::REGISTER_NAMES`].
const fn general_registers(frame: &SigContext) -> [u64; REGISTERS] {
    [
        frame.r8,
        frame.r9,
        frame.r10,
        frame.r11,
        frame.r12,
        frame.r13,
        frame.r14,
        frame.r15,
        frame.rdi,
        frame.rsi,
        frame.rbp,
        frame.rbx,
        frame.rdx,
        frame.rax,
        frame.rcx,
        frame.rsp,
        frame.rip,
        frame.eflags,
    ]
}

/// Writes the report and gives the turn to the host.
///
/// # Safety
///
/// `info` and `context` are those of a signal frame.
unsafe extern "C" fn report(signal: i32, info: *const SigInfo, context: *const UContext) -> ! {
    // SAFETY: the caller says so: the kernel has just written the frame.
    let info = unsafe { &*info };
    // SAFETY: likewise.
    let context = unsafe { &*context };
    let fault = &guest_page().fault;
    let frame = &context.registers;
    for (word, value) in fault.registers.iter().zip(general_registers(frame)) {
        word.store(value, Ordering::Relaxed);
    }
    fault
        .signal
        .store(signal.cast_unsigned(), Ordering::Relaxed);
    fault
        .code
        .store(info.code().cast_unsigned(), Ordering::Relaxed);
    fault.address.store(info.addr(), Ordering::Relaxed);
    fault.error.store(frame.err, Ordering::Relaxed);
    fault.vector.store(frame.trapno, Ordering::Relaxed);
    // SAFETY: it takes a stack of its own and nothing on this one is needed again. Its exchange
    // of the state is the Release that the report above needs.
    unsafe { cellwall_trapped() }
}
