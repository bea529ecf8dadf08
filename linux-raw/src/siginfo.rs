//! What a signal tells: `siginfo_t`.

use core::mem::offset_of;

use linux_raw_sys::general as sys;
use static_assertions::{assert_eq_align, assert_eq_size};

use crate::signal::Signal;

/// What a handler or a wait is told about a signal (`siginfo_t`).
///
/// Which accessor means something depends on the signal and [`code`](Self::code).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SigInfo {
    number: i32,
    errno: i32,
    code: i32,
    padding: i32,
    fields: [u64; 14],
}

assert_eq_size!(SigInfo, sys::siginfo);
assert_eq_align!(SigInfo, sys::siginfo);
const _: () = assert!(offset_of!(SigInfo, fields) == 16);

impl SigInfo {
    /// All zeroes, to be filled in.
    pub const ZERO: Self = Self {
        number: 0,
        errno: 0,
        code: 0,
        padding: 0,
        fields: [0; 14],
    };

    /// The signal, or `None` in an answer that says that nothing happened.
    #[must_use]
    pub fn signal(&self) -> Option<Signal> {
        Signal::from_raw(u32::try_from(self.number).ok()?)
    }

    /// `si_code`: why.
    #[must_use]
    pub const fn code(&self) -> i32 {
        self.code
    }

    /// `si_errno`: for `SIGSYS` what the filter attached.
    #[must_use]
    pub const fn errno(&self) -> i32 {
        self.errno
    }

    /// `si_addr`, of a fault: the address.
    #[must_use]
    pub const fn addr(&self) -> u64 {
        let [first, ..] = self.fields;
        first
    }

    /// `si_call_addr`, of a `SIGSYS`: the address after the instruction.
    #[must_use]
    pub const fn call_addr(&self) -> u64 {
        self.addr()
    }

    /// `si_syscall`, of a `SIGSYS`: the call's number.
    #[must_use]
    pub const fn syscall(&self) -> u32 {
        let [_, second, ..] = self.fields;
        low(second)
    }

    /// `si_arch`, of a `SIGSYS`: the audit number of the call's architecture.
    #[must_use]
    pub const fn syscall_arch(&self) -> u32 {
        let [_, second, ..] = self.fields;
        low(second >> 32)
    }

    /// `si_pid`, of a signal that was sent or of a child.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        let [first, ..] = self.fields;
        low(first).cast_signed()
    }

    /// `si_status`, of a child: its exit code or the signal that killed it.
    #[must_use]
    pub const fn status(&self) -> i32 {
        let [_, second, ..] = self.fields;
        low(second).cast_signed()
    }
}

/// The low half of a field that holds two.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the high half is another field"
)]
const fn low(field: u64) -> u32 {
    field as u32
}

/// Values of [`SigInfo::code`].
pub mod code {
    use linux_raw_sys::general as sys;

    /// `SIGSEGV`: nothing is mapped there.
    pub const SEGV_MAPERR: u32 = sys::SEGV_MAPERR;
    /// `SIGSEGV`: mapped, but not for this.
    pub const SEGV_ACCERR: u32 = sys::SEGV_ACCERR;
    /// `SIGSEGV`: a protection key.
    pub const SEGV_PKUERR: u32 = sys::SEGV_PKUERR;
    /// `SIGBUS`: unaligned.
    pub const BUS_ADRALN: u32 = sys::BUS_ADRALN;
    /// `SIGBUS`: mapped, but nothing behind it; also a userfaultfd in signal mode.
    pub const BUS_ADRERR: u32 = sys::BUS_ADRERR;
    /// `SIGFPE`: integer division by zero.
    pub const FPE_INTDIV: u32 = sys::FPE_INTDIV;
    /// `SIGSYS`: a filter's doing.
    pub const SYS_SECCOMP: u32 = sys::SYS_SECCOMP;
}
