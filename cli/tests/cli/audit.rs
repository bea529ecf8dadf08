//! `cellwall audit`: the wall is whole here, and the report says so for each layer.

use cellwall::{Layer, Tier};
use serde_json::Value;

use crate::harness::run;

/// Verdicts of a whole wall.
const GOOD: [&str; 4] = ["holds", "reported", "off", "absent"];

#[test]
fn json_has_every_layer_and_the_wall_is_whole() {
    let outcome = run(&["audit", "--json"]);
    let report: Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    let rows = report["rows"].as_array().expect("a list");
    let bad: Vec<&Value> = rows
        .iter()
        .filter(|row| !GOOD.contains(&row["verdict"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(bad, Vec::<&Value>::new());
    for layer in Layer::ALL {
        let looks = |row: &&Value| row["layer"] == layer.name() && row["group"] == "outside";
        assert!(rows.iter().any(|row| looks(&row)), "{layer:?}");
    }
    assert_eq!((outcome.status, &report["good"]), (0, &Value::Bool(true)));
    assert_eq!(report["tier"], Tier::Full.name());
    let looks = rows.iter().filter(|row| row["group"] == "outside").count();
    assert_eq!(report["counts"]["looks"], looks);
    assert_eq!(report["counts"]["attempts"], rows.len() - looks);
    for verdict in GOOD {
        let counted = rows.iter().filter(|row| row["verdict"] == verdict).count();
        assert_eq!(report["counts"][verdict], counted, "{verdict}");
    }
    assert_eq!(report["counts"]["got_through"], 0);
}

#[test]
fn the_table_has_headings_and_a_conclusion() {
    let outcome = run(&["audit"]);
    let table = String::from_utf8(outcome.stdout).expect("UTF-8");
    for heading in [
        "layer standing looks held attempts held",
        "attempts by guests tried held",
    ] {
        let is_heading = |line: &str| line.split_whitespace().eq(heading.split(' '));
        assert!(table.lines().any(is_heading), "{heading}: {table}");
    }
    for layer in Layer::ALL {
        let begins = |line: &str| line.split(' ').next() == Some(layer.name());
        assert!(table.lines().any(begins), "{layer:?}: {table}");
    }
    assert!(table.ends_with("\nThe wall is whole.\n"), "{table}");
    assert_eq!(outcome.status, 0);
    // No terminal: nothing that moves a cursor.
    assert!(
        !outcome.stderr.contains(['\r', '\x1b']),
        "{}",
        outcome.stderr
    );
}

#[test]
fn what_makes_no_sense() {
    assert_eq!(run(&["audit", "--json", "--all"]).status, 125);
    assert_eq!(run(&["audit", "--tier", "none"]).status, 125);
}
