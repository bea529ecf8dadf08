//! What people are told.

use cellwall::Tier;

use super::{Report, Style};
use crate::row::{Row, Verdict};

fn row(group: &'static str, attempt: &str, verdict: Verdict) -> Row {
    Row {
        group,
        attempt: attempt.into(),
        expected: "killed".into(),
        outcome: "so it was".into(),
        layer: "system-calls".into(),
        verdict,
    }
}

fn report(verdicts: &[Verdict]) -> Report {
    let mut rows: Vec<Row> = verdicts
        .iter()
        .map(|verdict| row("calls", "open", *verdict))
        .collect();
    rows.push(row("outside", "status", Verdict::Holds));
    Report::new(Tier::Full, rows)
}

fn all(width: usize) -> Style {
    Style { width, all: true }
}

#[test]
fn good_is_good_in_every_row() {
    use Verdict::{Absent, Broken, GotThrough, Holds, Off, Reported, Unverified};
    assert!(report(&[Holds, Absent, Off, Reported]).is_good());
    for (bad, end) in [
        (GotThrough, "The wall is not whole, or not known to be.\n"),
        (Broken, "The wall is not whole, or not known to be.\n"),
        (
            Unverified,
            "Nothing got through; 1 of 2 attempts could not be judged.\n",
        ),
    ] {
        let report = report(&[Holds, bad]);
        assert!(!report.is_good());
        let table = report.table(Style::default());
        let full = "  system-calls: open: so it was; expected killed\n";
        assert!(table.contains(full), "{table}");
        assert!(table.ends_with(end), "{table}");
    }
}

#[test]
fn looks_that_cannot_be_made_are_counted() {
    let rows = vec![
        row("calls", "open", Verdict::Holds),
        row("outside", "status", Verdict::Holds),
        row("outside", "maps", Verdict::Unverified),
    ];
    let table = Report::new(Tier::Full, rows).table(Style::default());
    let end = "\nNothing got through; 1 of 2 looks could not be made";
    assert!(table.contains(end), "{table}");
}

#[test]
fn without_a_layer_the_group_is_named() {
    let mut effects = row("calls", "host", Verdict::GotThrough);
    effects.layer = String::new();
    let table = Report::new(Tier::Full, vec![effects]).table(Style::default());
    assert!(table.contains("\n  calls: host: so it was"), "{table}");
}

#[test]
fn half_an_audit_is_not_good() {
    assert!(!report(&[]).is_good());
    assert!(!Report::new(Tier::Full, Vec::new()).is_good());
    let inside = vec![row("calls", "open", Verdict::Holds)];
    assert!(!Report::new(Tier::Full, inside).is_good());
}

#[test]
fn what_holds_is_counted_and_told_only_where_all_is_wanted() {
    let report = report(&[Verdict::Holds; 500]);
    let table = report.table(Style::default());
    assert!(!table.contains("so it was"), "{table}");
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let layer = "system-calls in force 1 of 1 500 of 500";
    for line in [layer, "calls 500 500"] {
        let line: Vec<&str> = line.split(' ').collect();
        assert!(lines.contains(&line), "{line:?}: {table}");
    }
    let table = report.table(all(132));
    assert!(table.contains("500 attempts by guests, 1 looks"), "{table}");
    // The words of the attempt may be on several lines.
    let words = table.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("498 more, to open"), "{table}");
}

#[test]
fn lines_fit_where_there_is_room() {
    for width in [80, 100, 132, 200] {
        let mut row = row("calls", &"many words ".repeat(30), Verdict::Reported);
        row.layer = "no-timestamp-counter".into();
        let mut text = String::new();
        super::table::rows(&mut text, &[&row], width);
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest.is_some_and(|longest| longest <= width), "{text}");
    }
}
