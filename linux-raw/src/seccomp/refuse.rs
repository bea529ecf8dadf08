#![expect(
    clippy::indexing_slicing,
    reason = "an index out of range breaks the build, or panics in tests, which may run it"
)]
//! The other way round: everything is allowed but some calls, which answer with an error.
//!
//! This is how a container engine's profile looks to the processes in it, and what tests imitate
//! one with. Unlike the rest of the crate it may also run, and panic, at run time.
//!
//! ```
//! use linux_raw::seccomp::{Cond, Is, Program, Refusal, compile_refusing, length_refusing};
//! use linux_raw::{Errno, nr};
//!
//! const REFUSALS: &[Refusal] = &[
//!     Refusal { call: nr::CLONE3, when: &[], errno: Errno::ENOSYS },
//!     Refusal {
//!         call: nr::CLONE,
//!         when: &[Cond { arg: 0, is: Is::AnyBit(0x7e02_0000) }], // new namespaces
//!         errno: Errno::EPERM,
//!     },
//! ];
//! static FILTER: Program<{ length_refusing(REFUSALS) }> = compile_refusing(REFUSALS);
//! ```

use core::mem::offset_of;

use super::ALLOW;
use super::bpf::{Assembler, SeccompData, Target};
use super::filter::{Cond, Program, conditions, head};
use crate::errno::Errno;
use crate::nr::Nr;

/// The answer that makes a call fail (`SECCOMP_RET_ERRNO`), with the error in the low half.
pub const ERRNO: u32 = linux_raw_sys::ptrace::SECCOMP_RET_ERRNO;

/// One call that fails without being made. Of several that hold the first one counts.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// The call, by its exact number.
    pub call: Nr,
    /// What must hold for its arguments, all of it; nothing means in any case.
    pub when: &'static [Cond],
    /// What it answers.
    pub errno: Errno,
}

/// How long the program of these refusals is: the `N` of its [`Program`].
#[must_use]
pub const fn length_refusing(refusals: &[Refusal]) -> usize {
    assemble(refusals).length()
}

/// The program that refuses these calls and allows all others. Calls of another architecture, and
/// x32 calls, are killed.
///
/// `N` may also be larger than [`length_refusing`] says, for refusals that are not constants.
///
/// # Panics
///
/// Breaks the build, or panics at run time, if `N` is too small or a condition makes no sense.
#[must_use]
pub const fn compile_refusing<const N: usize>(refusals: &[Refusal]) -> Program<N> {
    let mut out = assemble(refusals);
    while out.length() < N {
        out.answer(ALLOW); // never reached
    }
    Program::assembled(&out)
}

/// Writes the program.
const fn assemble(refusals: &[Refusal]) -> Assembler {
    let mut out = Assembler::new();
    head(&mut out);
    let mut at = 0;
    while at < refusals.len() {
        let refusal = refusals[at];
        let (refused, next) = (out.label(), out.label());
        out.if_equal(refusal.call.raw(), Target::Next, Target::To(next));
        if !refusal.when.is_empty() {
            // Conditions load something else: after one that fails, the number comes back.
            let failed = out.label();
            conditions(&mut out, refusal.when, refused, failed);
            out.place(failed);
            out.load(offset_of!(SeccompData, nr));
            out.if_at_least(0, Target::To(next), Target::To(next)); // always
        }
        out.place(refused);
        out.answer(ERRNO | refusal.errno.raw() as u32);
        out.place(next);
        at += 1;
    }
    out.answer(ALLOW);
    out
}
