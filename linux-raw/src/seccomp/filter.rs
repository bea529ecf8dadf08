#![expect(
    clippy::indexing_slicing,
    reason = "runs at compile time, where an index out of range breaks the build"
)]
//! From rules to a program: the architecture first, then exact call numbers, kill by default (or
//! report, or ask).
//!
//! ```
//! use linux_raw::nr;
//! use linux_raw::seccomp::{Cond, Is, Program, Rule, compile, length};
//!
//! const RULES: &[Rule] = &[
//!     Rule { call: nr::EXIT_GROUP, when: &[], why: "the last thing it does" },
//!     Rule {
//!         call: nr::FUTEX,
//!         when: &[
//!             Cond { arg: 0, is: Is::Equal(0x1_4019_1000) },
//!             Cond { arg: 1, is: Is::AnyOf2(0, 1) },
//!         ],
//!         why: "hands its turn back, on the one word that both sides share",
//!     },
//! ];
//! static FILTER: Program<{ length(RULES) }> = compile(RULES);
//! assert!(FILTER.as_slice().len() < 20);
//! ```

use core::mem::offset_of;

use super::bpf::{Assembler, Instruction, Label, SeccompData, Target};
use super::{ALLOW, KILL_PROCESS, TRAP, USER_NOTIF};
use crate::arch;
use crate::nr::Nr;

/// One call that is let through, and why. Rules for the same call add up.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The call, by its exact number: an x32 call has another one, hence is killed.
    pub call: Nr,
    /// What must hold for its arguments, all of it.
    pub when: &'static [Cond],
    /// Why a jailed process needs it; may not be empty.
    pub why: &'static str,
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug)]
pub struct Cond {
    /// Which, 0 to 5, or [`Cond::INSTRUCTION_POINTER`].
    pub arg: u8,
    /// What it must be.
    pub is: Is,
}

impl Cond {
    /// Stands for the address after the calling instruction.
    pub const INSTRUCTION_POINTER: u8 = u8::MAX;

    /// Where the low half is.
    const fn offset(self) -> usize {
        if self.arg == Self::INSTRUCTION_POINTER {
            return offset_of!(SeccompData, instruction_pointer);
        }
        assert!(self.arg < 6, "a system call has six arguments");
        offset_of!(SeccompData, args) + self.arg as usize * size_of::<u64>()
    }
}

/// What an argument must be. All 64 bits count: an `int` argument with rubbish above is refused.
#[derive(Clone, Copy, Debug)]
pub enum Is {
    /// Exactly this.
    Equal(u64),
    /// One of two.
    AnyOf2(u64, u64),
    /// Exactly `value` in the bits of `mask`.
    Masked {
        /// The bits that count.
        mask: u64,
        /// What they must be; no bit outside of `mask`.
        value: u64,
    },
    /// With any bit of this mask, which may not be empty.
    AnyBit(u64),
    /// From `start` up to but without `end`, which may not cross a multiple of 4 GiB.
    Within {
        /// The first that is let through.
        start: u64,
        /// The first that is not.
        end: u64,
    },
}

/// A finished filter of `N` instructions.
#[derive(Clone, Copy, Debug)]
pub struct Program<const N: usize>([Instruction; N]);

impl<const N: usize> Program<N> {
    /// The instructions, to be installed.
    #[must_use]
    pub const fn as_slice(&self) -> &[Instruction] {
        &self.0
    }

    /// What was written, as a program.
    pub(super) const fn assembled(out: &Assembler) -> Self {
        Self(out.finish())
    }
}

/// How long the program of these rules is: the `N` of its [`Program`].
#[must_use]
pub const fn length(rules: &[Rule]) -> usize {
    assemble(rules, KILL_PROCESS).length()
}

/// The program of these rules. Breaks the build if there is something wrong with them.
#[must_use]
pub const fn compile<const N: usize>(rules: &[Rule]) -> Program<N> {
    Program(assemble(rules, KILL_PROCESS).finish())
}

/// As [`length`], for [`compile_reporting`].
#[must_use]
pub const fn length_reporting(rules: &[Rule]) -> usize {
    assemble(rules, TRAP).length()
}

/// As [`compile`], but a call that the rules do not let through raises `SIGSYS` instead, for a
/// handler to report it; blocked or ignored, the signal kills. The call is not made, and whoever
/// made it sees in its answer what the handler puts there. Calls of another architecture, and x32
/// calls, are killed all the same.
#[must_use]
pub const fn compile_reporting<const N: usize>(rules: &[Rule]) -> Program<N> {
    Program(assemble(rules, TRAP).finish())
}

/// As [`length`], for [`compile_notifying`].
#[must_use]
pub const fn length_notifying(rules: &[Rule]) -> usize {
    assemble(rules, USER_NOTIF).length()
}

/// As [`compile`], but a call that the rules do not let through waits for a supervisor's answer
/// ([`notify`](super::notify)); no rules mean that all do. Calls of another architecture, and x32
/// calls, are killed all the same.
///
/// To be installed by [`install_with_listener`](super::install_with_listener): without a listener
/// such calls are `ENOSYS`. Since Linux 5.0.
#[must_use]
pub const fn compile_notifying<const N: usize>(rules: &[Rule]) -> Program<N> {
    Program(assemble(rules, USER_NOTIF).finish())
}

/// The first number of an x32 call.
const X32: u32 = linux_raw_sys::general::__X32_SYSCALL_BIT;

/// Kills calls of another architecture and x32 calls, and leaves the number loaded.
pub(super) const fn head(out: &mut Assembler) {
    let (foreign, ours) = (out.label(), out.label());
    out.load(offset_of!(SeccompData, arch));
    out.if_equal(arch::AUDIT_ARCH, Target::Next, Target::To(foreign));
    out.load(offset_of!(SeccompData, nr));
    out.if_at_least(X32, Target::Next, Target::To(ours));
    out.place(foreign);
    out.answer(KILL_PROCESS);
    out.place(ours);
}

/// Writes the program, with the answer to what no rule lets through.
const fn assemble(rules: &[Rule], otherwise: u32) -> Assembler {
    let mut out = Assembler::new();
    let (allow, deny) = (out.label(), out.label());
    // Another architecture's numbers mean other calls: without this check `int 0x80` would reach
    // whatever i386 has under the numbers allowed below.
    if otherwise == KILL_PROCESS {
        out.load(offset_of!(SeccompData, arch));
        out.if_equal(arch::AUDIT_ARCH, Target::Next, Target::To(deny));
        out.load(offset_of!(SeccompData, nr));
    } else {
        head(&mut out);
    }
    let mut at = 0;
    while at < rules.len() {
        assert!(!rules[at].why.is_empty(), "a rule needs its reason");
        // The first rule of a call brings the others along.
        if next_of_same_call(rules, 0, rules[at].call) == at {
            call(&mut out, rules, at, allow, deny);
        }
        at += 1;
    }
    out.place(deny);
    out.answer(otherwise);
    out.place(allow);
    out.answer(ALLOW);
    out
}

/// All rules of one call, of which `first` is the first. Wants the number loaded, and leaves it
/// loaded for the next call: a rule whose conditions fail ends here for good.
const fn call(out: &mut Assembler, rules: &[Rule], first: usize, allow: Label, deny: Label) {
    let number = rules[first].call;
    let is_last_call = !any_other_call_after(rules, first);
    if rules[first].when.is_empty() {
        assert!(
            next_of_same_call(rules, first + 1, number) == rules.len(),
            "a rule without conditions makes the later ones of its call useless"
        );
        let otherwise = if is_last_call {
            Target::To(deny)
        } else {
            Target::Next
        };
        out.if_equal(number.raw(), Target::To(allow), otherwise);
        return;
    }
    let next_call = out.label();
    let otherwise = if is_last_call { deny } else { next_call };
    out.if_equal(number.raw(), Target::Next, Target::To(otherwise));
    let mut at = first;
    while at < rules.len() {
        assert!(
            !rules[at].when.is_empty(),
            "a rule without conditions makes the others of its call useless"
        );
        let next = next_of_same_call(rules, at + 1, number);
        let has_next = next < rules.len();
        let next_rule = out.label();
        let failed = if has_next { next_rule } else { deny };
        conditions(out, rules[at].when, allow, failed);
        if has_next {
            out.place(next_rule);
        }
        at = next;
    }
    if !is_last_call {
        out.place(next_call);
    }
}

/// All conditions of one rule: to `allow` if they hold, to `failed` if not.
pub(super) const fn conditions(out: &mut Assembler, when: &[Cond], allow: Label, failed: Label) {
    let mut at = 0;
    while at < when.len() {
        let last = at + 1 == when.len();
        let next_condition = out.label();
        let held = if last { allow } else { next_condition };
        condition(out, when[at], held, failed);
        if !last {
            out.place(next_condition);
        }
        at += 1;
    }
}

/// One condition: both halves of the argument, the high one first.
const fn condition(out: &mut Assembler, cond: Cond, held: Label, failed: Label) {
    let low_at = cond.offset();
    let high_at = low_at + size_of::<u32>();
    let (held, failed) = (Target::To(held), Target::To(failed));
    out.load(high_at);
    match cond.is {
        Is::Equal(value) => {
            out.if_equal(high(value), Target::Next, failed);
            out.load(low_at);
            out.if_equal(low(value), held, failed);
        }
        Is::AnyOf2(one, other) if high(one) == high(other) => {
            out.if_equal(high(one), Target::Next, failed);
            out.load(low_at);
            out.if_equal(low(one), held, Target::Next);
            out.if_equal(low(other), held, failed);
        }
        Is::AnyOf2(one, other) => {
            let try_other = out.label();
            out.if_equal(high(one), Target::Next, Target::To(try_other));
            out.load(low_at);
            out.if_equal(low(one), held, failed);
            out.place(try_other);
            out.if_equal(high(other), Target::Next, failed);
            out.load(low_at);
            out.if_equal(low(other), held, failed);
        }
        Is::Masked { mask, value } => {
            assert!(
                value & !mask == 0,
                "a value outside of its mask never matches"
            );
            out.and(high(mask));
            out.if_equal(high(value), Target::Next, failed);
            out.load(low_at);
            out.and(low(mask));
            out.if_equal(low(value), held, failed);
        }
        Is::AnyBit(mask) => {
            assert!(mask != 0, "no bits never match");
            out.if_any_bit(high(mask), held, Target::Next);
            out.load(low_at);
            out.if_any_bit(low(mask), held, failed);
        }
        Is::Within { start, end } => {
            assert!(start < end, "an empty range never matches");
            assert!(
                high(start) == high(end - 1),
                "a range may not cross a multiple of 4 GiB"
            );
            out.if_equal(high(start), Target::Next, failed);
            out.load(low_at);
            // The last one plus one may be the next 4 GiB, so the last one is compared.
            let past_last = low(end - 1).checked_add(1);
            match past_last {
                Some(past) => {
                    out.if_at_least(low(start), Target::Next, failed);
                    out.if_at_least(past, failed, held);
                }
                None => out.if_at_least(low(start), held, failed),
            }
        }
    }
}

/// The first rule of a call from `from` on, or the number of rules.
const fn next_of_same_call(rules: &[Rule], from: usize, call: Nr) -> usize {
    let mut at = from;
    while at < rules.len() && rules[at].call.raw() != call.raw() {
        at += 1;
    }
    at
}

/// Whether after `first`, the first of its call, there is another call that had no rule yet.
const fn any_other_call_after(rules: &[Rule], first: usize) -> bool {
    let mut at = first + 1;
    while at < rules.len() {
        if next_of_same_call(rules, 0, rules[at].call) == at {
            return true;
        }
        at += 1;
    }
    false
}

/// The low half of an argument.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the high half is compared on its own"
)]
const fn low(value: u64) -> u32 {
    value as u32
}

/// The high half of an argument.
const fn high(value: u64) -> u32 {
    low(value >> 32)
}
