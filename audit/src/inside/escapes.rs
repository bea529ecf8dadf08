//! Escapes by system calls, each with a name: what a guest would do that wants out.

mod doors;
mod files;
mod futexes;
mod memory;
mod processes;
mod system;

use cellwall::Error;

use super::lane::{Attempt, PATIENT, Stage, share};
use super::outcome::{Expected, Tally};
use super::props::Facts;
use crate::row::Row;

pub(super) const NAME: &str = "escapes";

/// One escape: all of its calls are tried, each in a worker that lives.
struct Escape {
    name: &'static str,
    /// The program that makes the call.
    program: &'static str,
    calls: fn(&Facts) -> Vec<Call>,
    expected: Expected,
}

/// One call.
struct Call {
    name: &'static str,
    /// The number, six arguments, and flags for the programs that set some.
    block: [u64; 8],
}

/// A call with as many arguments as matter.
fn call(name: &'static str, number: u64, args: &[u64]) -> Call {
    let mut block = [0; 8];
    block[0] = number;
    block[1..=args.len()].copy_from_slice(args);
    Call { name, block }
}

/// How often a bomb makes its call.
const BOMB: u64 = 100;

fn all() -> Vec<&'static Escape> {
    [
        files::ESCAPES,
        memory::ESCAPES,
        processes::ESCAPES,
        system::ESCAPES,
        futexes::ESCAPES,
        doors::ESCAPES,
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(super) fn run(stage: &Stage) -> Result<Vec<Row>, Error> {
    let escapes = all();
    share(stage, escapes.len(), |lane, index| {
        let escape = escapes[index];
        let place = stage.kit.place(escape.program);
        let mut tally = Tally::new(escape.expected);
        for call in (escape.calls)(&stage.facts) {
            let outcome = lane.run(&Attempt {
                entry: place.entry,
                args: [BOMB, 0, 0],
                block: &call.block,
                deadline: PATIENT,
            })?;
            tally.add(&outcome, place.door(), call.name);
        }
        Ok(tally.row(NAME, escape.name.to_owned(), None))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::all;
    use crate::inside::props::Facts;

    #[test]
    fn every_escape_has_a_name_and_a_call() {
        let facts = Facts {
            host: 1,
            sibling: 2,
            host_buffer: 3,
            folder: String::new(),
        };
        let names: BTreeSet<_> = all().iter().map(|escape| escape.name).collect();
        assert_eq!(names.len(), all().len());
        for escape in all() {
            assert!(!(escape.calls)(&facts).is_empty(), "{}", escape.name);
            assert!(!escape.expected.is_empty(), "{}", escape.name);
        }
    }
}
