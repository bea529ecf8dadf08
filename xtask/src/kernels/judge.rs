//! Whether what was found inside a kernel is what is expected of it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::facts::{Audited, Facts};
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

/// Exit status of `cellwall audit` where the wall is not good.
const NOT_GOOD: i32 = 1;

/// Exit status of `cellwall run` where it is not the guest that failed.
const NO_GUEST: i32 = 125;

/// What is wrong, each in a sentence.
pub(super) fn judge(pin: &Pin, facts: &Facts) -> Vec<String> {
    let mut wrong = Vec::new();
    tests(facts, &mut wrong);
    if let Some(probe) = &facts.probe {
        match &pin.refused {
            Some(expected) => refusal(expected, facts, &musts(probe), &mut wrong),
            None => wall(facts, probe, &mut wrong),
        }
    }
    let user = facts.user;
    wrong
        .iter()
        .map(|wrong| format!("{} as user {user}: {wrong}", pin.name))
        .collect()
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

/// A sandbox must run, with nothing through.
fn wall(facts: &Facts, probe: &Value, wrong: &mut Vec<String>) {
    if probe["status"] != 0 || probe["can_run"] != true {
        wrong.push(format!(
            "no sandbox runs: {}",
            probe["tiers"][0]["worker_error"]
        ));
        let missing = musts(probe);
        wrong.push(format!("it lacks: {}", missing.join(", ")));
    }
    match &facts.audit {
        Some(audited) => audit(audited, wrong),
        None => wrong.push("there was no audit".into()),
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
    for name in blamed
        .iter()
        .filter(|name| audited.is_whole && !is_there(name))
    {
        wrong.push(format!("{}: the audit has no {name}", EMULATED.0));
    }
}

/// The attempts of the list: groups and names.
fn emulated() -> Vec<&'static str> {
    let lines = EMULATED.1.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| Some(line.rsplit_once(" | ")?.0))
        .collect()
}

/// No sandbox may run, and whoever tries is told why.
fn refusal(expected: &[String], facts: &Facts, missing: &[&str], wrong: &mut Vec<String>) {
    let (expected, found): (BTreeSet<&str>, BTreeSet<&str>) = (
        expected.iter().map(String::as_str).collect(),
        missing.iter().copied().collect(),
    );
    if expected != found {
        wrong.push(format!("it should lack {expected:?}, and lacks {found:?}"));
    }
    let status = facts.probe.as_ref().map(|probe| &probe["status"]);
    if status != Some(&Value::from(1)) {
        wrong.push(format!("the probe ended with {status:?}, not 1"));
    }
    let told = |message: &str| missing.iter().any(|feature| names(message, feature));
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
