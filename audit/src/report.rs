//! All rows as one report: a table for people, JSON for machines, and whether the wall is whole.

use std::fmt::Write as _;

use cellwall::{Kernel, Tier};
use serde::Serialize;

use crate::row::{Row, Verdict};

/// What is printed; the JSON has this shape.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The kernel's release, as `uname -r` prints it.
    release: String,
    /// The tier that was audited.
    tier: &'static str,
    /// Nothing got through, and every layer is there or known to be lacking here.
    good: bool,
    counts: Counts,
    rows: Vec<Row>,
}

/// How many rows of which kind there are.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Counts {
    /// All of them.
    attempts: usize,
    /// Of those, what a guest tried.
    inside: usize,
    holds: usize,
    absent: usize,
    /// Attempts that a guest completed.
    got_through: usize,
    broken: usize,
    unverified: usize,
}

/// What to do about a verdict that is not good.
const ADVICE: [(Verdict, &str); 3] = [
    (
        Verdict::GotThrough,
        "Run no guest on this kernel. This is a hole in the wall: report it, with this output.",
    ),
    (
        Verdict::Broken,
        "Run no guest on this kernel until it is explained. `cellwall probe` says what the kernel \
         offers; if it offers the layer, report this output.",
    ),
    (
        Verdict::Unverified,
        "Nothing is known about it. Where it says \"Permission denied\", run the audit as root, and \
         in a container with CAP_SYS_PTRACE; where a file is missing, mount /proc whole.",
    ),
];

/// The name of a verdict in the table and in the JSON.
const fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "holds",
        Verdict::Absent => "absent",
        Verdict::GotThrough => "GOT THROUGH",
        Verdict::Broken => "BROKEN",
        Verdict::Unverified => "UNVERIFIED",
    }
}

/// Headings and widths of the columns in characters; the last one needs none.
const COLUMNS: [(&str, usize); 5] = [
    ("verdict", 11),
    ("attempt", 34),
    ("expected", 28),
    ("outcome", 28),
    ("layer", 0),
];

/// Fewer rows than this that differ in nothing but the attempt are not worth folding.
const FOLD_MIN: usize = 8;

impl Report {
    /// Judges the rows.
    #[must_use]
    pub fn new(tier: Tier, rows: Vec<Row>) -> Self {
        let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
        let counts = Counts {
            attempts: rows.len(),
            inside: rows.iter().filter(|row| row.group != "outside").count(),
            holds: count(Verdict::Holds),
            absent: count(Verdict::Absent),
            got_through: count(Verdict::GotThrough),
            broken: count(Verdict::Broken),
            unverified: count(Verdict::Unverified),
        };
        Self {
            release: Kernel::probe().release().into(),
            tier: tier.name(),
            // An audit without both halves has shown nothing.
            good: counts.inside > 0
                && counts.inside < counts.attempts
                && rows.iter().all(|row| row.verdict.is_good()),
            counts,
            rows,
        }
    }

    /// Whether nothing got through and no layer is missing or could not be verified.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.good
    }

    /// For people: rows that differ only in the attempt are one line, failures come again at the
    /// end, with advice.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!("Linux {}, tier {}\n", self.release, self.tier);
        let mut group = "";
        for rows in self.rows.chunk_by(is_alike) {
            let Some(first) = rows.first() else {
                continue;
            };
            if first.group != group {
                group = first.group;
                line(&mut text, format_args!("\n{group}"));
                put(&mut text, &COLUMNS.map(|(heading, _)| heading));
            }
            if rows.len() < FOLD_MIN {
                for row in rows {
                    put(&mut text, &cells(row, &row.attempt));
                }
            } else {
                put(&mut text, &cells(first, &folded(rows)));
            }
        }
        self.conclude(&mut text);
        text
    }

    fn conclude(&self, text: &mut String) {
        let Counts {
            attempts,
            inside,
            holds,
            absent,
            got_through,
            broken,
            unverified,
        } = self.counts;
        line(
            text,
            format_args!(
                "\n{inside} attempts by guests, {} looks from outside: {got_through} got through, \
                 {holds} held, {absent} absent here, {broken} broken, {unverified} unverified.",
                attempts - inside
            ),
        );
        for (verdict, advice) in ADVICE {
            let mut bad = self.rows.iter().filter(|row| row.verdict == verdict);
            let Some(first) = bad.next() else {
                continue;
            };
            line(text, format_args!("\n{}:", name(verdict)));
            for row in [first].into_iter().chain(bad) {
                let Row {
                    layer,
                    attempt,
                    outcome,
                    expected,
                    ..
                } = row;
                // Some files have many lines.
                let outcome: Vec<&str> = outcome.split_whitespace().collect();
                let outcome = outcome.join(" ");
                line(
                    text,
                    format_args!("  {layer}: {attempt}: {outcome}; expected {expected}"),
                );
            }
            line(text, format_args!("{advice}"));
        }
        line(
            text,
            format_args!(
                "\n{}",
                if self.good {
                    "The wall is whole."
                } else {
                    "The wall is not whole, or not known to be."
                }
            ),
        );
    }
}

/// Whether two rows differ in nothing but the attempt.
fn is_alike(one: &Row, other: &Row) -> bool {
    let key = |row: &Row| (row.group, row.verdict as u8, row.layer.clone());
    key(one) == key(other) && (&one.expected, &one.outcome) == (&other.expected, &other.outcome)
}

/// The attempts of several rows in one cell.
fn folded(rows: &[Row]) -> String {
    match rows {
        [first, .., last] => {
            let between = rows.len() - 2;
            format!("{}, and {between} more, to {}", first.attempt, last.attempt)
        }
        _ => String::new(),
    }
}

fn cells<'a>(row: &'a Row, attempt: &'a str) -> [&'a str; COLUMNS.len()] {
    let Row {
        expected,
        outcome,
        layer,
        ..
    } = row;
    [name(row.verdict), attempt, expected, outcome, layer]
}

/// One row of the table: as many lines as its longest cell needs.
fn put(text: &mut String, cells: &[&str; COLUMNS.len()]) {
    let mut columns: [Vec<String>; COLUMNS.len()] = Default::default();
    for ((column, cell), (_, width)) in columns.iter_mut().zip(cells).zip(COLUMNS) {
        *column = wrap(cell, width);
    }
    let height = columns.iter().map(Vec::len).max().unwrap_or(0);
    for index in 0..height {
        let mut out = String::new();
        for (column, (_, width)) in columns.iter().zip(COLUMNS) {
            let cell = column.get(index).map_or("", String::as_str);
            // Writing to a string cannot fail.
            let _ = write!(out, "{cell:<width$}  ");
        }
        line(text, format_args!("{}", out.trim_end()));
    }
}

/// Lines of at most `width` characters, broken between words where that is possible; 0 is no limit.
fn wrap(text: &str, width: usize) -> Vec<String> {
    if width == 0 {
        return vec![text.to_owned()];
    }
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut letters: Vec<char> = word.chars().collect();
        while !letters.is_empty() {
            let Some(last) = lines.last_mut() else {
                break;
            };
            let used = last.chars().count();
            let gap = usize::from(used > 0);
            let fits = used + gap + letters.len() <= width;
            if !fits && used > 0 {
                lines.push(String::new());
                continue;
            }
            if gap > 0 {
                last.push(' ');
            }
            let taken = letters.len().min(width);
            last.extend(letters.drain(..taken));
        }
    }
    lines
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{content}");
}

#[cfg(test)]
mod tests {
    use cellwall::Tier;

    use super::{Report, wrap};
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
        let mut rows = vec![row("outside", "status", Verdict::Holds)];
        rows.extend(
            verdicts
                .iter()
                .map(|verdict| row("calls", "open", *verdict)),
        );
        Report::new(Tier::Full, rows)
    }

    #[test]
    fn good_is_good_in_every_row() {
        assert!(report(&[Verdict::Holds, Verdict::Absent]).is_good());
        for bad in [Verdict::GotThrough, Verdict::Broken, Verdict::Unverified] {
            let report = report(&[Verdict::Holds, bad]);
            assert!(!report.is_good());
            let table = report.table();
            assert!(
                table.contains("open: so it was; expected killed"),
                "{table}"
            );
            assert!(table.contains("The wall is not whole"), "{table}");
        }
    }

    #[test]
    fn half_an_audit_is_not_good() {
        assert!(!report(&[]).is_good());
        assert!(!Report::new(Tier::Full, Vec::new()).is_good());
        let inside = vec![row("calls", "open", Verdict::Holds)];
        assert!(!Report::new(Tier::Full, inside).is_good());
    }

    #[test]
    fn what_is_alike_is_one_line() {
        let table = report(&[Verdict::Holds; 500]).table();
        assert!(table.contains("open, and 498 more, to open"), "{table}");
        assert!(table.contains("500 attempts by guests, 1 looks"), "{table}");
        assert!(
            table.lines().all(|line| line.chars().count() <= 132),
            "{table}"
        );
    }

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("no limit at all", 0), ["no limit at all"]);
    }
}
