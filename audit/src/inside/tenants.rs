//! A worker that is used again: what a guest leaves there, and a guest that does not leave.

use cellwall::{Blame, Error, Misuse};
use std::time::Duration;

use cellwall::abi::{FINISH, GUEST_PAGE, HOSTCALL, TURN_LINE};
use vmctx::{Layer, PAGE_BYTES, map};

use super::kit::{COPIES, COPIES_BYTES, DATA, PLENTY, STACK};
use super::lane::{Lane, Stage, attempt, share};
use super::outcome::{Expected, May, Outcome, Shape, Tally};
use crate::row::{Row, Verdict};

pub(super) const NAME: &str = "tenants";

/// What the former tenant knew. No instruction, table or address holds it.
pub(super) const SECRET: u64 = 0x5ec2_e75a_c3d4_b1f7;

/// For a guest that the host may take for one that goes on.
const A_WHILE: Duration = Duration::from_millis(500);

/// How the former tenant ended: by a hostcall, by finishing, by a trap in a register of its own.
const ENDS: [(&str, u64); 3] = [("a hostcall", HOSTCALL), ("its end", FINISH), ("a trap", 0)];

/// The host puts it back to what it was.
type Renewal = (&'static str, fn(&mut Lane<'_>) -> Result<(), Error>);

const RENEWALS: [Renewal; 2] = [
    ("a reset", |lane| lane.instance()?.reset()),
    // To a snapshot of one that has not run.
    ("a restore", |lane| {
        let module = lane.instance()?.module().clone();
        let clean = lane.another(&module)?.snapshot()?;
        lane.instance()?.restore(&clean)
    }),
];

/// Makes one row.
type Part = fn(&mut Lane<'_>) -> Result<Row, Error>;

pub(super) fn run(stage: &Stage) -> Result<Vec<Row>, Error> {
    let parts: [Part; 3] = [memory, registers, staying];
    share(stage, parts.len(), |lane, index| parts[index](lane))
}

/// A guest that puts the secret wherever it can, and stops with it in all registers.
pub(super) fn leave(lane: &mut Lane<'_>, target: u64) -> Result<Outcome, Error> {
    lane.instance()?;
    let secrets = SECRET.to_le_bytes().repeat(0x1_0000 / 8);
    lane.instance()?.write(COPIES, &secrets)?;
    // Its own memory, then what is the worker's, but for the word that says whose turn it is.
    for (to, bytes) in [
        (COPIES + 0x1_0000, COPIES_BYTES - 0x1_0000),
        (PLENTY, 0x20_0000),
        (STACK, 0x8000),
        (TURN_LINE + 8, PAGE_BYTES - 8),
        (GUEST_PAGE, PAGE_BYTES),
        (map::STACK.start, map::STACK.end - map::STACK.start),
        (
            map::ALT_STACK.start,
            map::ALT_STACK.end - map::ALT_STACK.start,
        ),
    ] {
        lane.run(&attempt(
            lane,
            "copy",
            [to, COPIES, bytes.min(0x1_0000)],
            &[],
        ))?;
    }
    let args = [SECRET, STACK + 0x8000, target];
    lane.run(&attempt(lane, "leave everything", args, &[]))
}

const LEFT: Expected = &[
    May(Shape::Hostcall, "the former tenant is in a hostcall"),
    May(Shape::FinishedAny, "it has finished"),
    May(
        Shape::Trap(cellwall::TrapKind::Memory),
        "it is stopped in a trap",
    ),
];

fn memory(lane: &mut Lane<'_>) -> Result<Row, Error> {
    let mut tally = Tally::brief(LEFT);
    for ((end, target), (name, renew)) in all() {
        let outcome = leave(lane, target)?;
        tally.add(&outcome, 0, end);
        renew(lane)?;
        find_secret(lane, &mut tally, &format!("after {end} and {name}"))?;
    }
    lane.renew();
    let attempt = "reading the memory, stacks and words of a former tenant".to_owned();
    Ok(tally.row(NAME, attempt, Some(Layer::SharedWords)))
}

/// A guest copies all that it can read to where the host looks. The arguments say nothing of the
/// secret.
pub(super) fn find_secret(lane: &mut Lane<'_>, tally: &mut Tally, what: &str) -> Result<(), Error> {
    for (from, bytes) in [
        (TURN_LINE, 2 * PAGE_BYTES),
        (map::HOST_PAGE.start, PAGE_BYTES),
        (map::STACK.start, map::STACK.end - map::STACK.start),
        (
            map::ALT_STACK.start,
            map::ALT_STACK.end - map::ALT_STACK.start,
        ),
        (STACK, 0x1_0000),
        (PLENTY, 0x8_0000),
        (DATA, 0x8000),
    ] {
        let args = [COPIES, from, bytes];
        let outcome = lane.enter(lane.stage.kit.entry("copy"), args)?;
        let found = lane.instance()?.read(COPIES, COPIES_BYTES)?;
        if outcome.finished().is_none() {
            let text = format!("{what}, {from:#x} is not to be read: {}", outcome.text());
            tally.note(text, Verdict::Broken);
        } else if holds_secret(&found) {
            let text = format!("{what}, the secret is at {from:#x}");
            tally.note(text, Verdict::GotThrough);
        }
    }
    Ok(())
}

fn registers(lane: &mut Lane<'_>) -> Result<Row, Error> {
    let mut tally = Tally::brief(LEFT);
    for ((end, target), (name, renew)) in all() {
        let outcome = leave(lane, target)?;
        tally.add(&outcome, 0, end);
        renew(lane)?;
        let entry = lane.stage.kit.entry("take everything");
        let outcome = lane.enter(entry, [COPIES, 0, 0])?;
        let found = lane.instance()?.read(COPIES, PAGE_BYTES)?;
        if outcome.finished().is_none() || found.iter().all(|byte| *byte == 0) {
            let text = format!("no registers are seen: {}", outcome.text());
            tally.note(text, Verdict::Broken);
        } else if holds_secret(&found) {
            let text = format!("after {end} and {name}, the secret is in a register");
            tally.note(text, Verdict::GotThrough);
        }
    }
    lane.renew();
    let attempt = "reading the registers of a former tenant".to_owned();
    Ok(tally.row(NAME, attempt, None))
}

/// Whether the host has found out that the last guest spoiled its worker.
fn is_told(error: &Error) -> bool {
    matches!(error.blame, Blame::Forged(_) | Blame::Caller(Misuse::Over))
}

/// A guest that says that it has finished, and goes on to write words, stacks and memory while the
/// host wipes them and enters the next.
fn staying(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const EXPECTED: Expected = &[
        May(Shape::Finished(42), "the thread was taken from it"),
        May(
            Shape::Forged,
            "it wrote a word that cannot be, before it lost its thread",
        ),
    ];
    const LIE: Expected = &[
        May(Shape::FinishedAny, "a guest may say so"),
        May(Shape::Forged, "the next word was there first"),
        May(Shape::Hostcall, "the next word was there first"),
        May(
            Shape::Trap(cellwall::TrapKind::Memory),
            "the next word was there first",
        ),
        May(
            Shape::Deadline,
            "the host takes each word for a fault to settle",
        ),
    ];
    const REPEATS: u64 = 8;
    // None but the first, then those of a worker and of a host, with bits of sleep.
    let states = [0, 1, 2, 3, 4, 5, 6, 7, 0x105, 0x205, 0xff05];
    let targets = [DATA, map::STACK.start, map::ALT_STACK.end - PAGE_BYTES];
    let mut tally = Tally::brief(EXPECTED);
    for state in states {
        for (repeat, (_, renew)) in (0..REPEATS).zip(RENEWALS.iter().cycle()) {
            let what = format!("state {state:#x}");
            let target = targets[usize::try_from(repeat).unwrap_or(0) % targets.len()];
            lane.instance()?;
            let args = [SECRET, target, state];
            let mut lie = attempt(lane, "finish and go on", args, &[]);
            lie.deadline = A_WHILE;
            let outcome = lane.run(&lie)?;
            tally.add_expecting(LIE, &outcome, 0, &what);
            if outcome.is_over(false) {
                lane.renew();
                continue;
            }
            match renew(lane) {
                // What it wrote after its lie is told before the next one gets in.
                Err(error) if is_told(&error) => {
                    lane.renew();
                    continue;
                }
                renewed => renewed?,
            }
            let outcome = lane.enter(lane.stage.kit.entry("answer 42"), [0; 3])?;
            tally.add(&outcome, 0, &what);
            if outcome.is_over(false) {
                lane.renew();
                continue;
            }
            // It is gone, and does not write any more.
            let words = lane.instance()?.read(DATA, PAGE_BYTES)?;
            if holds_secret(&words) {
                tally.note(format!("{what}: it went on"), Verdict::GotThrough);
            }
        }
    }
    lane.renew();
    let attempt = "going on while the host wipes and enters the next".to_owned();
    Ok(tally.row(NAME, attempt, Some(Layer::SharedWords)))
}

/// Each end with each renewal.
fn all() -> impl Iterator<Item = ((&'static str, u64), Renewal)> {
    let ends = ENDS.into_iter();
    ends.flat_map(|end| RENEWALS.map(|renewal| (end, renewal)))
}

pub(super) fn holds_secret(bytes: &[u8]) -> bool {
    let secret = SECRET.to_le_bytes();
    bytes.windows(secret.len()).any(|eight| eight == secret)
}

#[cfg(test)]
mod tests {
    use super::{SECRET, holds_secret};

    #[test]
    fn the_secret_is_found_anywhere() {
        let mut bytes = vec![0; 64];
        assert!(!holds_secret(&bytes));
        bytes[13..21].copy_from_slice(&SECRET.to_le_bytes());
        assert!(holds_secret(&bytes));
        bytes[20] ^= 1;
        assert!(!holds_secret(&bytes));
    }
}
