//! Guests that are stopped where they are, and make the worst of it: the kernel writes a frame
//! where the stack pointer lets it, and the zygote's handler goes on from that frame.

use std::thread;
use std::time::{Duration, Instant};

use cellwall::abi::TURN_LINE;
use cellwall::{Error, Signal};
use vmctx::{Layer, State, map};

use super::guests::stops::RELEASE;
use super::kit::STACK;
use super::lane::{Attempt, Lane, PATIENT, Stage, share};
use super::outcome::{Expected, May, Outcome, Shape, Tally};
use super::trampolines::WILD_STACKS;
use crate::row::{Row, Verdict};

pub(super) const NAME: &str = "interruptions";

/// Until a guest is stopped that would not end.
const SOON: Duration = Duration::from_millis(3);
/// How often it is then stopped again.
const STOPS: usize = 4;

const STOPPED: Expected = &[May(Shape::Deadline, "wherever it is")];
const WORKS: Expected = &[May(Shape::Finished(42), "as if nothing had been")];

/// Makes one row.
type Part = fn(&mut Lane<'_>) -> Result<Row, Error>;

pub(super) fn run(stage: &Stage) -> Result<Vec<Row>, Error> {
    let parts: [Part; 6] = [
        unwanted_claims,
        wanted_claims,
        stacks,
        flags,
        overwriting,
        lingering,
    ];
    share(stage, parts.len(), |lane, index| parts[index](lane))
}

fn attempt(lane: &Lane<'_>, program: &str, args: [u64; 3]) -> Attempt<'static> {
    Attempt {
        entry: lane.stage.kit.entry(program),
        args,
        block: &[],
        deadline: SOON,
    }
}

/// Begins what goes in a circle until it is released, and stops it some times.
pub(super) fn stop_often(
    lane: &mut Lane<'_>,
    program: &str,
    args: [u64; 3],
) -> Result<Outcome, Error> {
    lane.instance()?.write(RELEASE, &[0; 8])?;
    let mut outcome = lane.begin(&attempt(lane, program, args))?;
    for _ in 1..STOPS {
        if !Shape::Deadline.is(&outcome, 0) {
            break;
        }
        outcome = lane.stop_again(SOON)?;
    }
    Ok(outcome)
}

/// Lets it end.
pub(super) fn release(lane: &mut Lane<'_>) -> Result<Outcome, Error> {
    lane.instance()?.write(RELEASE, &[1])?;
    lane.stop_again(PATIENT)
}

/// Nobody wants to stop the guest that says that it was stopped: it goes on, and nobody is told.
fn unwanted_claims(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const CLAIMS: u64 = 1000;
    let mut tally = Tally::new(WORKS);
    for bits in [0, 0x200, 0xfc00, 0xffff_0000] {
        let args = [CLAIMS, State::Interrupted as u64 | bits, 0];
        let mut claim = attempt(lane, "claim a state", args);
        claim.deadline = PATIENT;
        let outcome = lane.run(&claim)?;
        tally.add(&outcome, 0, &format!("bits {bits:#x}"));
    }
    lane.renew();
    let attempt = "claiming stops that nobody wants, with a report of ones".to_owned();
    Ok(tally.row(NAME, attempt, Some(Layer::SharedWords)))
}

/// Somebody does want it, and the claim comes before the signal, or at the same time.
fn wanted_claims(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const EXPECTED: Expected = &[
        May(
            Shape::Interrupted,
            "a guest may say so; it is what was asked",
        ),
        May(
            Shape::Forged,
            "the signal came after the claim, and its handler wrote in the host's turn",
        ),
    ];
    const ROUNDS: usize = 40;
    let mut tally = Tally::new(EXPECTED);
    for round in 0..ROUNDS {
        let handle = lane.instance()?.interrupt_handle();
        let mut claim = attempt(
            lane,
            "claim a state",
            [u64::MAX, State::Interrupted as u64, 0],
        );
        claim.deadline = PATIENT;
        let asks = thread::spawn(move || {
            thread::sleep(Duration::from_micros(200 * (round as u64 % 10)));
            handle.interrupt();
        });
        let outcome = lane.begin(&claim);
        // It does nothing but take a lock.
        let asked = asks.join();
        let outcome = outcome?;
        if asked.is_err() {
            tally.note("the other thread panicked".into(), Verdict::Unverified);
        }
        tally.add(&outcome, 0, "asked by a handle");
        if !Shape::Interrupted.is(&outcome, 0) {
            lane.renew();
            continue;
        }
        // Its registers, which the lane has read, are ones, or none if the handle was first.
        match lane.instance()?.reset() {
            Ok(()) => works(lane, &mut tally, "after a claim and a reset")?,
            Err(_) => lane.renew(),
        }
    }
    lane.renew();
    let attempt = "claiming stops that a handle asks for, with a report of ones".to_owned();
    Ok(tally.row(NAME, attempt, Some(Layer::SharedWords)))
}

fn works(lane: &mut Lane<'_>, tally: &mut Tally, what: &str) -> Result<(), Error> {
    let outcome = lane.enter(lane.stage.kit.entry("answer 42"), [0; 3])?;
    if !WORKS[0].0.is(&outcome, 0) {
        let text = format!("{what}: {}", outcome.text());
        tally.note(text, Verdict::Broken);
    }
    Ok(())
}

/// The frame goes below the stack pointer where that is on the alternate stack, and otherwise to
/// that stack's end: nowhere else, whatever the stack pointer is.
fn stacks(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const EXPECTED: Expected = &[
        STOPPED[0],
        May(Shape::Killed(Signal::SEGV), "no frame fits below"),
    ];
    const ENDED: Expected = &[May(Shape::FinishedAny, "it goes on and ends")];
    let mut tally = Tally::brief(EXPECTED);
    let alternate = (0..32).map(|part| map::ALT_STACK.start + part * 0x800 + 8);
    for stack in alternate.chain(WILD_STACKS.iter().copied()) {
        let what = format!("rsp {stack:#x}");
        let outcome = stop_often(lane, "circle on that stack", [stack, 2, 0])?;
        // More than half of that stack holds three frames of AVX-512.
        let has_room = !(map::ALT_STACK.start + 1..map::ALT_STACK.start + 0x8000).contains(&stack);
        let expected = if has_room { STOPPED } else { EXPECTED };
        tally.add_expecting(expected, &outcome, 0, &what);
        if Shape::Deadline.is(&outcome, 0) {
            let outcome = release(lane)?;
            tally.add_expecting(ENDED, &outcome, 0, &what);
        } else {
            lane.renew();
        }
        works(lane, &mut tally, &what)?;
    }
    lane.renew();
    let attempt = "stopped with wild stack pointers, some times, then let go".to_owned();
    Ok(tally.row(NAME, attempt, None))
}

/// A stop and what follows leave the guest's flags alone, and no handler minds them.
fn flags(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const DIRECTION: u64 = 0x400;
    const NESTED: u64 = 0x4000;
    const ALIGNMENT: u64 = 0x4_0000;
    const IDENTITY: u64 = 0x20_0000;
    const PRIVILEGES: u64 = 0x3000;
    const KEPT: u64 = DIRECTION | NESTED | ALIGNMENT | IDENTITY;
    const EXPECTED: Expected = &[
        STOPPED[0],
        May(Shape::FinishedAny, "with the flags that it had"),
    ];
    let mut tally = Tally::brief(EXPECTED);
    let sets = [
        0,
        DIRECTION,
        NESTED,
        ALIGNMENT,
        IDENTITY,
        PRIVILEGES,
        KEPT | PRIVILEGES,
    ];
    for set in sets {
        let what = format!("flags {set:#x}");
        let outcome = stop_often(lane, "circle on that stack", [STACK + 0x8000, set | 2, 0])?;
        tally.add_expecting(STOPPED, &outcome, 0, &what);
        let outcome = match Shape::Deadline.is(&outcome, 0) {
            true => release(lane)?,
            false => {
                lane.renew();
                continue;
            }
        };
        tally.add_expecting(&EXPECTED[1..], &outcome, 0, &what);
        match outcome.finished() {
            Some(found) if found & PRIVILEGES != 0 => {
                tally.note(format!("{what}: it has {found:#x}"), Verdict::GotThrough);
            }
            Some(found) if found & KEPT != set & KEPT => {
                tally.note(format!("{what}: it has {found:#x}"), Verdict::Broken);
            }
            _ => {}
        }
        works(lane, &mut tally, &what)?;
    }
    lane.renew();
    let attempt = "stopped with flags of all kinds set, some times, then let go".to_owned();
    Ok(tally.row(NAME, attempt, None))
}

/// What the guest writes where its frames will be, and where the worker's own words are: the next
/// frame is the kernel's.
fn overwriting(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const EXPECTED: Expected = &[STOPPED[0], WORKS[0]];
    let spans = [
        map::ALT_STACK,
        map::STACK,
        map::GUEST_PAGE,
        TURN_LINE + 64..map::TURN_PAGE.end,
    ];
    let mut tally = Tally::new(EXPECTED);
    for span in spans {
        for filling in [0, 0x33, 0xff] {
            let what = format!("{filling:#x} from {:#x} on", span.start);
            let args = [span.start, span.end - span.start, filling];
            let outcome = stop_often(lane, "overwrite for ever", args)?;
            tally.add_expecting(STOPPED, &outcome, 0, &what);
            if !Shape::Deadline.is(&outcome, 0) {
                lane.renew();
                continue;
            }
            let outcome = release(lane)?;
            tally.add_expecting(WORKS, &outcome, 0, &what);
            works(lane, &mut tally, &what)?;
        }
    }
    lane.renew();
    let attempt = "overwriting frames and reports without end, stopped some times".to_owned();
    Ok(tally.row(NAME, attempt, None))
}

/// A claim of being stopped, and no obedience after it: the host waits no longer than it says.
fn lingering(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const EXPECTED: Expected = &[
        May(Shape::Deadline, "the signal stops it all the same"),
        May(Shape::Forged, "the handler wrote over what the guest had"),
    ];
    const LATE: Duration = Duration::from_secs(2);
    let mut tally = Tally::new(EXPECTED);
    for repeat in 0..8 {
        let begun = Instant::now();
        let args = [TURN_LINE, State::Interrupted as u64, 0];
        let outcome = lane.begin(&attempt(lane, "store", args))?;
        tally.add(&outcome, 0, &format!("try {repeat}"));
        if begun.elapsed() > SOON + LATE {
            tally.note(format!("only after {:?}", begun.elapsed()), Verdict::Broken);
        }
        lane.renew();
    }
    let attempt = "claiming a stop and computing on".to_owned();
    Ok(tally.row(NAME, attempt, Some(Layer::SharedWords)))
}
