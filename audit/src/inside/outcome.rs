//! What may come of an attempt, and what did.

use cellwall::{Blame, Death, Error, Interrupt, Signal, Trap, TrapKind};
use vmctx::Layer;

use crate::late::is_late;
use crate::row::{Row, Verdict};

/// One thing that may come of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The filter killed the worker.
    Forbidden,
    /// A trap of this kind, wherever.
    Trap(TrapKind),
    /// A trap of this kind at the very instruction that was tried: it did nothing.
    Refused(TrapKind),
    /// A memory trap after the kernel put this errno into `rax`.
    TrapAfter(i64),
    /// The guest went on and finished with this value.
    Finished(i64),
    /// The guest went on and finished, with any value.
    FinishedAny,
    /// The guest made a hostcall.
    Hostcall,
    /// The guest ended its worker with this status.
    Exited(i32),
    /// The guest ended its worker with any status.
    ExitedAny,
    /// The kernel killed the worker with this signal.
    Killed(Signal),
    /// The host stopped the guest at its deadline.
    Deadline,
    /// It did not stop then, and the host killed the worker.
    Unresponsive,
    /// The host stopped the guest since a handle asked for it.
    Interrupted,
    /// The guest said that its gas is used up, or the host found it.
    OutOfGas,
    /// The host saw a forged word and killed the worker.
    Forged,
}

/// One thing that may come of an attempt, and why it may.
#[derive(Clone, Copy, Debug)]
pub(super) struct May(pub(super) Shape, pub(super) &'static str);

/// Everything that may come of an attempt.
pub(super) type Expected = &'static [May];

/// What came of one attempt.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// What `Instance::run` returned.
    pub(super) result: Result<Interrupt, Error>,
    /// `rax` at a trap.
    pub(super) rax: Option<u64>,
}

impl Outcome {
    /// Whether the instance can run no more. A forbidden call may be only reported: then its worker
    /// lives.
    pub(super) fn is_over(&self, is_alive: bool) -> bool {
        match &self.result {
            Ok(Interrupt::Finished(_) | Interrupt::Hostcall(_)) => false,
            Ok(Interrupt::Trap(trap)) => trap.kind == TrapKind::ForbiddenCall && !is_alive,
            Ok(_) | Err(_) => true,
        }
    }

    /// The value that the guest finished with.
    pub(super) fn finished(&self) -> Option<u64> {
        match self.result {
            Ok(Interrupt::Finished(value)) => Some(value),
            _ => None,
        }
    }

    fn trap(&self) -> Option<Trap> {
        match self.result {
            Ok(Interrupt::Trap(trap)) => Some(trap),
            _ => None,
        }
    }

    /// In words, without what differs from run to run.
    pub(super) fn text(&self) -> String {
        match &self.result {
            Ok(Interrupt::Finished(value)) => match i64::try_from(*value) {
                Ok(value) => format!("finished with {value}"),
                Err(_) => format!("finished with {}", value.cast_signed()),
            },
            Ok(Interrupt::Hostcall(_)) => "a hostcall".into(),
            Ok(Interrupt::Trap(trap)) => Trap::new(trap.kind).to_string(),
            Ok(Interrupt::Deadline) => "stopped at the deadline".into(),
            Ok(other) => other.to_string(),
            Err(error) if is_forged(error) => "a forged word; killed".into(),
            Err(error) => format!("the host erred: {error}"),
        }
    }
}

fn is_forged(error: &Error) -> bool {
    matches!(error.blame, Blame::Forged(_))
}

impl Shape {
    /// Whether this is what came of it, tried by the instruction at `place`.
    pub(super) fn is(self, outcome: &Outcome, place: u64) -> bool {
        let trapped = outcome.trap();
        let trap_is = |kind| trapped.is_some_and(|trap| trap.kind == kind);
        let died = match outcome.result {
            Ok(Interrupt::Died(death)) => Some(death),
            _ => None,
        };
        match self {
            Self::Forbidden => trap_is(TrapKind::ForbiddenCall),
            Self::Trap(kind) => trap_is(kind),
            Self::Refused(kind) => {
                trap_is(kind) && trapped.is_some_and(|trap| trap.pc == Some(place))
            }
            Self::TrapAfter(answer) => {
                trap_is(TrapKind::Memory) && outcome.rax.map(low_signed) == Some(answer)
            }
            Self::Finished(value) => outcome.finished() == Some(value.cast_unsigned()),
            Self::FinishedAny => outcome.finished().is_some(),
            Self::Hostcall => matches!(outcome.result, Ok(Interrupt::Hostcall(_))),
            Self::Exited(status) => died == Some(Death::Exited(status)),
            Self::ExitedAny => matches!(died, Some(Death::Exited(_))),
            Self::Killed(signal) => died == Some(Death::Killed(signal)),
            Self::Deadline => matches!(outcome.result, Ok(Interrupt::Deadline)),
            Self::Unresponsive => died == Some(Death::Unresponsive),
            Self::Interrupted => matches!(outcome.result, Ok(Interrupt::Interrupted)),
            Self::OutOfGas => matches!(outcome.result, Ok(Interrupt::OutOfGas)),
            Self::Forged => outcome.result.as_ref().is_err_and(is_forged),
        }
    }

    /// The layer that stopped it, if it was one.
    fn layer(self) -> Option<Layer> {
        match self {
            Self::Forbidden => Some(Layer::SystemCalls),
            Self::Forged => Some(Layer::SharedWords),
            _ => None,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Forbidden => Trap::new(TrapKind::ForbiddenCall).to_string(),
            Self::Trap(kind) => Trap::new(kind).to_string(),
            Self::Refused(kind) => format!("{} at the instruction", Trap::new(kind)),
            Self::TrapAfter(answer) => format!("memory trap with {answer} in rax"),
            Self::Finished(value) => format!("finished with {value}"),
            Self::FinishedAny => "finished".into(),
            Self::Hostcall => "a hostcall".into(),
            Self::Exited(status) => format!("exited with status {status}"),
            Self::ExitedAny => "exited".into(),
            Self::Killed(signal) => format!("killed by {signal}"),
            Self::Deadline => "stopped at the deadline".into(),
            Self::Unresponsive => Death::Unresponsive.to_string(),
            Self::Interrupted => Interrupt::Interrupted.to_string(),
            Self::OutOfGas => Interrupt::OutOfGas.to_string(),
            Self::Forged => "a forged word; killed".into(),
        }
    }
}

/// The lower half, as a signed number: what a 32-bit system call answers.
fn low_signed(value: u64) -> i64 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    i32::from_le_bytes([a, b, c, d]).into()
}

/// What follows from an outcome.
pub(super) fn judge(expected: Expected, outcome: &Outcome, place: u64) -> Verdict {
    if expected.iter().any(|may| may.0.is(outcome, place)) {
        return Verdict::Holds;
    }
    match &outcome.result {
        // The guest goes on after what must have stopped it.
        Ok(Interrupt::Finished(_)) => Verdict::GotThrough,
        Err(error) if is_late(error) => Verdict::Unverified,
        _ => Verdict::Broken,
    }
}

/// An expectation in words.
pub(super) fn expected_text(expected: Expected) -> String {
    let one = |may: &May| {
        if may.1.is_empty() {
            may.0.text()
        } else {
            format!("{} ({})", may.0.text(), may.1)
        }
    };
    let all: Vec<String> = expected.iter().map(one).collect();
    all.join("; or ")
}

/// The worse of two verdicts: the order in which a reader must see them.
pub(super) fn worse(a: Verdict, b: Verdict) -> Verdict {
    if b > a { b } else { a }
}

/// Collects the outcomes of the attempts that make one row.
pub(super) struct Tally {
    expected: Expected,
    /// Each different text, with how often it came and the layer that it stands for.
    texts: Vec<(String, usize, Option<Layer>)>,
    verdict: Verdict,
    /// Whether values and statuses are left out.
    is_brief: bool,
}

impl Tally {
    pub(super) fn new(expected: Expected) -> Self {
        Self {
            expected,
            texts: Vec::new(),
            verdict: Verdict::Holds,
            is_brief: false,
        }
    }

    /// One whose row does not say with which value or status a guest finished, since that is
    /// whatever was in a register.
    pub(super) fn brief(expected: Expected) -> Self {
        Self {
            is_brief: true,
            ..Self::new(expected)
        }
    }

    /// Counts one attempt. An outcome that must not be keeps its own text, with `what` it was.
    pub(super) fn add(&mut self, outcome: &Outcome, place: u64, what: &str) {
        self.add_expecting(self.expected, outcome, place, what);
    }

    /// The same, for an attempt of which only a part of what the row expects may come.
    pub(super) fn add_expecting(
        &mut self,
        expected: Expected,
        outcome: &Outcome,
        place: u64,
        what: &str,
    ) {
        let verdict = judge(expected, outcome, place);
        let may = expected.iter().find(|may| may.0.is(outcome, place));
        let layer = may.and_then(|may| may.0.layer());
        let text = match (verdict, may) {
            (Verdict::Holds, Some(may)) if self.is_brief => may.0.text(),
            (Verdict::Holds, _) => outcome.text(),
            _ => format!("{what}: {}{}", outcome.text(), place_of(outcome)),
        };
        self.count(text, layer, verdict);
    }

    /// Counts a finding that is no run of a guest.
    pub(super) fn note(&mut self, text: String, verdict: Verdict) {
        self.count(text, None, verdict);
    }

    fn count(&mut self, text: String, layer: Option<Layer>, verdict: Verdict) {
        self.verdict = worse(self.verdict, verdict);
        match self.texts.iter_mut().find(|known| known.0 == text) {
            Some(known) => known.1 += 1,
            None => self.texts.push((text, 1, layer)),
        }
    }

    /// The row. `layer` is named where no outcome names one of its own.
    pub(super) fn row(self, group: &'static str, attempt: String, layer: Option<Layer>) -> Row {
        let total: usize = self.texts.iter().map(|text| text.1).sum();
        let parts: Vec<String> = self
            .texts
            .iter()
            .map(|(text, count, _)| match total {
                0 | 1 => text.clone(),
                _ => format!("{text} ({count} of {total})"),
            })
            .collect();
        let layer = self.texts.iter().find_map(|text| text.2).or(layer);
        Row {
            group,
            attempt,
            expected: expected_text(self.expected),
            outcome: parts.join("; "),
            layer: layer.map_or("", Layer::name).to_owned(),
            verdict: self.verdict,
        }
    }
}

/// Where it trapped, if it did.
fn place_of(outcome: &Outcome) -> String {
    let pc = outcome.trap().and_then(|trap| trap.pc);
    pc.map_or_else(String::new, |pc| format!(" at pc {pc:#x}"))
}

#[cfg(test)]
mod tests;
