//! What a signal tells: `siginfo_t`.

use core::mem::offset_of;

use linux_raw_sys::general as sys;
use static_assertions::{assert_eq_align, assert_eq_size};

use crate::nr::Nr;
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

    /// `si_addr`, of a fault: the address.
    #[must_use]
    pub const fn addr(&self) -> u64 {
        let [first, ..] = self.fields;
        first
    }

    /// `si_pid`, of a child: its number.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        let [first, ..] = self.fields;
        low(first)
    }

    /// `si_status`, of a child: its exit code or the signal that killed it.
    #[must_use]
    pub const fn status(&self) -> i32 {
        let [_, second, ..] = self.fields;
        low(second).cast_signed()
    }

    /// `si_call_addr`, of a `SIGSYS` from a filter: the address after the instruction that made
    /// the call.
    #[must_use]
    pub const fn call_addr(&self) -> u64 {
        self.addr()
    }

    /// `si_syscall`, of a `SIGSYS` from a filter: the call.
    #[must_use]
    pub const fn syscall(&self) -> Nr {
        let [_, second, ..] = self.fields;
        Nr::from_raw(low(second))
    }

    /// `si_arch`, of a `SIGSYS` from a filter: the audit number of the architecture that the call
    /// was made for.
    #[must_use]
    pub const fn arch(&self) -> u32 {
        let [_, second, ..] = self.fields;
        low(second >> 32)
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
