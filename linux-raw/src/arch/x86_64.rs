#![expect(unsafe_code, reason = "the assembly that enters the kernel")]
//! x86-64: entering the kernel, cloning onto a stack, and which CPU this is.

use core::arch::{asm, naked_asm};
use core::ffi::c_void;

use crate::arg::{Arg, Ret};
use crate::nr::Nr;

/// The audit subsystem's number for this architecture: the first thing a filter checks.
///
/// It does not tell x32 calls apart; those have bit 30 set in the call number.
pub const AUDIT_ARCH: u32 = linux_raw_sys::ptrace::AUDIT_ARCH_X86_64;

macro_rules! define_syscall {
    ($(#[$doc:meta])* $name:ident $(, $arg:ident: $register:tt)*) => {
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// The call with these arguments must be sound: every pointer valid for what the kernel
        /// does with it, for as long as it does, and no effect on memory or descriptors that
        /// other code relies on.
        #[inline(always)]
        pub unsafe fn $name(nr: Nr $(, $arg: Arg)*) -> Ret {
            let answer: isize;
            // SAFETY: the kernel preserves all registers but rax, rcx and r11 and does not touch
            // our stack; what the call itself does is the caller's promise.
            unsafe {
                asm!(
                    "syscall",
                    inlateout("rax") nr.register() => answer,
                    $(in($register) $arg.register(),)*
                    lateout("rcx") _,
                    lateout("r11") _,
                    options(nostack, preserves_flags),
                );
            }
            Ret::from_register(answer)
        }
    };
}

define_syscall!(
    /// A system call without arguments.
    syscall0
);
define_syscall!(
    /// A system call with one argument.
    syscall1, a: "rdi"
);
define_syscall!(
    /// A system call with two arguments.
    syscall2, a: "rdi", b: "rsi"
);
define_syscall!(
    /// A system call with three arguments.
    syscall3, a: "rdi", b: "rsi", c: "rdx"
);
define_syscall!(
    /// A system call with four arguments.
    syscall4, a: "rdi", b: "rsi", c: "rdx", d: "r10"
);
define_syscall!(
    /// A system call with five arguments.
    syscall5, a: "rdi", b: "rsi", c: "rdx", d: "r10", e: "r8"
);
define_syscall!(
    /// A system call with six arguments.
    syscall6, a: "rdi", b: "rsi", c: "rdx", d: "r10", e: "r8", f: "r9"
);

/// A system call that never returns: `exit` or `exit_group`.
///
/// # Safety
///
/// `nr` must be a call that does not return; should it return all the same, the thread dies of an
/// illegal instruction.
#[inline(always)]
pub unsafe fn syscall1_noreturn(nr: Nr, a: Arg) -> ! {
    // SAFETY: the caller promises that the kernel does not come back; `ud2` holds if it does.
    unsafe {
        asm!(
            "syscall",
            "ud2",
            in("rax") nr.register(),
            in("rdi") a.register(),
            options(nostack, noreturn),
        )
    }
}

/// A call that clones, and whose child calls `entry(data)` at once and never comes back here.
///
/// It runs no code between the kernel and `entry`, hence touches nothing of the parent's stack; nor
/// does the jump there touch its own, which need not be mapped yet.
///
/// # Safety
///
/// The call must be `clone` or `clone3`, and sound with these arguments. The child's stack must be
/// its own if it shares memory. `entry` must be sound to run there with `data`.
unsafe fn cloning(
    nr: Nr,
    [a, b, c, d, e]: [Arg; 5],
    entry: extern "C" fn(*mut c_void) -> !,
    data: *mut c_void,
) -> Ret {
    let answer: isize;
    // SAFETY: in the parent this is an ordinary call. In the child the stack is its own or a copy
    // (not `nostack`: the copy may be pushed to), aligned here, and control leaves for good.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp", // ends the chain of frames for whoever walks it
            "and rsp, -16",
            "sub rsp, 8", // as after a call; nothing ever returns there
            "mov rdi, r12",
            "jmp r9",
            "2:",
            inlateout("rax") nr.register() => answer,
            in("rdi") a.register(),
            in("rsi") b.register(),
            in("rdx") c.register(),
            in("r10") d.register(),
            in("r8") e.register(),
            in("r9") entry,
            in("r12") data,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    Ret::from_register(answer)
}

/// `clone3`, whose child calls `entry(data)` at once and never comes back here.
///
/// The child starts on the stack that `args` names, or on a copy of this one if it names none.
/// `size` is that of what `args` points to.
///
/// # Safety
///
/// `args` must be a valid `struct clone_args` of `size` bytes, with a stack of its own if the
/// child shares memory. `entry` must be sound to run there with `data`.
pub unsafe fn clone3(
    args: Arg,
    size: Arg,
    entry: extern "C" fn(*mut c_void) -> !,
    data: *mut c_void,
) -> Ret {
    let args = [args, size, Arg::NULL, Arg::NULL, Arg::NULL];
    // SAFETY: the caller's promises are those that are asked for; the call takes two arguments.
    unsafe { cloning(crate::nr::CLONE3, args, entry, data) }
}

/// `clone`, the old call, whose child calls `entry(data)` at once and never comes back here.
///
/// As [`clone3`], but for how it is told: `stack` is where the child's stack pointer starts, or
/// null for a copy of this one.
///
/// # Safety
///
/// What `flags` make of `parent_tid` and `child_tid` must be sound, and they may not ask for a
/// thread pointer. The stack must be the child's own if it shares memory. `entry` must be sound to
/// run there with `data`.
pub unsafe fn clone(
    flags: Arg,
    stack: Arg,
    parent_tid: Arg,
    child_tid: Arg,
    entry: extern "C" fn(*mut c_void) -> !,
    data: *mut c_void,
) -> Ret {
    // The last one is the thread pointer.
    let args = [flags, stack, parent_tid, child_tid, Arg::NULL];
    // SAFETY: the caller's promises are those that are asked for.
    unsafe { cloning(crate::nr::CLONE, args, entry, data) }
}

/// What a signal handler returns to: the `restorer` of a
/// [`SigAction`](crate::signal::SigAction), which makes `rt_sigreturn`.
///
/// # Safety
///
/// Only the kernel's signal frame may return here; nothing may call it.
#[unsafe(naked)]
pub unsafe extern "C" fn sigreturn() -> ! {
    naked_asm!(
        "mov eax, {nr}",
        "syscall",
        "ud2",
        nr = const linux_raw_sys::general::__NR_rt_sigreturn,
    )
}

/// The segment whose limit holds the CPU and node numbers, as the vDSO reads them.
const CPU_AND_NODE_SEGMENT: u32 = 0x7b;
/// The CPU's share of that limit; the node is above.
const CPU_MASK: u32 = 0xfff;

/// The CPU that this thread runs on, without a system call. It may be another one right after.
///
/// Since Linux 4.20 at this selector. Should the segment be absent, the answer is 0.
#[inline]
#[must_use]
pub fn current_cpu() -> u32 {
    let mut limit: u32 = 0;
    // SAFETY: `lsl` reads a segment's limit into a register and touches no memory; it leaves the
    // register alone where the segment is absent.
    unsafe {
        asm!(
            "lsl {limit:e}, {segment:e}",
            limit = inlateout(reg) limit,
            segment = in(reg) CPU_AND_NODE_SEGMENT,
            options(nomem, nostack),
        );
    }
    limit & CPU_MASK
}

/// Executes `sti`, which faults (`SIGSEGV`): interrupts are the kernel's. Only a thread that
/// reaches all I/O ports by `iopl` goes on behind it: for that the kernel skips the instruction.
///
/// Since Linux 5.5; before, it had an effect then, and the kernel's log tells of it now.
pub fn set_interrupt_flag() {
    // SAFETY: in user mode interrupts are enabled already, so it changes nothing where it does not
    // fault.
    unsafe { asm!("sti", options(nomem, nostack)) }
}

#[cfg(test)]
mod tests {
    use super::current_cpu;
    use crate::arg::Arg;
    use crate::nr;

    #[test]
    fn cpu_number_agrees_with_the_kernel() {
        // The thread may move between the two readings: some attempt must agree.
        let agrees = (0..100).any(|_| {
            let mut cpu = u32::MAX;
            // SAFETY: getcpu writes one u32 through the first pointer; the others are null.
            let answer =
                unsafe { super::syscall3(nr::GETCPU, (&raw mut cpu).into(), Arg::NULL, Arg::NULL) };
            answer.done().unwrap();
            cpu == current_cpu()
        });
        assert!(agrees);
    }
}
