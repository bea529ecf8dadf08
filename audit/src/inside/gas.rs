//! Gas is the guest's own count: what a guest that lies about it gets by that.

use std::time::Duration;

use cellwall::{Error, Interrupt};
use vmctx::{Layer, State};

use super::guests::stops::RELEASE;
use super::interruptions::{release, stop_often};
use super::lane::{Attempt, Lane, PATIENT, Stage, share};
use super::outcome::{Expected, May, Shape, Tally};
use crate::row::{Row, Verdict};

pub(super) const NAME: &str = "gas";

const INTERVAL: Duration = Duration::from_millis(1);

const OUT: Expected = &[May(Shape::OutOfGas, "the counter is below zero")];
const STOPPED: Expected = &[May(
    Shape::Deadline,
    "it gave itself gas, which no host can forbid: the deadline holds",
)];
const EITHER: Expected = &[OUT[0], STOPPED[0]];
const WORKS: Expected = &[May(Shape::Finished(42), "it goes on and ends")];

/// What the counter says by turns, and what comes of it where the host watches.
const COUNTS: &[([i64; 2], Expected)] = &[
    ([-1, -1], OUT),
    ([i64::MIN, i64::MIN], OUT),
    ([i64::MIN, -1], OUT),
    ([0, 0], STOPPED),
    ([1, 1], STOPPED),
    ([i64::MAX, i64::MAX], STOPPED),
    ([i64::MAX, 0], STOPPED),
    ([-1, i64::MAX], EITHER),
    ([i64::MIN, i64::MAX], EITHER),
];

/// Makes one row.
type Part = fn(&mut Lane<'_>) -> Result<Row, Error>;

pub(super) fn run(stage: &Stage) -> Result<Vec<Row>, Error> {
    let parts: [Part; 4] = [watched, unwatched, refuelled, claims];
    share(stage, parts.len(), |lane, index| parts[index](lane))
}

/// The host looks each millisecond, at a counter that the guest sets all the time.
fn watched(lane: &mut Lane<'_>) -> Result<Row, Error> {
    let mut tally = Tally::new(EITHER);
    for (counts, expected) in COUNTS {
        let what = format!("{counts:?}");
        let instance = lane.instance()?;
        instance.set_gas(1000);
        instance.watch_gas(INTERVAL);
        let args = [counts[0].cast_unsigned(), counts[1].cast_unsigned(), 0];
        let outcome = stop_often(lane, "set gas for ever", args)?;
        tally.add_expecting(expected, &outcome, 0, &what);
        if !EITHER.iter().any(|may| may.0.is(&outcome, 0)) {
            lane.renew();
            continue;
        }
        let gas = lane.instance()?.gas();
        if !counts.contains(&gas) {
            tally.note(format!("{what}: the host reads {gas}"), Verdict::Broken);
        }
        // Without gas it is not entered, and the host decides whether it has some.
        if gas < 0 {
            let outcome = lane.stop_again(PATIENT)?;
            tally.add_expecting(OUT, &outcome, 0, &format!("{what}, not entered"));
        }
        lane.instance()?.watch_gas(None);
        let outcome = release(lane)?;
        tally.add_expecting(WORKS, &outcome, 0, &what);
    }
    lane.renew();
    let attempt = "setting the counter without end, to either end of its range".to_owned();
    Ok(tally.row(NAME, attempt, None))
}

/// Generated code that never counts, and a host that leaves looking to the guest.
fn unwatched(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const UNCOUNTED: Expected = &[May(
        Shape::Deadline,
        "who never counts has gas for ever: the deadline holds",
    )];
    let mut tally = Tally::new(UNCOUNTED);
    for (gas, interval) in [(5, Some(INTERVAL)), (-5, None), (i64::MIN, None)] {
        let instance = lane.instance()?;
        instance.set_gas(gas);
        instance.watch_gas(interval);
        let outcome = stop_often(
            lane,
            "circle on that stack",
            [super::kit::STACK + 0x100, 2, 0],
        )?;
        tally.add(&outcome, 0, &format!("gas {gas}"));
        lane.renew();
    }
    Ok(tally.row(NAME, "never looking at the counter".into(), None))
}

/// A guest that has been stopped without gas, and takes what it was given at once.
fn refuelled(lane: &mut Lane<'_>) -> Result<Row, Error> {
    let mut tally = Tally::new(OUT);
    let instance = lane.instance()?;
    instance.set_gas(i64::MAX);
    instance.watch_gas(INTERVAL);
    instance.write(RELEASE, &[0; 8])?;
    let none = (-1_i64).cast_unsigned();
    let mut outcome = lane.begin(&Attempt {
        entry: lane.stage.kit.entry("set gas for ever"),
        args: [none, none, 0],
        block: &[],
        deadline: PATIENT,
    })?;
    for round in 0..20 {
        tally.add(&outcome, 0, &format!("round {round}"));
        if !OUT[0].0.is(&outcome, 0) {
            break;
        }
        lane.instance()?.set_gas(i64::MAX - round);
        outcome = lane.stop_again(PATIENT)?;
    }
    lane.renew();
    let attempt = "taking back the gas that the host gives".to_owned();
    Ok(tally.row(NAME, attempt, None))
}

/// A guest that says that it has no gas when it has, and the other way round, some times in a row.
fn claims(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const TIMES: u64 = 50;
    const EXPECTED: Expected = &[May(Shape::OutOfGas, "a guest may say so"), WORKS[0]];
    let mut tally = Tally::new(EXPECTED);
    for gas in [i64::MAX, 0, -1] {
        lane.instance()?.set_gas(gas);
        let mut outcome = lane.begin(&Attempt {
            entry: lane.stage.kit.entry("claim a state"),
            args: [TIMES, State::OutOfGas as u64, 0],
            block: &[],
            deadline: PATIENT,
        })?;
        for time in 0..TIMES {
            tally.add_expecting(&EXPECTED[..1], &outcome, 0, &format!("time {time}"));
            if !matches!(outcome.result, Ok(Interrupt::OutOfGas)) {
                break;
            }
            outcome = lane.stop_again(PATIENT)?;
        }
        tally.add_expecting(WORKS, &outcome, 0, "in the end");
        if lane.instance()?.gas() != gas {
            tally.note("the claims changed the counter".into(), Verdict::Broken);
        }
    }
    lane.renew();
    let attempt = format!("claiming {TIMES} times that the gas is used up");
    Ok(tally.row(NAME, attempt, Some(Layer::SharedWords)))
}
