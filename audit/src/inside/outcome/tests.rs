//! Expectations judge outcomes, not the other way round.

use cellwall::{Blame, Death, Error, Interrupt, Signal, Stage, Trap, TrapKind};

use super::{Expected, May, Outcome, Shape, Tally, judge, worse};
use crate::row::Verdict;

const KILLED: Expected = &[May(Shape::Forbidden, "the filter")];

fn outcome(interrupt: Interrupt) -> Outcome {
    Outcome {
        result: Ok(interrupt),
        rax: None,
    }
}

fn trap(kind: TrapKind) -> Outcome {
    outcome(Interrupt::Trap(Trap::new(kind)))
}

#[test]
fn a_call_that_returns_got_through() {
    let finished = outcome(Interrupt::Finished(0));
    assert_eq!(judge(KILLED, &finished, 0), Verdict::GotThrough);
    assert_eq!(
        judge(KILLED, &trap(TrapKind::ForbiddenCall), 0),
        Verdict::Holds
    );
}

#[test]
fn what_was_not_tried_is_not_known() {
    let late = |stage| Outcome {
        result: Err(Error {
            stage,
            blame: Blame::Timeout {
                what: "start",
                milliseconds: 1,
            },
        }),
        rax: None,
    };
    let verdict = |stage| judge(KILLED, &late(stage), 0);
    assert_eq!(verdict(Stage::Start), Verdict::Unverified);
    assert_eq!(verdict(Stage::Run), Verdict::Broken);
}

#[test]
fn stopped_by_something_else_is_not_as_expected() {
    for other in [
        trap(TrapKind::Memory),
        outcome(Interrupt::Deadline),
        outcome(Interrupt::Died(Death::Killed(Signal::KILL))),
    ] {
        assert_eq!(judge(KILLED, &other, 0), Verdict::Broken);
    }
}

#[test]
fn a_refusal_is_at_the_instruction() {
    let refused = Shape::Refused(TrapKind::Memory);
    let mut there = Trap::new(TrapKind::Memory);
    there.pc = Some(0x1000);
    let there = outcome(Interrupt::Trap(there));
    assert!(refused.is(&there, 0x1000));
    assert!(!refused.is(&there, 0x1002));
    assert!(!refused.is(&trap(TrapKind::Memory), 0x1000));
}

#[test]
fn an_answer_is_compared_as_the_kernel_gives_it() {
    let mut faulted = trap(TrapKind::Memory);
    faulted.rax = Some(0xffff_fff2);
    assert!(Shape::TrapAfter(-14).is(&faulted, 0));
    assert!(!Shape::TrapAfter(-1).is(&faulted, 0));
    let refused = outcome(Interrupt::Finished((-6i64).cast_unsigned()));
    assert!(Shape::Finished(-6).is(&refused, 0));
}

#[test]
fn a_row_is_as_bad_as_its_worst_attempt() {
    let mut tally = Tally::new(KILLED);
    tally.add(&trap(TrapKind::ForbiddenCall), 0, "first");
    tally.add(&trap(TrapKind::ForbiddenCall), 0, "second");
    tally.add(&outcome(Interrupt::Finished(3)), 0, "third");
    let row = tally.row("test", "three calls".into(), None);
    assert_eq!(row.verdict, Verdict::GotThrough);
    assert_eq!(row.layer, "system-calls");
    assert!(
        row.outcome.contains("forbidden system call (2 of 3)"),
        "{}",
        row.outcome
    );
    assert!(
        row.outcome.contains("third: finished with 3"),
        "{}",
        row.outcome
    );
    assert_eq!(
        worse(Verdict::Holds, Verdict::Unverified),
        Verdict::Unverified
    );
}
