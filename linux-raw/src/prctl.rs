#![expect(unsafe_code, reason = "makes the prctl call")]
//! Switches of the process and the thread.
//!
//! Some belong to the memory ([`set_dumpable`], [`set_mdwe`]): in a child that shares its parent's
//! memory they change the parent too.

use core::ffi::CStr;

use bitflags::bitflags;
use linux_raw_sys::prctl as sys;

use crate::arch;
use crate::arg::{Arg, Ret};
use crate::cred::{Capability, Securebits};
use crate::errno::Errno;
use crate::nr;
use crate::signal::Signal;

/// The call itself; arguments that are not given are zero, which many options insist on.
///
/// # Safety
///
/// As the option requires.
unsafe fn prctl(option: u32, first: Arg, second: Arg) -> Ret {
    // SAFETY: the caller's promise.
    unsafe {
        arch::syscall5(
            nr::PRCTL,
            option.into(),
            first,
            second,
            Arg::NULL,
            Arg::NULL,
        )
    }
}

/// Sets a switch that takes plain numbers and touches no memory of ours.
fn set(option: u32, first: impl Into<Arg>, second: impl Into<Arg>) -> Result<(), Errno> {
    // SAFETY: used below only with options whose arguments are numbers.
    unsafe { prctl(option, first.into(), second.into()) }.done()
}

/// Asks for a switch whose value is the answer.
fn get(option: u32, first: impl Into<Arg>) -> Result<u32, Errno> {
    // SAFETY: used below only with options that take a number and answer with one.
    unsafe { prctl(option, first.into(), Arg::NULL) }.word()
}

/// Names the thread, and with the first thread the process; at most 15 bytes count.
///
/// Since Linux 2.6.9.
///
/// # Errors
///
/// None, except from a filter.
pub fn set_name(name: &CStr) -> Result<(), Errno> {
    // SAFETY: the kernel reads at most 16 bytes up to the NUL, which `CStr` guarantees.
    unsafe { prctl(sys::PR_SET_NAME, name.as_ptr().into(), Arg::NULL) }.done()
}

/// The signal this process gets when the *thread* that made it ends. Cleared at a clone.
///
/// The parent may be gone already: ask about it afterwards.
///
/// Since Linux 2.2.
///
/// # Errors
///
/// None, except from a filter.
pub fn set_pdeathsig(signal: Signal) -> Result<(), Errno> {
    set(sys::PR_SET_PDEATHSIG, signal.raw(), Arg::NULL)
}

/// Whether the process can be dumped, traced and looked into through `/proc`. Belongs to the
/// memory; an exec sets it anew.
///
/// Since Linux 2.4.
///
/// # Errors
///
/// None, except from a filter.
pub fn set_dumpable(dumpable: bool) -> Result<(), Errno> {
    set(sys::PR_SET_DUMPABLE, u32::from(dumpable), Arg::NULL)
}

/// The counterpart of [`set_dumpable`]; also false where only root may look.
///
/// Since Linux 2.4.
///
/// # Errors
///
/// None, except from a filter.
pub fn get_dumpable() -> Result<bool, Errno> {
    get(sys::PR_GET_DUMPABLE, Arg::NULL).map(|value| value == 1)
}

/// Whether there is a seccomp filter around this thread.
///
/// Since Linux 2.6.23.
///
/// # Errors
///
/// `EINVAL` on a kernel without seccomp; others from a filter.
pub fn is_filtered() -> Result<bool, Errno> {
    get(sys::PR_GET_SECCOMP, Arg::NULL).map(|mode| mode != 0)
}

/// No exec gives privileges any more; final, and needed for a filter without privileges.
///
/// Since Linux 3.5.
///
/// # Errors
///
/// None, except from a filter.
pub fn set_no_new_privs() -> Result<(), Errno> {
    set(sys::PR_SET_NO_NEW_PRIVS, 1u32, Arg::NULL)
}

/// Whether [`set_no_new_privs`] was done.
///
/// Since Linux 3.5.
///
/// # Errors
///
/// None, except from a filter.
pub fn get_no_new_privs() -> Result<bool, Errno> {
    get(sys::PR_GET_NO_NEW_PRIVS, Arg::NULL).map(|value| value == 1)
}

/// Memory that was writable can never become executable, nor be both; final.
///
/// Since Linux 6.3. Belongs to the memory and is inherited.
///
/// # Errors
///
/// `EINVAL` on an older kernel.
pub fn set_mdwe() -> Result<(), Errno> {
    set(sys::PR_SET_MDWE, sys::PR_MDWE_REFUSE_EXEC_GAIN, Arg::NULL)
}

/// Whether [`set_mdwe`] was done.
///
/// Since Linux 6.3.
///
/// # Errors
///
/// `EINVAL` on a kernel before 6.3.
pub fn get_mdwe() -> Result<bool, Errno> {
    get(sys::PR_GET_MDWE, Arg::NULL).map(|bits| bits & sys::PR_MDWE_REFUSE_EXEC_GAIN != 0)
}

/// Whether the kernel may merge pages of this process with equal ones of others (`ksm`); turning it
/// off takes merged ones apart. Belongs to the memory, and is inherited, through an exec too.
///
/// Since Linux 6.4.
///
/// # Errors
///
/// `EINVAL` on an older kernel, or one without `CONFIG_KSM`; `EPERM` without `CAP_SYS_RESOURCE` to
/// turn it on.
pub fn set_memory_merge(merge: bool) -> Result<(), Errno> {
    set(sys::PR_SET_MEMORY_MERGE, u32::from(merge), Arg::NULL)
}

/// Whether [`set_memory_merge`] is on.
///
/// Since Linux 6.4.
///
/// # Errors
///
/// `EINVAL` on an older kernel, or one without `CONFIG_KSM`.
pub fn get_memory_merge() -> Result<bool, Errno> {
    get(sys::PR_GET_MEMORY_MERGE, Arg::NULL).map(|merge| merge != 0)
}

/// Sets how user 0 is treated. Since Linux 2.6.26.
///
/// # Errors
///
/// `EPERM` without `CAP_SETPCAP` or against a lock.
pub fn set_securebits(bits: Securebits) -> Result<(), Errno> {
    set(sys::PR_SET_SECUREBITS, bits.bits(), Arg::NULL)
}

/// How user 0 is treated, bits without a name here included. Since Linux 2.6.26.
///
/// # Errors
///
/// None, except from a filter.
pub fn get_securebits() -> Result<Securebits, Errno> {
    get(sys::PR_GET_SECUREBITS, Arg::NULL).map(Securebits::from_bits_retain)
}

/// Drops a capability from the bounding set, for good. Since Linux 2.6.25.
///
/// # Errors
///
/// `EINVAL` if the kernel knows no such capability, `EPERM` without `CAP_SETPCAP`.
pub fn capbset_drop(capability: Capability) -> Result<(), Errno> {
    set(sys::PR_CAPBSET_DROP, capability.raw(), Arg::NULL)
}

/// Whether a capability is in the bounding set. Since Linux 2.6.25.
///
/// # Errors
///
/// `EINVAL` if the kernel knows no such capability.
pub fn capability_in_bounding_set(capability: Capability) -> Result<bool, Errno> {
    get(sys::PR_CAPBSET_READ, capability.raw()).map(|value| value == 1)
}

/// Makes a capability ambient: an exec of a program without privileges of its own keeps it.
///
/// Since Linux 4.3.
///
/// # Errors
///
/// `EPERM` if it is not both permitted and inheritable, or under
/// [`Securebits::NO_CAP_AMBIENT_RAISE`]; `EINVAL` if the kernel knows no such capability.
pub fn raise_ambient(capability: Capability) -> Result<(), Errno> {
    set(
        sys::PR_CAP_AMBIENT,
        sys::PR_CAP_AMBIENT_RAISE,
        capability.raw(),
    )
}

/// Whether a capability is ambient. Since Linux 4.3.
///
/// # Errors
///
/// `EINVAL` if the kernel knows no such capability.
pub fn is_ambient(capability: Capability) -> Result<bool, Errno> {
    // SAFETY: both arguments are numbers, and so is the answer.
    let answer = unsafe {
        prctl(
            sys::PR_CAP_AMBIENT,
            sys::PR_CAP_AMBIENT_IS_SET.into(),
            capability.raw().into(),
        )
    };
    answer.word().map(|value| value == 1)
}

/// A kind of speculation that the kernel may be able to turn off for a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Speculation {
    /// Loads that pass older stores. Since Linux 4.17.
    StoreBypass = sys::PR_SPEC_STORE_BYPASS,
    /// Indirect branches. Since Linux 4.20.
    IndirectBranch = sys::PR_SPEC_INDIRECT_BRANCH,
}

/// Turns a kind of speculation off for this thread and what it makes, for good. Since Linux 4.17.
///
/// # Errors
///
/// `ENXIO` if it cannot be set for a thread, `EPERM` if it is settled by other means, `ENODEV` if
/// the kernel does not know the kind.
pub fn disable_speculation(kind: Speculation) -> Result<(), Errno> {
    set(
        sys::PR_SET_SPECULATION_CTRL,
        kind as u32,
        sys::PR_SPEC_FORCE_DISABLE,
    )
}

bitflags! {
    /// What a kind of speculation is at; no bit at all means that the CPU is not affected.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct SpeculationState: u32 {
        /// It can be set for a thread.
        const PRCTL = sys::PR_SPEC_PRCTL;
        /// It is on.
        const ENABLE = sys::PR_SPEC_ENABLE;
        /// It is off.
        const DISABLE = sys::PR_SPEC_DISABLE;
        /// It is off for good.
        const FORCE_DISABLE = sys::PR_SPEC_FORCE_DISABLE;
        /// It is off until an exec. Since Linux 5.1.
        const DISABLE_NOEXEC = sys::PR_SPEC_DISABLE_NOEXEC;
    }
}

impl SpeculationState {
    /// The CPU does not do it.
    pub const NOT_AFFECTED: Self = Self::empty();
}

/// What a kind of speculation is at, for this thread. Since Linux 4.17.
///
/// # Errors
///
/// `ENODEV` if the kernel does not know the kind, `EINVAL` if it knows none.
pub fn speculation(kind: Speculation) -> Result<SpeculationState, Errno> {
    get(sys::PR_GET_SPECULATION_CTRL, kind as u32).map(SpeculationState::from_bits_retain)
}

/// Whether this thread can read the time-stamp counter; if not, reading it is a `SIGSEGV`. What
/// the thread makes inherits it, an exec keeps it. x86 only.
///
/// Since Linux 2.6.26.
///
/// # Errors
///
/// `EINVAL` on another architecture.
pub fn set_timestamp_counter(readable: bool) -> Result<(), Errno> {
    let value = if readable {
        sys::PR_TSC_ENABLE
    } else {
        sys::PR_TSC_SIGSEGV
    };
    set(sys::PR_SET_TSC, value, Arg::NULL)
}

/// The counterpart of [`set_timestamp_counter`]. x86 only.
///
/// Since Linux 2.6.26.
///
/// # Errors
///
/// `EINVAL` on another architecture.
pub fn get_timestamp_counter() -> Result<bool, Errno> {
    let mut value: u32 = 0;
    // SAFETY: the kernel writes one int there.
    let answer = unsafe { prctl(sys::PR_GET_TSC, (&raw mut value).into(), Arg::NULL) };
    answer.done()?;
    Ok(value == sys::PR_TSC_ENABLE)
}

/// One core-scheduling operation on this thread (`scope` thread) or its whole process.
///
/// # Safety
///
/// `cookie` must be null, or for the operation that asks, a place for eight bytes.
unsafe fn core_scheduling(operation: u32, scope: u32, cookie: Arg) -> Result<(), Errno> {
    // SAFETY: numbers, 0 being the calling thread, and the place that the caller answers for.
    let answer = unsafe {
        arch::syscall5(
            nr::PRCTL,
            sys::PR_SCHED_CORE.into(),
            operation.into(),
            Arg::NULL,
            scope.into(),
            cookie,
        )
    };
    answer.done()
}

/// Gives all threads of this process a new core-scheduling cookie: no thread with another one
/// runs on a sibling of its CPU at the same time. Children inherit it.
///
/// Since Linux 5.14.
///
/// # Errors
///
/// `EINVAL` if the kernel is older or built without, `ENODEV` if no CPU has siblings, `ENOMEM`.
pub fn create_core_scheduling_cookie() -> Result<(), Errno> {
    let process = sys::PR_SCHED_CORE_SCOPE_THREAD_GROUP;
    // SAFETY: creating takes no place for an answer.
    unsafe { core_scheduling(sys::PR_SCHED_CORE_CREATE, process, Arg::NULL) }
}

/// This thread's core-scheduling cookie, as a number that tells cookies apart; 0 is none.
///
/// Since Linux 5.14.
///
/// # Errors
///
/// As [`create_core_scheduling_cookie`], but for `ENOMEM`.
pub fn core_scheduling_cookie() -> Result<u64, Errno> {
    let mut cookie: u64 = 0;
    let thread = sys::PR_SCHED_CORE_SCOPE_THREAD;
    // SAFETY: the kernel writes eight bytes there, which must be aligned and are.
    unsafe { core_scheduling(sys::PR_SCHED_CORE_GET, thread, (&raw mut cookie).into()) }?;
    Ok(cookie)
}
