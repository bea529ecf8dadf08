//! Taking time, memory and the host's attention.

use std::fs;
use std::time::{Duration, Instant};

use cellwall::abi::TURN_LINE;
use cellwall::{Access, Error, Interrupt, TrapKind};

use vmctx::State;

use super::kit::{PLENTY, PLENTY_BYTES, STACK};
use super::lane::{Attempt, Lane, PATIENT, SHORT, Stage, share};
use super::outcome::{Expected, May, Outcome, Shape, Tally};
use crate::row::{Row, Verdict};

pub(super) const NAME: &str = "resources";

/// How late a deadline may be: time slices of others, and a kill where the guest does not stop.
const LATE: Duration = Duration::from_secs(2);

/// What a worker has in memory beside its module's regions, in KiB: image, stacks, shared pages,
/// code. Page tables are not counted by the kernel.
const OWN_KIB: u64 = 2048;

const FLOOD: u64 = 5000;
const ENTRIES: usize = 1000;

/// Makes one row.
type Part = fn(&mut Lane<'_>) -> Result<Row, Error>;

const DEADLINE: Expected = &[May(Shape::Deadline, "the host kills it, in time")];

pub(super) fn run(stage: &Stage) -> Result<Vec<Row>, Error> {
    let parts: [Part; 11] = [
        endless,
        waiting,
        waking,
        waking_and_lying,
        going_on,
        split_locks,
        recursion,
        memory_bomb,
        hostcall_flood,
        abandoned_hostcalls,
        trap_flood,
    ];
    share(stage, parts.len(), |lane, index| parts[index](lane))
}

fn attempt(lane: &Lane<'_>, program: &str, args: [u64; 3], deadline: Duration) -> Attempt<'static> {
    Attempt {
        entry: lane.stage.kit.entry(program),
        args,
        block: &[],
        deadline,
    }
}

/// Runs what does not end, and looks at the clock.
fn until_deadline(
    lane: &mut Lane<'_>,
    program: &str,
    expected: Expected,
    what: &str,
) -> Result<Row, Error> {
    let mut tally = Tally::new(expected);
    let attempt = attempt(lane, program, [0; 3], SHORT);
    // A start of a worker is no part of it.
    lane.instance()?;
    let begun = Instant::now();
    let outcome = lane.run(&attempt)?;
    tally.add(&outcome, 0, what);
    if begun.elapsed() > SHORT + LATE {
        let text = format!("only after {:?}", begun.elapsed());
        tally.note(text, Verdict::Broken);
    }
    Ok(tally.row(NAME, what.to_owned(), None))
}

fn endless(lane: &mut Lane<'_>) -> Result<Row, Error> {
    until_deadline(lane, "spin", DEADLINE, "an endless loop")
}

/// `futex` for the value that is there: the call that is left, kept for ever.
fn waiting(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const EXPECTED: Expected = &[
        DEADLINE[0],
        May(
            Shape::Finished(-11),
            "the host went to sleep first: the value changed",
        ),
        May(Shape::Finished(0), "it was woken"),
    ];
    until_deadline(lane, "futex wait", EXPECTED, "sleeping at the state word")
}

/// The other call that is left, as often as it goes: the host wakes for nothing each time.
fn waking(lane: &mut Lane<'_>) -> Result<Row, Error> {
    until_deadline(
        lane,
        "wake for ever",
        DEADLINE,
        "waking the host without end",
    )
}

fn waking_and_lying(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const EXPECTED: Expected = &[
        DEADLINE[0],
        May(Shape::Forged, "it raced with the host's own exchange"),
    ];
    let what = "waking the host without end, and denying that it slept";
    until_deadline(lane, "wake and take back", EXPECTED, what)
}

/// A guest that says that it finished and computes on: no deadline runs between two calls, so that
/// the next one finds out, or the end of the instance.
fn going_on(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const EXPECTED: Expected = &[
        May(Shape::FinishedAny, "a guest may say so"),
        May(Shape::Deadline, "it does not obey the next order"),
    ];
    let mut tally = Tally::brief(EXPECTED);
    let lie = [TURN_LINE, State::Finished as u64, 0];
    let outcome = lane.run(&attempt(lane, "store", lie, PATIENT))?;
    tally.add(&outcome, 0, "the lie");
    let outcome = lane.run(&attempt(lane, "return", [0; 3], SHORT))?;
    if !Shape::Deadline.is(&outcome, 0) {
        tally.note(format!("then {}", outcome.text()), Verdict::Broken);
    }
    tally.add(&outcome, 0, "the next call");
    Ok(tally.row(
        NAME,
        "computing on after saying that it finished".into(),
        None,
    ))
}

/// Locked accesses over two cache lines stop the memory of the whole machine; kernels that detect
/// them slow the culprit down or end it (`split_lock_detect` in kernel-parameters.txt).
fn split_locks(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const EXPECTED: Expected = &[
        DEADLINE[0],
        May(Shape::Trap(TrapKind::Bus), "split_lock_detect=fatal"),
    ];
    until_deadline(
        lane,
        "split locks",
        EXPECTED,
        "an endless loop of split locks",
    )
}

fn recursion(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const EXPECTED: Expected = &[May(
        Shape::Trap(TrapKind::Memory),
        "the page below the stack is free",
    )];
    let mut tally = Tally::new(EXPECTED);
    let outcome = lane.run(&attempt(lane, "recurse", [0; 3], PATIENT))?;
    tally.add(&outcome, 0, "recursion");
    if let Ok(Interrupt::Trap(trap)) = outcome.result
        && trap.address != Some(STACK - 8)
    {
        let text = format!("at {:x?}", trap.address);
        tally.note(text, Verdict::Broken);
    }
    Ok(tally.row(NAME, "recursion without end".into(), None))
}

/// Touches all that there is, and then one byte more.
fn memory_bomb(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const EXPECTED: Expected = &[
        May(Shape::Hostcall, "it has what its module says"),
        May(Shape::Trap(TrapKind::Memory), "and no byte more"),
    ];
    let mut tally = Tally::new(EXPECTED);
    let args = [PLENTY, PLENTY + PLENTY_BYTES, 0];
    let outcome = lane.run(&attempt(lane, "touch", args, PATIENT))?;
    tally.add(&outcome, 0, "all of its memory");
    let instance = lane.instance()?;
    let allowed = instance.module().memory_bytes() / 1024 + OWN_KIB;
    let path = format!("/proc/{}/status", instance.process_id());
    let resident = resident_kib(&fs::read_to_string(path).unwrap_or_default());
    match resident {
        Some(kib) if kib <= allowed && kib + UNCOUNTED_KIB >= PLENTY_BYTES / 1024 => {}
        Some(kib) => tally.note(format!("{kib} KiB resident of {allowed}"), Verdict::Broken),
        None => tally.note("no resident size in /proc".into(), Verdict::Unverified),
    }
    if Shape::Hostcall.is(&outcome, 0) {
        let outcome = lane.answer(0, PATIENT)?;
        tally.add(&outcome, 0, "one byte more");
    }
    // The memory is given back at once.
    lane.renew();
    Ok(tally.row(NAME, "touching all memory, and more".into(), None))
}

/// What a thread may have touched that is not counted yet: before Linux 6.2 each counts 64 pages by
/// itself (mm/memory.c, `TASK_RSS_EVENTS_THRESH`).
const UNCOUNTED_KIB: u64 = 256;

/// `VmRSS` of a status file.
fn resident_kib(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

fn hostcall_flood(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const EXPECTED: Expected = &[
        May(Shape::Hostcall, "each is the host's to answer"),
        May(Shape::FinishedAny, "after the last"),
    ];
    let mut tally = Tally::new(EXPECTED);
    let mut outcome = lane.run(&attempt(lane, "flood", [FLOOD, 0, 0], PATIENT))?;
    let mut made = 0;
    while made < FLOOD && number(&outcome) == Some(FLOOD - made) {
        made += 1;
        tally.add(&outcome, 0, "a hostcall");
        outcome = lane.answer(0, PATIENT)?;
    }
    tally.add(&outcome, 0, "the end");
    if made != FLOOD {
        tally.note(format!("{made} hostcalls of {FLOOD}"), Verdict::Broken);
    }
    Ok(tally.row(NAME, "a flood of hostcalls".into(), None))
}

fn number(outcome: &Outcome) -> Option<u64> {
    match outcome.result {
        Ok(Interrupt::Hostcall(call)) => Some(call.args[0]),
        _ => None,
    }
}

/// Hostcalls that nobody answers take nothing: each entry begins anew.
fn abandoned_hostcalls(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const EXPECTED: Expected = &[May(Shape::Hostcall, "the host goes on as it likes")];
    let mut tally = Tally::new(EXPECTED);
    for _ in 0..ENTRIES {
        let outcome = lane.run(&attempt(lane, "flood", [1, 0, 0], PATIENT))?;
        tally.add(&outcome, 0, "a hostcall");
    }
    Ok(tally.row(NAME, "hostcalls without an answer".into(), None))
}

fn trap_flood(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const EXPECTED: Expected = &[May(
        Shape::Trap(TrapKind::Memory),
        "each is told, and takes no stack from the next",
    )];
    let mut tally = Tally::new(EXPECTED);
    for index in 0..ENTRIES as u64 {
        let outcome = lane.run(&attempt(lane, "read", [index * 8, 0, 0], PATIENT))?;
        tally.add(&outcome, 0, "a trap");
        match outcome.result {
            Ok(Interrupt::Trap(trap))
                if trap.address == Some(index * 8) && trap.access == Some(Access::Read) => {}
            _ => tally.note(format!("no trap at {:#x}", index * 8), Verdict::Broken),
        }
    }
    Ok(tally.row(NAME, "a flood of traps".into(), None))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_resident_size_is_found() {
        let status = "VmHWM:\t    90 kB\nVmRSS:\t     32 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(super::resident_kib(status), Some(32));
        assert_eq!(super::resident_kib(""), None);
    }
}
