//! What a guest tries: the system call numbers from 0 to 600 by every door, and escapes with names.
//!
//! | module | idea |
//! |---|---|
//! | `outcome` | what may come of an attempt, what did, and the verdict |
//! | `kit`, `guests` | one module with all programs, each at its own entry |
//! | `props` | what system calls take addresses of |
//! | `lane` | running attempts on several threads, in workers that live |
//! | `canary`, `processes` | host and sibling, which must be as they were; what is new |
//! | `sweep` | the numbers by all doors |
//! | `escapes` | system calls with a purpose |
//! | `instructions`, `compat` | what the CPU keeps for the kernel; 32-bit mode and segments |
//! | `jumps`, `trampolines` | the worker's own code, entered wrongly |
//! | `words` | forbidden accesses and forged words |
//! | `pages` | what the host fills, protects, hides and takes back |
//! | `interruptions` | stopped anywhere, and claims of having been |
//! | `handlers` | the handlers' way back into a guest, with frames that the guest wrote |
//! | `gas` | a counter that the guest sets as it likes |
//! | `tenants` | what is left of a guest in a worker that is used again |
//! | `neighbours` | workers of one nursery, and the guests of a pool |
//! | `resources` | time, memory, attention |
//!
//! An attempt *got through* if its guest went on where it must have been stopped. What the kernel
//! did for it is asked of the canary: each group ends with a look at host and sibling.

mod canary;
mod compat;
mod escapes;
mod gas;
mod guests;
mod handlers;
mod instructions;
mod interruptions;
mod jumps;
mod kit;
mod lane;
mod neighbours;
mod outcome;
mod pages;
mod processes;
mod props;
mod resources;
mod sweep;
mod tenants;
mod trampolines;
mod words;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use cellwall::{Config, Error};

use self::canary::Canary;
use self::kit::Kit;
use self::lane::Stage;
use crate::late::is_late;
use crate::row::{Row, Verdict};

/// How to run the attempts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the workers are started with.
    pub config: Config,
    /// For how many CPUs attempts run at the same time: some for each, since most wait for a worker
    /// that starts or ends.
    pub threads: usize,
}

type Run = fn(&Stage) -> Result<Vec<Row>, Error>;

/// Every group, in the order of the report.
const GROUPS: [(&str, Run); 18] = [
    (sweep::SYSCALL.name, |stage| sweep::SYSCALL.run(stage)),
    (sweep::INT_80.name, |stage| sweep::INT_80.run(stage)),
    (sweep::X32.name, |stage| sweep::X32.run(stage)),
    (sweep::SYSENTER.name, |stage| sweep::SYSENTER.run(stage)),
    (sweep::SYSENTER_BARE.name, |stage| {
        sweep::SYSENTER_BARE.run(stage)
    }),
    (escapes::NAME, escapes::run),
    (instructions::NAME, instructions::run),
    (compat::NAME, compat::run),
    (jumps::NAME, jumps::run),
    (trampolines::NAME, trampolines::run),
    (words::NAME, words::run),
    (pages::NAME, pages::run),
    (interruptions::NAME, interruptions::run),
    (handlers::NAME, handlers::run),
    (gas::NAME, gas::run),
    (tenants::NAME, tenants::run),
    (neighbours::NAME, neighbours::run),
    (resources::NAME, resources::run),
];

static NAMES: [&str; GROUPS.len()] = {
    let mut names = [""; GROUPS.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = GROUPS[index].0;
        index += 1;
    }
    names
};

/// Every group of attempts, by name.
#[must_use]
pub fn groups() -> &'static [&'static str] {
    &NAMES
}

/// Runs groups one after the other. After each, `progress` is told how many are done, of how many.
///
/// # Errors
///
/// The engine's, where no worker could be started. What a guest does is in the rows, and so is a
/// worker that did not start in time.
///
/// # Panics
///
/// If no group has one of these names.
pub fn run(
    settings: &Settings,
    groups: &[&str],
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for (index, name) in groups.iter().enumerate() {
        rows.extend(run_group(name, settings)?);
        progress(index + 1, groups.len());
    }
    Ok(rows)
}

/// Runs one group. The last row is a look at the host and at another worker.
///
/// # Errors
///
/// As [`run`].
///
/// # Panics
///
/// If no group has this name.
pub fn run_group(name: &str, settings: &Settings) -> Result<Vec<Row>, Error> {
    let group = GROUPS.iter().find(|group| group.0 == name);
    let (name, run) = group.unwrap_or_else(|| panic!("no group is called {name}"));
    match attempts(name, *run, settings) {
        // A busy machine: the other groups may fare better.
        Err(error) if is_late(&error) => Ok(vec![untried(name, &error)]),
        ended => ended,
    }
}

fn attempts(name: &'static str, run: Run, settings: &Settings) -> Result<Vec<Row>, Error> {
    let kit = Kit::new();
    let mut canary = Canary::new(&settings.config, &kit)?;
    let facts = canary.facts();
    let stage = Stage {
        config: settings.config.clone(),
        threads: settings.threads,
        kit,
        props: props::bytes(&facts),
        facts,
        workers: Mutex::default(),
    };
    let mut rows = run(&stage)?;
    let workers = stage.workers.into_inner();
    let workers = workers.unwrap_or_else(PoisonError::into_inner);
    rows.push(effects(name, &mut canary, &workers));
    Ok(rows)
}

/// A group without workers.
fn untried(group: &'static str, error: &Error) -> Row {
    Row {
        group,
        attempt: "a worker starts, tried twice".into(),
        expected: "it starts in time".into(),
        outcome: error.to_string(),
        layer: String::new(),
        verdict: Verdict::Unverified,
    }
}

/// What the attempts changed outside of their workers.
fn effects(group: &'static str, canary: &mut Canary, workers: &BTreeSet<u32>) -> Row {
    let complaints = canary.complaints(workers);
    let (outcome, verdict) = match canary.unverified() {
        _ if !complaints.is_empty() => (complaints.join("; "), Verdict::GotThrough),
        Some(why) => (why, Verdict::Unverified),
        None => ("everything as before".to_owned(), Verdict::Holds),
    };
    Row {
        group,
        attempt: "host and sibling, afterwards".into(),
        expected: "everything as before".into(),
        outcome,
        layer: String::new(),
        verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::groups;

    #[test]
    fn groups_have_different_names() {
        let mut names = groups().to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), groups().len());
    }
}
