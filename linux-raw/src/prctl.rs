#![expect(unsafe_code, reason = "makes the prctl call")]
//! Switches of the process and the thread.
//!
//! Some belong to the memory ([`set_dumpable`], [`set_mdwe`]): in a child that shares its parent's
//! memory they change the parent too.

use core::ffi::CStr;

use linux_raw_sys::prctl as sys;

use crate::arch;
use crate::arg::{Arg, Ret};
use crate::cred::Securebits;
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
fn get(option: u32) -> Result<u32, Errno> {
    // SAFETY: used below only with options that take nothing and answer with a number.
    unsafe { prctl(option, Arg::NULL, Arg::NULL) }.word()
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
    get(sys::PR_GET_DUMPABLE).map(|value| value == 1)
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
    get(sys::PR_GET_MDWE).map(|bits| bits & sys::PR_MDWE_REFUSE_EXEC_GAIN != 0)
}

/// Sets how user 0 is treated. Since Linux 2.6.26.
///
/// # Errors
///
/// `EPERM` without `CAP_SETPCAP` or against a lock.
pub fn set_securebits(bits: Securebits) -> Result<(), Errno> {
    set(sys::PR_SET_SECUREBITS, bits.bits(), Arg::NULL)
}

/// Drops a capability from the bounding set, for good. Since Linux 2.6.25.
///
/// # Errors
///
/// `EINVAL` if the kernel knows no such capability, `EPERM` without `CAP_SETPCAP`.
pub fn capbset_drop(capability: u32) -> Result<(), Errno> {
    set(sys::PR_CAPBSET_DROP, capability, Arg::NULL)
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
