//! Whether what was found inside a kernel is what is expected of it.

use std::collections::{BTreeMap, BTreeSet};

use linux_raw::landlock::Rights;
use serde_json::Value;

use super::facts::{Audited, Facts};
use super::inside::{Part, QUICK_GROUPS, USERS};
use super::pins::Pin;

/// What init makes: a test that misses it has looked wrongly (`absence/absences.txt`).
const THERE: [&str; 4] = [
    "own-cgroup",
    "cgroup-controllers",
    "full-tier",
    "private-mounts",
];

/// What the emulated CPU does otherwise than any CPU: the name of the file, and what is in it.
const EMULATED: (&str, &str) = (
    "xtask/kernels-audit.txt",
    include_str!("../../kernels-audit.txt"),
);

/// The group of what the audit sees from outside.
const LOOKS: &str = "outside";

/// Exit status of `cellwall audit` where the wall is not good.
const NOT_GOOD: i32 = 1;

/// Exit status of `cellwall run` where it is not the guest that failed.
const NO_GUEST: i32 = 125;

/// What was to be found.
pub(super) struct Expected<'a> {
    /// The kernel that was to be booted.
    pub(super) pin: &'a Pin,
    /// The test programs, by name, and how many of their tests were to be run.
    pub(super) programs: BTreeMap<&'a str, usize>,
    pub(super) part: Part,
}

/// What is wrong, each in a sentence.
pub(super) fn judge(expected: &Expected<'_>, all: &[Facts]) -> Vec<String> {
    let name = &expected.pin.name;
    let users: Vec<u32> = all.iter().map(|facts| facts.user).collect();
    if users != USERS {
        return vec![format!(
            "{name}: users {USERS:?} were to look, and {users:?} did"
        )];
    }
    let mut wrong = Vec::new();
    for facts in all {
        let user = facts.user;
        let of_user = judge_one(expected, facts).into_iter();
        wrong.extend(of_user.map(|wrong| format!("{name} as user {user}: {wrong}")));
    }
    wrong
}

fn judge_one(expected: &Expected<'_>, facts: &Facts) -> Vec<String> {
    let mut wrong = Vec::new();
    let Expected { pin, .. } = expected;
    if facts.release != pin.release() {
        let (booted, pinned) = (&facts.release, pin.release());
        wrong.push(format!("{booted} was booted, and not {pinned}"));
    }
    if expected.part != Part::Probe {
        programs(&expected.programs, facts, &mut wrong);
        tests(facts, &mut wrong);
    }
    match (&facts.probe, &pin.refused) {
        _ if expected.part == Part::Tests => return wrong,
        (None, _) => wrong.push("there was no probe".into()),
        (Some(probe), Some(lacking)) => refusal(lacking, facts, probe, &mut wrong),
        (Some(probe), None) => {
            wall(probe, &mut wrong);
            landlock(probe, &mut wrong);
        }
    }
    match &facts.audit {
        _ if expected.part == Part::Probe || pin.refused.is_some() => {}
        Some(audited) => audit(audited, &mut wrong),
        None => wrong.push("there was no audit".into()),
    }
    wrong
}

/// All that were chosen must have been run, with all of their tests.
fn programs(chosen: &BTreeMap<&str, usize>, facts: &Facts, wrong: &mut Vec<String>) {
    let ran = facts.tested.iter();
    let ran: Vec<_> = ran.map(|ran| (ran.program.as_str(), ran.chosen)).collect();
    for (program, of) in chosen {
        if ran.iter().filter(|ran| **ran == (*program, *of)).count() != 1 {
            wrong.push(format!("{program} with {of} tests was to run, of {ran:?}"));
        }
    }
}

fn tests(facts: &Facts, wrong: &mut Vec<String>) {
    for tested in &facts.tested {
        let program = &tested.program;
        wrong.extend(
            tested
                .failed
                .iter()
                .map(|test| format!("{program} {test} failed")),
        );
        if tested.failed.is_empty() && tested.passed != tested.chosen {
            let (passed, chosen) = (tested.passed, tested.chosen);
            wrong.push(format!("{program}: {passed} tests passed, of {chosen}"));
        }
    }
    if facts.tested.is_empty() {
        wrong.push("no test was run".into());
    }
    let keys = facts.keys();
    for key in keys.iter().filter(|key| THERE.contains(&key.as_str())) {
        wrong.push(format!("a test has not found what is there: {key}"));
    }
}

/// A sandbox must run.
fn wall(probe: &Value, wrong: &mut Vec<String>) {
    if probe["status"] != 0 || probe["can_run"] != true {
        wrong.push(format!(
            "no sandbox runs: {}",
            probe["tiers"][0]["worker_error"]
        ));
        let missing = musts(probe);
        wrong.push(format!("it lacks: {}", missing.join(", ")));
    }
}

/// A version of Landlock may have rights that nobody denies, until somebody has looked.
fn landlock(probe: &Value, wrong: &mut Vec<String>) {
    let mut features = probe["features"].as_array().into_iter().flatten();
    let landlock = features.find(|feature| feature["name"] == "landlock");
    let version = landlock.and_then(|landlock| landlock["detail"].as_str()?.strip_prefix("ABI "));
    match version.map(str::parse::<u32>) {
        Some(Ok(version)) if version <= Rights::NEWEST_ABI => {}
        Some(Ok(version)) => wrong.push(format!(
            "Landlock's version is {version}, and {} is the newest that linux-raw knows: run \
             `cargo xtask headers`, and if no right is new, say so in Rights::NEWEST_ABI",
            Rights::NEWEST_ABI
        )),
        _ => wrong.push(format!(
            "the probe says no version of Landlock: {landlock:?}"
        )),
    }
}

/// Nothing may get through but what the emulated CPU is to blame for.
fn audit(audited: &Audited, wrong: &mut Vec<String>) {
    let blamed = emulated();
    let bad = audited
        .bad
        .iter()
        .filter(|name| !blamed.contains(&name.as_str()));
    wrong.extend(bad.map(|name| format!("audit: not good, see above: {name}")));
    let expected = if audited.bad.is_empty() { 0 } else { NOT_GOOD };
    if audited.status != Some(expected) || audited.attempts.is_empty() {
        wrong.push(format!(
            "the audit ended with {:?}, not {expected}",
            audited.status
        ));
    }
    let is_there = |name: &&str| audited.attempts.iter().any(|attempt| attempt == name);
    let groups = QUICK_GROUPS.iter().chain([&LOOKS]);
    for group in groups.filter(|group| !has_group(audited, group)) {
        wrong.push(format!("the audit has tried nothing of \"{group}\""));
    }
    for name in blamed
        .iter()
        .filter(|name| audited.is_whole && !is_there(name))
    {
        wrong.push(format!("{}: the audit has no {name}", EMULATED.0));
    }
}

fn has_group(audited: &Audited, group: &str) -> bool {
    let mut groups = audited
        .attempts
        .iter()
        .filter_map(|name| name.split_once(" | "));
    groups.any(|(of, _)| of == group)
}

/// The attempts of the list: groups and names.
fn emulated() -> Vec<&'static str> {
    let lines = EMULATED.1.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| Some(line.rsplit_once(" | ")?.0))
        .collect()
}

/// No sandbox may run, and whoever tries is told why.
fn refusal(expected: &[String], facts: &Facts, probe: &Value, wrong: &mut Vec<String>) {
    let missing = musts(probe);
    let (expected, found): (BTreeSet<&str>, BTreeSet<&str>) = (
        expected.iter().map(String::as_str).collect(),
        missing.iter().copied().collect(),
    );
    if expected != found {
        wrong.push(format!("it should lack {expected:?}, and lacks {found:?}"));
    }
    let (status, can_run) = (&probe["status"], &probe["can_run"]);
    if *status != 1 || *can_run != false {
        wrong.push(format!(
            "the probe ended with {status}, not 1; a sandbox runs: {can_run}"
        ));
    }
    let told = |message: &str| missing.iter().all(|feature| names(message, feature));
    match &facts.refusal {
        Some(run) if run.status == Some(NO_GUEST) && told(&run.message) => {}
        run => wrong.push(format!("a start does not tell what is missing: {run:?}")),
    }
}

/// Whether a message has a feature's name, however it is written.
fn names(message: &str, feature: &str) -> bool {
    message.to_lowercase().contains(feature)
}

/// The features that must be there and are not.
fn musts(probe: &Value) -> Vec<&str> {
    let features = probe["features"].as_array().into_iter().flatten();
    let missing =
        features.filter(|feature| feature["need"] == "must" && feature["state"] != "present");
    missing
        .filter_map(|feature| feature["name"].as_str())
        .collect()
}

#[cfg(test)]
mod tests;
