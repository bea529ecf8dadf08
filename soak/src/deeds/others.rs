//! Modules and engines of their own, and many instances at once.

use cellwall::abi::CODE_WINDOW;
use cellwall::{Engine, Interrupt, Module, PoolConfig, Protection};

use crate::deeds::runs::make_calls;
use crate::guests::{self, Entry};
use crate::lands::{DATA, PAGE, STACK, STACK_BYTES, builder};
use crate::site::{START_TIMEOUT, patient};
use crate::tenant::{Done, Stop, Tenant, wrong};
use crate::thread::Hand;

/// The most instances at once: fewer threads than that exhaust a pool.
const CROWD_MAX: u64 = 6;

pub(crate) fn crowds<'a>(hand: &'a Hand<'a>) -> Done {
    let mut crowd = Vec::new();
    let mut refused = None;
    for _ in 0..hand.upto(CROWD_MAX) {
        match Tenant::plain(hand) {
            Ok(tenant) => crowd.push(tenant),
            Err(stop @ Stop::Refused(_)) => {
                refused = Some(stop);
                break;
            }
            Err(other) => return Err(other),
        }
    }
    for tenant in &mut crowd {
        tenant.is_pristine()?;
        make_calls(tenant, hand, 3, 5)?;
        tenant.leave_mark()?;
    }
    while !crowd.is_empty() {
        let end = u32::try_from(crowd.len()).unwrap_or(1);
        let mut leaves = crowd.swap_remove(hand.random(end) as usize);
        leaves.expect(Entry::Scramble, &[1, 0], 1)?;
    }
    refused.map_or(Ok(()), Err)
}

fn said<T>(made: Result<T, cellwall::Error>) -> Done<T> {
    made.map_err(|error| Stop::Wrong(error.to_string()))
}

/// A module that nobody else has: code and regions by chance.
pub(crate) fn modules<'a>(hand: &'a Hand<'a>) -> Done {
    let shifts = [13, 7, 17].map(|most| hand.random(most) + 1);
    let at = CODE_WINDOW.start + (hand.upto(64) - 1) * PAGE;
    let code = guests::assemble(at, |code| guests::scrambles(code, shifts));
    let mut parts = Module::builder()
        .code_at(at, &code)
        .stack(STACK, STACK_BYTES);
    let mut regions = Vec::new();
    let mut next = DATA;
    for _ in 0..hand.upto(12) {
        let (start, pages) = (next + (hand.upto(3) - 1) * PAGE, hand.upto(8));
        next = start + pages * PAGE;
        let protection = [Protection::Read, Protection::ReadWrite][usize::from(hand.is_tails())];
        let length = usize::try_from(hand.upto(pages * PAGE)).unwrap_or(0);
        let contents = hand.word().to_le_bytes().repeat(length.div_ceil(8));
        let contents = contents[..length].to_vec();
        parts = parts.data_zero_extended(start, &contents, pages * PAGE, protection);
        regions.push((start, pages * PAGE, contents));
    }
    let module = said(parts.build(&hand.site().engine))?;
    for _ in 0..hand.upto(3) {
        let mut tenant = Tenant::new(hand, &module)?;
        for (start, bytes, contents) in &regions {
            let found = tenant.attempt("read", |instance| instance.read(*start, *bytes))?;
            let (begins, rest) = found.split_at(contents.len());
            if begins != contents || rest.iter().any(|byte| *byte != 0) {
                return wrong(format!("a region at {start:#x} has other contents"));
            }
        }
        let (rounds, seed) = (hand.upto(1000), hand.word());
        tenant.order_at(module.entry(), &[rounds, seed])?;
        match tenant.run()? {
            Interrupt::Finished(value) => {
                let expected = guests::scrambled(rounds, seed, shifts);
                tenant.same("what a new module finds", value, expected)?;
            }
            other => return wrong(format!("{other}, of a new module")),
        }
    }
    Ok(())
}

/// An engine that nobody strikes: everything is exactly right.
pub(crate) fn engines<'a>(hand: &'a Hand<'a>) -> Done {
    hand.seat.step("an engine's life", START_TIMEOUT * 4);
    let pool = PoolConfig::new().idle(3).spares(hand.random(3) as usize);
    let config = patient();
    let config = match hand.random(3) {
        0 => config,
        1 => config.direct(true),
        _ => config.pool(pool),
    };
    let engine = said(Engine::new(&config))?;
    if hand.is_tails() {
        said(engine.warm_up())?;
    }
    let module = said(builder().build(&engine))?;
    let mut last = None;
    for _ in 0..hand.upto(3) {
        let mut instance = said(engine.instantiate(&module))?;
        let (rounds, seed) = (hand.upto(100), hand.word());
        said(instance.call(Entry::Scramble.address(), &[rounds, seed]))?;
        let expected = guests::scrambled(rounds, seed, guests::SHIFTS);
        match said(instance.run())? {
            Interrupt::Finished(value) if value == expected => {}
            other => return wrong(format!("{other}, not {expected}")),
        }
        last = hand.is_tails().then_some(instance);
    }
    // An instance keeps its engine.
    drop(engine);
    if let Some(instance) = &mut last {
        said(instance.call(Entry::Scramble.address(), &[1, 0]))?;
        if said(instance.run())? != Interrupt::Finished(1) {
            return wrong("an instance that outlives its engine finds something else");
        }
    }
    Ok(())
}
