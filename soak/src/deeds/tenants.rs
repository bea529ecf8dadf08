//! One tenant after the other in the same worker: nobody finds anything of the one before.

use std::time::Duration;

use cellwall::Interrupt;

use crate::deeds::runs::make_calls;
use crate::guests::Entry;
use crate::lands::{
    CONSTANT_WORDS, CONSTANTS, DATA, DATA_BYTES, FREE, INITIAL, INPUT, INPUT_BYTES, PAGE, SEED,
    SEED_BYTES, initial,
};
use crate::tenant::{Done, Tenant, wrong};
use crate::thread::Hand;

/// Looks through all that a tenant begins with, by the guest's eyes and by the host's.
fn is_as_new(tenant: &mut Tenant<'_>) -> Done {
    tenant.is_pristine()?;
    let constants = CONSTANT_WORDS
        .iter()
        .fold(0, |sum: u64, word| sum.wrapping_add(*word));
    tenant.expect(Entry::Sum, &[CONSTANTS, PAGE / 8, 8], constants)?;
    tenant.expect(Entry::Look, &[INPUT, INPUT_BYTES / 8, 8], 0)?;
    let expected = initial();
    let found = tenant.attempt("read", |instance| {
        instance.read(INITIAL, expected.len() as u64)
    })?;
    if found != expected {
        return wrong("what a module begins with is another's");
    }
    Ok(())
}

/// Leaves something wherever a tenant can write.
fn spoil(tenant: &mut Tenant<'_>, hand: &Hand<'_>) -> Done {
    let input = hand.word().to_le_bytes();
    tenant.attempt("set_input", |instance| instance.set_input(&input))?;
    tenant.expect(
        Entry::Sum,
        &[INPUT, INPUT_BYTES / 8, 8],
        u64::from_le_bytes(input),
    )?;
    let word = hand.word();
    let page = DATA + hand.upto(DATA_BYTES / PAGE) * PAGE - PAGE;
    tenant.attempt("store", |instance| instance.store(INITIAL + 8, word))?;
    tenant.leave_mark()?;
    let marked = tenant.attempt("load", |instance| instance.load::<u64>(page))?;
    tenant.expect(Entry::Swap, &[page, word], marked)?;
    let stored = tenant.attempt("load", |instance| instance.load::<u64>(page))?;
    tenant.same("what the guest has written", stored, word)
}

fn seed(tenant: &mut Tenant<'_>) -> Done<Vec<u8>> {
    let seed = tenant.attempt("read", |instance| instance.read(SEED, SEED_BYTES))?;
    match seed.iter().all(|byte| *byte == 0) {
        true => wrong("a seed of zeros"),
        false => Ok(seed),
    }
}

pub(crate) fn tenants<'a>(hand: &'a Hand<'a>) -> Done {
    let mut seeds = Vec::new();
    for _ in 0..hand.upto(3) {
        let mut tenant = Tenant::plain(hand)?;
        is_as_new(&mut tenant)?;
        let seed = seed(&mut tenant)?;
        if seeds.contains(&seed) {
            return wrong("two tenants have one seed");
        }
        seeds.push(seed);
        spoil(&mut tenant, hand)?;
    }
    Ok(())
}

pub(crate) fn resets<'a>(hand: &'a Hand<'a>) -> Done {
    let mut tenant = Tenant::plain(hand)?;
    let mut last = Vec::new();
    for _ in 0..hand.upto(4) {
        is_as_new(&mut tenant)?;
        let seed = seed(&mut tenant)?;
        if seed == last {
            return wrong("a reset keeps the seed");
        }
        last = seed;
        spoil(&mut tenant, hand)?;
        tenant.reset()?;
    }
    is_as_new(&mut tenant)
}

/// Instances that are dropped while the guest is in the middle of something.
pub(crate) fn abandoned<'a>(hand: &'a Hand<'a>) -> Done {
    let paged = &hand.site().modules.paged;
    let mut tenant = Tenant::new(hand, paged)?;
    tenant.is_pristine()?;
    tenant.leave_mark()?;
    match hand.random(4) {
        0 => {
            tenant.order(Entry::Call, &[hand.upto(5), 0])?;
            match tenant.run()? {
                Interrupt::Hostcall(_) => Ok(()),
                other => wrong(format!("{other}, not a hostcall")),
            }
        }
        1 => {
            tenant.order(Entry::Swap, &[FREE, 1])?;
            match tenant.run()? {
                Interrupt::PageFault(_) => Ok(()),
                other => wrong(format!("{other}, not a page fault")),
            }
        }
        2 => {
            // What it counts at is marked: it ends at once unless that is taken away.
            tenant.attempt("store", |instance| instance.store(DATA + 8, 0_u64))?;
            tenant.order(Entry::Count, &[])?;
            tenant.set_deadline(Duration::from_micros(hand.upto(500)));
            match tenant.run()? {
                Interrupt::Deadline => Ok(()),
                other => wrong(format!("{other}, not the deadline")),
            }
        }
        _ => {
            make_calls(&mut tenant, hand, 3, 3)?;
            tenant.order(Entry::Look, &[DATA, 1, 1]) // and never run
        }
    }
}
