//! `cellwall probe`: the table, the JSON, and what it says where nothing can run.

use std::process::Command;

use cellwall::{Feature, Kernel, Need};
use serde_json::Value;

use crate::harness::{Outcome, run};

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("JSON")
}

fn features(report: &Value) -> &[Value] {
    report["features"].as_array().expect("a list")
}

#[test]
fn json_tells_what_the_library_finds() {
    let outcome = run(&["probe", "--json"]);
    let report = json(&outcome.stdout);
    let kernel = Kernel::probe();
    assert_eq!(report["release"], kernel.release());
    assert_eq!(features(&report).len(), Feature::ALL.len());
    for (told, found) in features(&report).iter().zip(kernel.findings()) {
        assert_eq!(told["name"], found.feature.name());
        assert_eq!(told["need"], found.feature.need().name());
        assert_eq!(told["state"] == "present", found.is_present(), "{told}");
        assert_eq!(told["advice"].is_null(), found.is_present(), "{told}");
    }
    assert_eq!(report["can_run"], Value::Bool(outcome.status == 0));
    // These tests run guests, so they run where guests can run.
    assert_eq!(outcome.status, 0);
    let tiers = report["tiers"].as_array().unwrap();
    assert_eq!(tiers.len(), 2);
    for tier in tiers {
        assert_eq!(tier["can_run"], true, "{tier}");
        assert_eq!(tier["worker_error"], Value::Null);
    }
    assert_eq!(tiers[0]["lacks"], Value::Array(Vec::new()));
    let lacks = tiers[1]["lacks"].as_array().unwrap();
    assert!(lacks.contains(&"pid-namespace".into()), "{lacks:?}");
}

#[test]
fn the_table_has_a_line_for_each_feature() {
    let outcome = run(&["probe"]);
    assert_eq!(outcome.status, 0);
    let table = String::from_utf8(outcome.stdout).unwrap();
    for feature in Feature::ALL {
        let name = format!("{} ", feature.name());
        assert_eq!(
            table.lines().filter(|line| line.starts_with(&name)).count(),
            1,
            "{table}"
        );
    }
    assert!(
        table.contains("\nTier full: a worker started and ran three instructions.\n"),
        "{table}"
    );
    assert!(
        table.contains("\nIts wall lacks user-namespace, mount-namespace,"),
        "{table}"
    );
    assert!(table.contains("\nA sandbox can run here.\n"), "{table}");
}

/// With room for no more than a few descriptors.
fn cramped(args: &str) -> Outcome {
    let command = env!("CARGO_BIN_EXE_cellwall");
    let script = format!("ulimit -n 4; exec {command} {args}");
    Command::new("sh")
        .args(["-c", &script])
        .output()
        .unwrap()
        .into()
}

#[test]
fn where_nothing_can_run_it_says_why() {
    let outcome = cramped("probe --json");
    let report = json(&outcome.stdout);
    assert_eq!(
        (outcome.status, &report["can_run"]),
        (1, &Value::Bool(false))
    );
    assert!(report["tiers"][0]["worker_error"].is_string(), "{report}");
    let lacking = features(&report)
        .iter()
        .find(|feature| feature["errno"] == "EMFILE");
    let lacking = lacking.expect("a feature that needs a descriptor");
    assert_eq!(lacking["need"], Need::Must.name());
    assert_eq!(lacking["state"], "absent");
    assert!(
        lacking["advice"]
            .as_str()
            .is_some_and(|advice| advice.contains("limits"))
    );

    let outcome = cramped("probe");
    assert_eq!(outcome.status, 1);
    let table = String::from_utf8(outcome.stdout).unwrap();
    assert!(table.contains("\nA sandbox cannot run here.\n"), "{table}");
    assert!(table.contains("\nTier full: no worker runs: "), "{table}");
    assert!(table.contains("raise the limits"), "{table}");
}

#[test]
fn a_run_that_cannot_start_is_explained() {
    let outcome = cramped("run hello");
    assert_eq!(outcome.status, 125, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("EMFILE"), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("raise the limits"),
        "{}",
        outcome.stderr
    );
}
