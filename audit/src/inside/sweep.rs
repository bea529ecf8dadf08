//! The system call numbers from 0 to 600, by every door to the kernel: all that Linux has, and
//! more.
//!
//! Other numbers are not tried on the kernel. `zygote/tests/policy.rs` evaluates the very filter
//! for them, against another assembler's: all below 1024, x32 and negative ones, single bits,
//! edges.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use cellwall::abi::TURN_LINE;
use cellwall::{Error, Interrupt, TrapKind};
use vmctx::Layer;

use super::lane::{Attempt, PATIENT, Stage, share};
use super::outcome::{Expected, May, Outcome, Shape, Tally};
use super::props::{BUFFER, EMPTY, FILE, PASSWD};
use crate::late::is_late;
use crate::row::{Row, Verdict};

/// The numbers that are tried. The last of Linux 6.18 is below 480; x32 has some from 512 on.
const NUMBERS: RangeInclusive<u64> = 0..=600;

const SCHED_YIELD: u64 = 24;
const FUTEX: u64 = 202;
const EXIT_GROUP: u64 = 231;
const URETPROBE: u64 = 335;
const UPROBE: u64 = 336;

/// How many calls the filter leaves.
const CALLS_LEFT: usize = 3;

/// The filter kills.
pub(super) const KILLED: Expected = &[May(Shape::Forbidden, "the filter")];

const YIELDS: Expected = &[May(Shape::Finished(0), "it is left to the worker")];
const EXITS: Expected = &[May(
    Shape::ExitedAny,
    "it is left to the worker: a guest may end at any time",
)];
/// `EAGAIN`.
const WAITS: Expected = &[May(
    Shape::Finished(-11),
    "it is left to the worker, for one word: no such value is there",
)];
const WAITS_OR_KILLED: Expected = &[WAITS[0], KILLED[0]];
// No filter is asked about these two (`seccomp_uprobe_exception` in kernel/seccomp.c), and the
// kernel refuses them outside of its own trampolines (arch/x86/kernel/uprobes.c).
const URETPROBE_REFUSED: Expected = &[
    May(
        Shape::Trap(TrapKind::IllegalInstruction),
        "since Linux 6.14 the kernel asks no filter and refuses it by itself",
    ),
    May(Shape::Forbidden, "the filter of an older kernel"),
];
/// `ENXIO`, and `EPROTO`.
const UPROBE_REFUSED: Expected = &[
    May(
        Shape::Finished(-6),
        "since Linux 6.18 the kernel asks no filter and refuses it by itself",
    ),
    May(Shape::Finished(-71), "Linux 7.3 does so with another errno"),
    May(Shape::Forbidden, "the filter of an older kernel"),
];

/// What may come of a 32-bit door out of 64-bit code: it depends on CPU and kernel.
pub(super) const FROM_64_BIT: Expected = &[
    May(
        Shape::Forbidden,
        "the filter looks at the architecture first",
    ),
    May(
        Shape::Refused(TrapKind::Memory),
        "a kernel without 32-bit calls has no such gate",
    ),
    May(
        Shape::Refused(TrapKind::IllegalInstruction),
        "AMD has no sysenter in 64-bit mode",
    ),
];
/// The kernel reads the sixth argument from the stack before it asks the filter
/// (`__do_fast_syscall_32` in arch/x86/entry/syscall_32.c). If it cannot, it answers `EFAULT`
/// without a call and goes on in the vdso, which is unmapped.
const WITHOUT_STACK: Expected = &[
    May(
        Shape::TrapAfter(-14),
        "the kernel finds no sixth argument, makes no call and returns to the missing vdso",
    ),
    FROM_64_BIT[0],
    FROM_64_BIT[1],
    FROM_64_BIT[2],
];

/// Arguments that make sense for some calls each, and one set that makes none.
const ARGUMENTS: &[(&str, [u64; 6])] = &[
    ("zeros", [0; 6]),
    ("a path first", [PASSWD, BUFFER, 64, 0, 0, 0]),
    ("a descriptor first", [0, BUFFER, 64, BUFFER, 16, 0]),
    (
        "a directory and a path",
        [0xffff_ff9c, FILE, 0o102, 0o666, EMPTY, 0],
    ),
    ("an address first", [0x2_0000, 4096, 7, 0x32, u64::MAX, 0]),
    ("the state word", [TURN_LINE, 0, 0xffff, 0, 0, 0]),
];
/// Which of them are for the words of the worker.
const STATE_WORD: usize = 5;

/// One way into the kernel.
pub(super) struct Door {
    pub(super) name: &'static str,
    program: &'static str,
    /// Bits beside the number.
    bits: u64,
    /// Which of the [`ARGUMENTS`] are tried.
    sets: &'static [usize],
    expected: fn(u64, usize) -> Expected,
}

pub(super) const SYSCALL: Door = Door {
    name: "syscall",
    program: "syscall",
    bits: 0,
    sets: &[0, 1, 2, 3, 4, STATE_WORD],
    expected: by_syscall,
};

pub(super) const INT_80: Door = Door {
    name: "int 0x80",
    program: "int 0x80",
    bits: 0,
    sets: &[0, 1],
    expected: |_, _| FROM_64_BIT,
};

/// The numbers of programs with 32-bit pointers in 64-bit mode.
pub(super) const X32: Door = Door {
    name: "x32",
    program: "syscall",
    bits: 1 << 30,
    sets: &[0, 1],
    expected: |_, _| KILLED,
};

pub(super) const SYSENTER: Door = Door {
    name: "sysenter",
    program: "sysenter",
    bits: 0,
    sets: &[0, 1],
    expected: |_, _| FROM_64_BIT,
};

pub(super) const SYSENTER_BARE: Door = Door {
    name: "sysenter without a stack",
    program: "sysenter, no stack",
    bits: 0,
    sets: &[0],
    expected: |_, _| WITHOUT_STACK,
};

fn by_syscall(number: u64, set: usize) -> Expected {
    match (number, set) {
        (SCHED_YIELD, _) => YIELDS,
        (EXIT_GROUP, _) => EXITS,
        (FUTEX, STATE_WORD) => WAITS,
        (URETPROBE, _) => URETPROBE_REFUSED,
        (UPROBE, _) => UPROBE_REFUSED,
        _ => KILLED,
    }
}

impl Door {
    /// All of [`NUMBERS`], all arguments.
    pub(super) fn run(&self, stage: &Stage) -> Result<Vec<Row>, Error> {
        let sets = self.sets;
        let numbers: Vec<u64> = NUMBERS.collect();
        let place = stage.kit.place(self.program);
        let outcomes = share(stage, numbers.len() * sets.len(), |lane, index| {
            let number = numbers[index / sets.len()];
            let (_, args) = ARGUMENTS[sets[index % sets.len()]];
            let mut block = vec![number | self.bits];
            block.extend(args);
            lane.run(&Attempt {
                entry: place.entry,
                args: [0; 3],
                block: &block,
                deadline: PATIENT,
            })
        })?;
        let mut rows = Vec::new();
        for (number, outcomes) in numbers.iter().zip(outcomes.chunks(sets.len())) {
            self.count(*number, outcomes, place.door(), &mut rows);
        }
        let mut rows: Vec<Row> = rows.into_iter().map(|same| self.row(same)).collect();
        rows.push(self.completed(&numbers, &outcomes, place.door()));
        Ok(rows)
    }

    /// Puts a number to those of which the same came.
    fn count(&self, number: u64, outcomes: &[Outcome], door: u64, all: &mut Vec<Same>) {
        let sets = self.sets;
        let may = |set: usize| (self.expected)(number, set);
        let expected = match number {
            FUTEX if sets.iter().any(|set| !std::ptr::eq(may(*set), may(0))) => WAITS_OR_KILLED,
            _ => may(0),
        };
        let mut tally = Tally::new(expected);
        for (set, outcome) in sets.iter().zip(outcomes) {
            let what = format!("{number} with {}", ARGUMENTS[*set].0);
            tally.add_expecting(may(*set), outcome, door, &what);
        }
        let row = tally.row(self.name, String::new(), Some(Layer::SystemCalls));
        let key = |row: &Row| (row.expected.clone(), row.outcome.clone());
        match all.iter_mut().find(|same| key(&same.row) == key(&row)) {
            Some(same) => same.numbers.push(number),
            None => all.push(Same {
                numbers: vec![number],
                row,
            }),
        }
    }

    fn row(&self, same: Same) -> Row {
        let names: Vec<&str> = self.sets.iter().map(|set| ARGUMENTS[*set].0).collect();
        let attempt = format!(
            "{} by {}, each with {} sets of arguments: {}",
            ranges(&same.numbers),
            self.name,
            names.len(),
            names.join(", ")
        );
        Row {
            attempt,
            ..same.row
        }
    }

    /// How many distinct calls the kernel made by this door.
    fn completed(&self, numbers: &[u64], outcomes: &[Outcome], door: u64) -> Row {
        let mut made = BTreeSet::new();
        let mut refused = BTreeSet::new();
        for (index, outcome) in outcomes.iter().enumerate() {
            let number = numbers[index / self.sets.len()];
            let ended = matches!(outcome.result, Ok(Interrupt::Died(_))) && number == EXIT_GROUP;
            let uprobe = number == UPROBE && self.bits == 0;
            let mut answers = UPROBE_REFUSED.iter().take(2);
            if uprobe && answers.any(|May(answer, _)| answer.is(outcome, door)) {
                refused.insert(number);
            } else if ended || outcome.finished().is_some() {
                made.insert(number);
            }
        }
        let left: BTreeSet<u64> = match self.bits {
            0 if self.program == "syscall" => [SCHED_YIELD, FUTEX, EXIT_GROUP].into(),
            _ => BTreeSet::new(),
        };
        let mut outcome = format!("{} calls: {made:?}", made.len());
        if !refused.is_empty() {
            outcome += "; beside them 336, which no filter sees and the kernel refuses";
        }
        let is_late = |outcome: &Outcome| outcome.result.as_ref().is_err_and(is_late);
        let is_untried = outcomes.iter().any(is_late);
        let holds = made == left && made.len() <= CALLS_LEFT;
        Row {
            group: self.name,
            attempt: format!(
                "distinct calls, of numbers {} to {}, that the kernel made by {}",
                NUMBERS.start(),
                NUMBERS.end(),
                self.name
            ),
            expected: format!("{} calls: {left:?}", left.len()),
            outcome,
            layer: Layer::SystemCalls.name().to_owned(),
            verdict: match holds {
                true => Verdict::Holds,
                // A number that was not tried is not known to be made.
                false if is_untried && made.is_subset(&left) => Verdict::Unverified,
                false => Verdict::GotThrough,
            },
        }
    }
}

/// Numbers of which the same came.
struct Same {
    numbers: Vec<u64>,
    row: Row,
}

/// Ascending numbers in few words.
fn ranges(numbers: &[u64]) -> String {
    let mut parts: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match parts.last_mut() {
            Some(part) if part.1 + 1 == *number => part.1 = *number,
            _ => parts.push((*number, *number)),
        }
    }
    let one = |(first, last): &(u64, u64)| match first == last {
        true => format!("{first}"),
        false => format!("{first} to {last}"),
    };
    let texts: Vec<String> = parts.iter().map(one).collect();
    let noun = if numbers.len() == 1 {
        "number"
    } else {
        "numbers"
    };
    format!("{noun} {}", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{
        ARGUMENTS, Door, Expected, INT_80, NUMBERS, STATE_WORD, SYSCALL, SYSENTER, SYSENTER_BARE,
        Shape, X32, ranges,
    };

    const DOORS: [Door; 5] = [SYSCALL, INT_80, X32, SYSENTER, SYSENTER_BARE];

    fn may_finish(expected: Expected) -> bool {
        let runs = |shape| matches!(shape, Shape::Finished(_) | Shape::ExitedAny);
        expected.iter().any(|may| runs(may.0))
    }

    #[test]
    fn four_numbers_may_come_back_and_only_by_syscall() {
        for door in DOORS {
            let back: Vec<u64> = NUMBERS
                .filter(|number| {
                    let sets = door.sets;
                    sets.iter()
                        .any(|set| may_finish((door.expected)(*number, *set)))
                })
                .collect();
            let wanted: &[u64] = match door.name {
                "syscall" => &[24, 202, 231, 336],
                _ => &[],
            };
            assert_eq!(back, wanted, "{}", door.name);
        }
    }

    #[test]
    fn every_door_is_tried_with_zeros_and_one_with_everything() {
        for door in DOORS {
            assert_eq!(door.sets[0], 0, "{}", door.name);
        }
        let all: Vec<usize> = (0..ARGUMENTS.len()).collect();
        assert_eq!(DOORS[0].sets, all);
        assert_eq!(ARGUMENTS[STATE_WORD].0, "the state word");
    }

    #[test]
    fn numbers_in_few_words() {
        assert_eq!(ranges(&[1, 2, 3, 5, 7, 8]), "numbers 1 to 3, 5, 7 to 8");
        assert_eq!(ranges(&[202]), "number 202");
    }
}
