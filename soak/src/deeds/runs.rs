//! Guests that run to their ends.

use cellwall::{Access, Death, Interrupt, TrapKind};

use crate::guests::{self, CALL_MARK, Entry};
use crate::lands::{CONSTANTS, DATA, STACK};
use crate::tenant::{Done, Stop, Tenant, wrong};
use crate::thread::Hand;

/// The most rounds of a computation: some milliseconds.
const ROUNDS_MAX: u64 = 500_000;
const CALLS_MAX: u64 = 300;

pub(crate) fn values<'a>(hand: &'a Hand<'a>) -> Done {
    let mut tenant = Tenant::plain(hand)?;
    for _ in 0..hand.upto(4) {
        let (rounds, seed) = (hand.upto(ROUNDS_MAX), hand.word());
        let value = guests::scrambled(rounds, seed, guests::SHIFTS);
        tenant.expect(Entry::Scramble, &[rounds, seed], value)?;
    }
    tenant.leave_mark()
}

pub(crate) fn hostcalls<'a>(hand: &'a Hand<'a>) -> Done {
    let mut tenant = Tenant::plain(hand)?;
    let (calls, seed) = (hand.upto(CALLS_MAX), hand.word());
    make_calls(&mut tenant, hand, calls, seed)?;
    tenant.leave_mark()
}

/// Answers hostcalls to the end, and checks the sum of the answers.
pub(super) fn make_calls(tenant: &mut Tenant<'_>, hand: &Hand<'_>, calls: u64, seed: u64) -> Done {
    tenant.order(Entry::Call, &[calls, seed])?;
    let mut sum = 0_u64;
    for left in (1..=calls).rev() {
        let call = match tenant.run()? {
            Interrupt::Hostcall(call) => call,
            other => return wrong(format!("{other}, not a hostcall")),
        };
        let [one, two, three, _, _, last] = call.args;
        if u64::from(call.number) != left || [one, two, three, last] != [left, seed, sum, CALL_MARK]
        {
            return wrong(format!(
                "{call:x?}, not number {left} with {seed:#x}, {sum:#x}"
            ));
        }
        let answer = hand.word();
        sum = sum.wrapping_add(answer);
        tenant.attempt("answer", |instance| instance.answer(answer))?;
    }
    match tenant.run()? {
        Interrupt::Finished(value) => tenant.same("the sum of the answers", value, sum),
        other => wrong(format!("{other}, not the sum")),
    }
}

/// What traps, in the order of the guest's numbers: how, and at which address to do what.
const TRAPS: [(TrapKind, Option<(u64, Access)>); 8] = [
    (TrapKind::IllegalInstruction, None),
    (TrapKind::Memory, Some((guests::NOWHERE, Access::Write))),
    (TrapKind::Arithmetic, None),
    (TrapKind::Breakpoint, None),
    (TrapKind::Memory, None),
    (TrapKind::Memory, Some((CONSTANTS, Access::Write))),
    (TrapKind::Memory, Some((DATA, Access::Execute))),
    (TrapKind::Memory, Some((STACK - 8, Access::Write))),
];

pub(crate) fn traps<'a>(hand: &'a Hand<'a>) -> Done {
    let mut tenant = Tenant::plain(hand)?;
    for _ in 0..hand.upto(6) {
        let number = hand.random(8) as usize;
        tenant.order(Entry::Trap, &[number as u64])?;
        let trap = match tenant.run()? {
            Interrupt::Trap(trap) => trap,
            other => return wrong(format!("{other}, not trap {number}")),
        };
        if (trap.kind, trap.address.zip(trap.access)) != TRAPS[number] {
            return wrong(format!("{trap}, where trap {number} was to be"));
        }
        let Some(registers) = tenant.instance.registers() else {
            return wrong("a trap without registers");
        };
        if !registers.contains(&(number as u64)) {
            return wrong(format!("rdi is not in {registers:x?}"));
        }
    }
    tenant.expect(Entry::Scramble, &[1, 0], 1)
}

/// Calls that no guest may make.
const FORBIDDEN: [u64; 6] = [39, 9, 0, 56, 321, 0xffff];

pub(crate) fn ends<'a>(hand: &'a Hand<'a>) -> Done {
    let mut tenant = Tenant::plain(hand)?;
    tenant.expect(Entry::Scramble, &[1, 0], 1)?;
    let status = hand.random(256);
    let (entry, argument) = match hand.random(4) {
        0 | 1 => (Entry::Exit, u64::from(status)),
        2 => {
            let number = FORBIDDEN[hand.random(6) as usize];
            (Entry::Forbidden, number)
        }
        _ => (Entry::Gate, 0),
    };
    tenant.order(entry, &[argument])?;
    match (entry, tenant.run()?) {
        (Entry::Exit, Interrupt::Died(Death::Exited(told))) if told == status.cast_signed() => {}
        (Entry::Forbidden | Entry::Gate, Interrupt::Trap(trap))
            if trap.kind == TrapKind::ForbiddenCall => {}
        (_, other) => return wrong(format!("{other}, where {entry:?} {argument} was to end it")),
    }
    match tenant.is_over() {
        Err(Stop::Struck) => Ok(()),
        other => other,
    }
}
