//! Guests that are stopped where they are, and go on.

use std::thread;
use std::time::{Duration, Instant};

use cellwall::Interrupt;

use crate::guests::Entry;
use crate::lands::DATA;
use crate::tenant::{Done, Tenant, wrong};
use crate::thread::Hand;

/// Lets a guest that counts end, or leaves it.
fn release(tenant: &mut Tenant<'_>, hand: &Hand<'_>) -> Done {
    if hand.random(4) == 0 {
        return Ok(()); // dropped as it is
    }
    tenant.give_time();
    if hand.random(4) == 0 {
        tenant.reset()?;
        return tenant.is_pristine();
    }
    let word = hand.word() | 1;
    tenant.attempt("store", |instance| instance.store(DATA + 8, word))?;
    loop {
        match tenant.run()? {
            Interrupt::Finished(value) => return tenant.same("the released", value, word),
            Interrupt::Interrupted if tenant.is_disturbed => {}
            other => return wrong(format!("{other}, when it was released")),
        }
    }
}

/// Whether the guest has counted on.
fn counts_on(tenant: &mut Tenant<'_>, last: &mut u64, at_least: u64) -> Done {
    let count = tenant.attempt("load", |instance| instance.load::<u64>(DATA))?;
    if count < *last + at_least {
        return wrong(format!("it has counted to {count}, after {last}"));
    }
    *last = count;
    Ok(())
}

pub(crate) fn deadlines<'a>(hand: &'a Hand<'a>) -> Done {
    let mut tenant = Tenant::plain(hand)?;
    tenant.order(Entry::Count, &[])?;
    let mut last = 0;
    for _ in 0..hand.upto(4) {
        let deadline = Duration::from_micros(hand.upto(5000));
        tenant.set_deadline(deadline);
        let begun = Instant::now();
        match tenant.run()? {
            Interrupt::Deadline => {}
            other => return wrong(format!("{other}, not the deadline")),
        }
        if begun.elapsed() < deadline {
            return wrong(format!(
                "stopped after {:?}, before {deadline:?}",
                begun.elapsed()
            ));
        }
        // On a busy machine it may not have run at all.
        counts_on(&mut tenant, &mut last, 0)?;
    }
    release(&mut tenant, hand)
}

pub(crate) fn interrupts<'a>(hand: &'a Hand<'a>) -> Done {
    let mut tenant = Tenant::plain(hand)?;
    let handle = tenant.instance.interrupt_handle();
    tenant.order(Entry::Count, &[])?;
    let times = hand.upto(4);
    let pause = Duration::from_micros(hand.upto(2000));
    let others = 1 + hand.random(2);
    tenant.is_disturbed = true;
    let done = thread::scope(|scope| {
        for _ in 0..others {
            scope.spawn(|| {
                for _ in 0..times {
                    thread::sleep(pause);
                    handle.interrupt();
                }
            });
        }
        // However many of them fall together, the first is heard.
        let mut last = 0;
        match tenant.run()? {
            Interrupt::Interrupted => counts_on(&mut tenant, &mut last, 0),
            other => wrong(format!("{other}, not interrupted")),
        }
    });
    done?;
    release(&mut tenant, hand)
}

pub(crate) fn gas<'a>(hand: &'a Hand<'a>) -> Done {
    let mut tenant = Tenant::plain(hand)?;
    let gas = tenant.instance.gas();
    if gas != 0 {
        return wrong(format!("a new instance has {gas} gas"));
    }
    let steps = hand.upto(20_000);
    let each = hand.upto(5_000).cast_signed();
    if hand.is_tails() {
        let interval = Duration::from_millis(hand.upto(3));
        tenant.instance.watch_gas(interval);
    }
    tenant.instance.set_gas(each);
    tenant.order(Entry::Pay, &[steps])?;
    let mut given = each;
    loop {
        match tenant.run()? {
            Interrupt::Finished(value) => {
                let left = tenant.instance.gas();
                if given - left != steps.cast_signed() {
                    return wrong(format!("{steps} steps cost {given} - {left}"));
                }
                tenant.same("steps", value, steps)?;
                return tenant.leave_mark();
            }
            Interrupt::OutOfGas => {
                let left = tenant.instance.gas();
                if left >= 0 {
                    return wrong(format!("out of gas with {left}"));
                }
                given += each;
                tenant.instance.set_gas(left + each);
            }
            other => return wrong(format!("{other}, of a guest that pays")),
        }
    }
}
