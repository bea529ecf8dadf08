#![expect(unsafe_code, reason = "the kernel calls it with raw frames")]
//! From fault to report.
//!
//! The handler never returns to the kernel: it publishes, waits, and either enters a guest anew or
//! goes on where the fault was, by loading all registers from the frame itself. So `rt_sigreturn`
//! is in no filter. It runs on the alternate stack, with no signal blocked; a fault inside it nests
//! until that stack is full, and then the kernel kills the process.
//!
//! The host's interruption is handled in the same way where it meets the guest. Where it meets the
//! zygote's own code, which is on the way to give the turn away or to enter the guest, that code
//! goes on at once and the host asks again.

use core::arch::naked_asm;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

use linux_raw::arch::{SigContext, UContext};
use linux_raw::called::{Called as _, Failed};
use linux_raw::signal::{
    self, AltStack, AltStackFlags, MaskHow, SaFlags, SigAction, SigInfo, SigSet, Signal,
};
use linux_raw::{Errno, membarrier, nr};
use vmctx::guest_page::REGISTERS;
use vmctx::{EVICTION, HostPage, INTERRUPTION, State, map};

use crate::address;
use crate::last_words::guest_page;
use crate::trampoline::{cellwall_evict, cellwall_turn};

/// The faults that a guest's instructions can raise.
const FAULTS: [Signal; 5] = [
    Signal::SEGV,
    Signal::BUS,
    Signal::ILL,
    Signal::FPE,
    Signal::TRAP,
];

/// How many frames the alternate stack must hold: a fault, an interruption while it is reported, an
/// eviction, one to spare.
const FRAMES: usize = 4;

/// The last signal's number, real-time ones included.
const SIGNALS: u32 = linux_raw::sys::general::_NSIG;

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
    install_naked(EVICTION, cellwall_evict)?;
    install_naked(INTERRUPTION, cellwall_interrupt)?;
    // By an interrupt of the CPU the host knows that an eviction has come about.
    membarrier::register_global_expedited().called(nr::MEMBARRIER)?;
    signal::sigprocmask(MaskHow::Set, &SigSet::EMPTY).called(nr::RT_SIGPROCMASK)?;
    Ok(())
}

/// A handler in assembly for one of the host's own signals.
fn install_naked(signal: u32, handler: unsafe extern "C" fn()) -> Result<(), Failed> {
    let action = SigAction {
        handler: handler as *const () as usize,
        flags: SaFlags::SIGINFO | SaFlags::ONSTACK | SaFlags::NODEFER | SaFlags::RESTORER,
        restorer: never as *const () as usize,
        mask: SigSet::EMPTY,
    };
    let signal = Signal::from_raw(signal).ok_or(Failed(nr::RT_SIGACTION, Errno::EINVAL))?;
    // SAFETY: the handlers never return, so that the restorer is never reached.
    unsafe { signal::sigaction(signal, &action) }.called(nr::RT_SIGACTION)?;
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

/// Reports, gives the turn to the host, and on its order goes on where the fault was.
///
/// The kernel clears the direction and the trap flag for a handler but not the alignment check.
///
/// # Safety
///
/// Only the kernel may call it, on the alternate stack.
#[unsafe(naked)]
unsafe extern "C" fn handler(signal: i32, info: *const SigInfo, context: *const UContext) {
    naked_asm!(
        "push 2",
        "popfq",
        "mov rbx, rdx",
        "mov r12d, {trapped}",
        "jmp {stop}",
        trapped = const State::Trapped as u32,
        stop = sym stop,
    )
}

/// The handler of [`INTERRUPTION`]: the same, if the thread was in the guest's code, and otherwise
/// nothing.
///
/// One that comes late meets a worker that has been evicted, whose frames the host may be wiping:
/// nothing is read of this one then, and there is nothing to go on with.
///
/// # Safety
///
/// Only the kernel may call it, on the alternate stack.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn cellwall_interrupt() {
    naked_asm!(
        "movabs rax, {host_page}",
        "cmp dword ptr [rax + {evicted}], 0",
        "jne {evict}",
        // It may be delivered on top of the eviction and run when all that is over: then its own
        // frame has been wiped too, and a frame without a code segment is none.
        "cmp word ptr [rdx + {registers} + {cs}], 0",
        "je {evict}",
        "push 2",
        "popfq",
        "mov rbx, rdx",
        "mov r12d, {interrupted}",
        "movabs rax, {image}",
        "mov rcx, qword ptr [rbx + {registers} + {rip}]",
        "sub rcx, rax",
        "cmp rcx, {image_bytes}",
        "jae {stop}",
        "jmp {go_on}",
        host_page = const map::HOST_PAGE.start,
        evicted = const offset_of!(HostPage, evicted),
        evict = sym cellwall_evict,
        interrupted = const State::Interrupted as u32,
        image = const map::IMAGE.start,
        image_bytes = const map::IMAGE.end - map::IMAGE.start,
        registers = const offset_of!(UContext, registers),
        rip = const offset_of!(SigContext, rip),
        cs = const offset_of!(SigContext, cs),
        stop = sym stop,
        go_on = sym go_on,
    )
}

/// Makes the five words that `iretq` takes of the registers in the frame at `rsp`, in place of the
/// last of them. The flags are where they have to be.
macro_rules! return_words {
    () => {
        concat!(
            "mov rax, qword ptr [rsp + {rsp}]\n",
            "mov rcx, qword ptr [rsp + {rip}]\n",
            "movzx edx, word ptr [rsp + {cs}]\n",
            "movzx esi, word ptr [rsp + {ss}]\n",
            "mov qword ptr [rsp + {rsp}], rcx\n",
            "mov qword ptr [rsp + {rip}], rdx\n",
            "mov qword ptr [rsp + {eflags} + 8], rax\n",
            "mov qword ptr [rsp + {eflags} + 16], rsi",
        )
    };
}

/// Goes on where the frame at `rbx` says, and leaves nothing there: it has all registers of a
/// guest, perhaps of one whose traces the host has wiped already.
///
/// What is loaded from it is zeroed, vector state and general registers. Of a nested frame the
/// memory up to the red zone of the stack that it is on is free, and the first one goes up to the
/// end of the alternate stack.
///
/// # Safety
///
/// Only a handler may jump here.
#[unsafe(naked)]
unsafe extern "C" fn go_on() {
    naked_asm!(
        "mov rdi, qword ptr [rbx + {registers} + {fpstate}]",
        "mov eax, -1",
        "mov edx, -1",
        "xrstor64 [rdi]",
        "movabs rcx, {alt_stack}",
        "mov rdx, qword ptr [rbx + {registers} + {rsp}]",
        "mov rax, rcx",
        "sub rax, rdx",
        "cmp rax, {alt_stack_bytes}",
        "jae 2f",
        "lea rcx, [rdx - {red_zone}]",
        "2:",
        "sub rcx, rdi",
        "jbe 3f",
        "xor eax, eax",
        "rep stosb",
        "3:",
        "lea rsp, [rbx + {registers}]",
        return_words!(),
        "xor r8d, r8d",
        "xor r9d, r9d",
        "xor r10d, r10d",
        "xor r11d, r11d",
        "xor r12d, r12d",
        "xor r13d, r13d",
        "xor r14d, r14d",
        "xor r15d, r15d",
        "xor edi, edi",
        "xor esi, esi",
        "xor ebp, ebp",
        "xor ebx, ebx",
        "xor edx, edx",
        "xor eax, eax",
        "xor ecx, ecx",
        "mov qword ptr [rsp + {cr2}], rax",
        "xchg qword ptr [rsp + 0 * 8], r8",
        "xchg qword ptr [rsp + 1 * 8], r9",
        "xchg qword ptr [rsp + 2 * 8], r10",
        "xchg qword ptr [rsp + 3 * 8], r11",
        "xchg qword ptr [rsp + 4 * 8], r12",
        "xchg qword ptr [rsp + 5 * 8], r13",
        "xchg qword ptr [rsp + 6 * 8], r14",
        "xchg qword ptr [rsp + 7 * 8], r15",
        "xchg qword ptr [rsp + 8 * 8], rdi",
        "xchg qword ptr [rsp + 9 * 8], rsi",
        "xchg qword ptr [rsp + 10 * 8], rbp",
        "xchg qword ptr [rsp + 11 * 8], rbx",
        "xchg qword ptr [rsp + 12 * 8], rdx",
        "xchg qword ptr [rsp + 13 * 8], rax",
        "xchg qword ptr [rsp + 14 * 8], rcx",
        "lea rsp, [rsp + {rsp}]",
        "iretq",
        alt_stack = const map::ALT_STACK.end,
        alt_stack_bytes = const map::ALT_STACK.end - map::ALT_STACK.start,
        red_zone = const 128,
        registers = const offset_of!(UContext, registers),
        fpstate = const offset_of!(SigContext, fpstate),
        rsp = const offset_of!(SigContext, rsp),
        rip = const offset_of!(SigContext, rip),
        eflags = const offset_of!(SigContext, eflags),
        cs = const offset_of!(SigContext, cs),
        ss = const offset_of!(SigContext, ss),
        cr2 = const offset_of!(SigContext, cr2),
    )
}

/// Reports, publishes the state in `r12d`, and on the order to resume loads every register from the
/// frame at `rbx`; any other order does not come back here.
///
/// All vector state is in the frame: `xrstor` loads what the kernel's `xsave` has put there. The
/// five words that `iretq` takes are made in place of the last general registers.
///
/// # Safety
///
/// Only a handler may jump here, with its own arguments in their registers.
#[unsafe(naked)]
unsafe extern "C" fn stop() {
    naked_asm!(
        "sub rsp, 8",
        "call {report}",
        "mov eax, r12d",
        "call {turn}",
        "mov r11, qword ptr [rbx + {registers} + {fpstate}]",
        "mov eax, -1",
        "mov edx, -1",
        "xrstor64 [r11]",
        "lea rsp, [rbx + {registers}]",
        return_words!(),
        "pop r8",
        "pop r9",
        "pop r10",
        "pop r11",
        "pop r12",
        "pop r13",
        "pop r14",
        "pop r15",
        "pop rdi",
        "pop rsi",
        "pop rbp",
        "pop rbx",
        "pop rdx",
        "pop rax",
        "pop rcx",
        "iretq",
        report = sym report,
        turn = sym cellwall_turn,
        registers = const offset_of!(UContext, registers),
        fpstate = const offset_of!(SigContext, fpstate),
        rsp = const offset_of!(SigContext, rsp),
        rip = const offset_of!(SigContext, rip),
        eflags = const offset_of!(SigContext, eflags),
        cs = const offset_of!(SigContext, cs),
        ss = const offset_of!(SigContext, ss),
    )
}

// Fifteen registers are taken from the start on, and then `iretq` finds its five words.
const _: () = {
    assert!(offset_of!(SigContext, r8) == 0);
    assert!(offset_of!(SigContext, rsp) == 15 * 8);
    assert!(offset_of!(SigContext, rip) == 16 * 8);
    assert!(offset_of!(SigContext, eflags) == 17 * 8);
};

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

/// Writes the report.
///
/// # Safety
///
/// `info` and `context` are those of a signal frame.
unsafe extern "C" fn report(signal: i32, info: *const SigInfo, context: *const UContext) {
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
    // Relaxed throughout: the exchange of the state in `cellwall_turn` is the Release they need.
    fault.vector.store(frame.trapno, Ordering::Relaxed);
}
