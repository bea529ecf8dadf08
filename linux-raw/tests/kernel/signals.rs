#![expect(unsafe_code, reason = "installs handlers")]
//! Handlers, masks, alternate stacks, and frames read and changed.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use linux_raw::arch::{UContext, sigreturn};
use linux_raw::pidfd::{PidfdFlags, WaitStatus, pidfd_open, pidfd_send_signal};
use linux_raw::process::getpid;
use linux_raw::signal::{
    AltStack, AltStackFlags, MaskHow, SaFlags, SigAction, SigInfo, SigSet, Signal, sigaction,
    sigaltstack, sigprocmask,
};

use linux_raw::sys::general::SEGV_MAPERR;

use crate::child::{Outcome, holds, in_child, must};

/// What the handlers below have seen; each test's child has a copy of its own.
static HANDLED: AtomicU32 = AtomicU32::new(0);
static ADDRESS: AtomicU64 = AtomicU64::new(0);
static STACK_POINTER: AtomicU64 = AtomicU64::new(0);

/// An address that nothing is mapped at.
const NOWHERE: u64 = 0x10;

extern "C" fn count(signal: u32, info: *const SigInfo, _: *mut UContext) {
    // SAFETY: the kernel passes the information with `SIGINFO`.
    let info = unsafe { &*info };
    let agree = info.signal().map(Signal::raw) == Some(signal);
    HANDLED.fetch_add(u32::from(agree), SeqCst);
    let here = 0u8;
    STACK_POINTER.store((&raw const here).addr() as u64, SeqCst);
}

/// Notes what a fault tells and skips the instruction, three bytes in `read_nowhere`.
extern "C" fn skip(_: u32, info: *const SigInfo, context: *mut UContext) {
    // SAFETY: the kernel passes the information with `SIGINFO`.
    let info = unsafe { &*info };
    // SAFETY: likewise the frame, which is ours to change until the handler returns.
    let context = unsafe { &mut *context };
    let registers = &mut context.registers;
    let consistent = info.code().cast_unsigned() == SEGV_MAPERR
        && registers.cr2 == info.addr()
        && registers.trapno == 14
        && registers.err & 0b111 == 0b100; // user mode, a read, nothing there
    ADDRESS.store(if consistent { info.addr() } else { 0 }, SeqCst);
    registers.rip += 3;
    registers.rax = 77;
}

/// Reads from `NOWHERE` and answers what it got.
fn read_nowhere() -> u64 {
    let answer: u64;
    // SAFETY: the fault's handler skips the instruction, which has three bytes.
    unsafe {
        core::arch::asm!("mov rax, [rcx]", in("rcx") NOWHERE, out("rax") answer);
    }
    answer
}

fn handler(function: extern "C" fn(u32, *const SigInfo, *mut UContext)) -> SigAction {
    SigAction {
        handler: function as *const () as usize,
        flags: SaFlags::SIGINFO | SaFlags::RESTORER,
        restorer: sigreturn as *const () as usize,
        mask: SigSet::EMPTY,
    }
}

/// Sends a signal to this process, a child of one thread: it has come when the call returns.
fn raise(signal: Signal) -> Result<(), linux_raw::Errno> {
    let own = pidfd_open(getpid()?, PidfdFlags::empty())?;
    pidfd_send_signal(own, Some(signal))
}

#[test]
fn names_and_sets() {
    assert_eq!(Signal::SEGV.name(), "SIGSEGV");
    assert_eq!(Signal::SYS.to_string(), "SIGSYS (31)");
    assert_eq!(Signal::from_raw(0), None);
    assert_eq!(Signal::from_raw(65), None);
    assert_eq!(Signal::NAMED.len(), 31);
    let set = SigSet::EMPTY.with(Signal::BUS).with(Signal::SEGV);
    assert_eq!(set.bits(), 1 << 6 | 1 << 10);
    assert!(set.contains(Signal::BUS));
    assert!(!set.without(Signal::BUS).contains(Signal::BUS));
}

#[test]
fn a_handler_runs_and_returns_and_a_mask_holds_it_back() {
    let status = in_child(|| {
        // SAFETY: the handler only touches atomics.
        let old = must!(unsafe { sigaction(Signal::USR1, &handler(count)) });
        holds!(old.handler == SigAction::DEFAULT_HANDLER);
        must!(raise(Signal::USR1));
        holds!(HANDLED.load(SeqCst) == 1);
        let only = SigSet::EMPTY.with(Signal::USR1);
        let before = must!(sigprocmask(MaskHow::Block, &only));
        holds!(!before.contains(Signal::USR1));
        must!(raise(Signal::USR1));
        holds!(HANDLED.load(SeqCst) == 1);
        let blocked = must!(sigprocmask(MaskHow::Unblock, &only));
        holds!(blocked.contains(Signal::USR1));
        holds!(HANDLED.load(SeqCst) == 2);
        // SAFETY: ignoring runs no code.
        let old = must!(unsafe { sigaction(Signal::USR1, &SigAction::IGNORE) });
        holds!(old.handler == count as *const () as usize);
        must!(raise(Signal::USR1));
        holds!(HANDLED.load(SeqCst) == 2);
        // SAFETY: refused.
        let refused = unsafe { sigaction(Signal::KILL, &SigAction::IGNORE) };
        holds!(refused.err() == Some(linux_raw::Errno::EINVAL));
        Ok(())
    });
    assert_eq!(status, WaitStatus::Exited(0));
}

#[test]
fn a_fault_tells_where_and_is_resumed_from_its_frame() {
    let status = in_child(|| {
        // SAFETY: the handler touches atomics and its frame.
        must!(unsafe { sigaction(Signal::SEGV, &handler(skip)) });
        holds!(read_nowhere() == 77);
        holds!(ADDRESS.load(SeqCst) == NOWHERE);
        Ok(())
    });
    assert_eq!(status, WaitStatus::Exited(0));
}

fn on_the_alternate_stack(memory: &mut [u8]) -> Outcome {
    let stack = AltStack {
        base: memory.as_mut_ptr(),
        flags: AltStackFlags::AUTODISARM,
        bytes: memory.len(),
    };
    // SAFETY: the memory outlives its use, and nothing else uses it.
    let old = must!(unsafe { sigaltstack(&stack) });
    let mut action = handler(count);
    action.flags |= SaFlags::ONSTACK;
    // SAFETY: the handler only touches atomics and its stack.
    must!(unsafe { sigaction(Signal::USR2, &action) });
    must!(raise(Signal::USR2));
    let ran_at = STACK_POINTER.load(SeqCst);
    let range = memory.as_ptr_range();
    holds!((range.start.addr() as u64..range.end.addr() as u64).contains(&ran_at));
    let short = AltStack { bytes: 64, ..stack };
    // SAFETY: refused.
    let refused = unsafe { sigaltstack(&short) };
    holds!(refused.err() == Some(linux_raw::Errno::ENOMEM));
    // SAFETY: back to the stack the runtime had set up.
    must!(unsafe { sigaltstack(&old) });
    Ok(())
}

#[test]
fn a_handler_runs_on_the_alternate_stack() {
    let mut memory = vec![0; 64 * 1024];
    let status = in_child(|| on_the_alternate_stack(&mut memory));
    assert_eq!(status, WaitStatus::Exited(0));
}
