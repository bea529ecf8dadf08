//! All rows as one report: a table for people, JSON for machines, and whether the wall is whole.

mod table;

use cellwall::{Kernel, Layer, Tier};
use serde::Serialize;

use self::table::line;
use crate::outside::GROUP as OUTSIDE;
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
    /// What guests tried.
    attempts: usize,
    /// Looks from outside.
    looks: usize,
    holds: usize,
    reported: usize,
    off: usize,
    absent: usize,
    unverified: usize,
    broken: usize,
    /// Attempts that a guest completed.
    got_through: usize,
}

/// How a report is printed for people.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// How many characters a line has room for.
    pub width: usize,
    /// Every row, also of what holds.
    pub all: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            width: 100,
            all: false,
        }
    }
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
         in a container with CAP_SYS_PTRACE; where a file is missing, mount /proc whole; where a \
         worker did not start in time, run it again on an idle machine.",
    ),
];

/// What the words of the table mean.
const LEGEND: &str = "\
holds: stopped, or seen to be as it must; reported: known from the worker's own report alone
off: not in this tier or not asked for; absent: this kernel or CPU lacks it, and may";

/// The name of a verdict in the table.
const fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "holds",
        Verdict::Reported => "reported",
        Verdict::Off => "off",
        Verdict::Absent => "absent",
        Verdict::GotThrough => "GOT THROUGH",
        Verdict::Broken => "BROKEN",
        Verdict::Unverified => "UNVERIFIED",
    }
}

/// How many of these rows hold, of those that say whether something does.
fn held<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let (mut held, mut all) = (0, 0);
    for row in rows {
        held += usize::from(row.verdict == Verdict::Holds);
        all += usize::from(row.verdict == Verdict::Holds || !row.verdict.is_good());
    }
    match all {
        0 => "-".into(),
        _ => format!("{held} of {all}"),
    }
}

impl Report {
    /// Judges the rows.
    #[must_use]
    pub fn new(tier: Tier, rows: Vec<Row>) -> Self {
        let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
        let looks = rows.iter().filter(|row| row.group == OUTSIDE).count();
        let counts = Counts {
            attempts: rows.len() - looks,
            looks,
            holds: count(Verdict::Holds),
            reported: count(Verdict::Reported),
            off: count(Verdict::Off),
            absent: count(Verdict::Absent),
            unverified: count(Verdict::Unverified),
            broken: count(Verdict::Broken),
            got_through: count(Verdict::GotThrough),
        };
        Self {
            release: Kernel::probe().release().into(),
            tier: tier.name(),
            // An audit without both halves has shown nothing.
            good: counts.attempts > 0
                && counts.looks > 0
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

    /// For people: layers, groups of attempts, and what does not hold, with advice.
    #[must_use]
    pub fn table(&self, style: Style) -> String {
        let mut text = format!("Linux {}, tier {}\n", self.release, self.tier);
        line(&mut text, format_args!("{LEGEND}\n"));
        self.layers(&mut text);
        self.groups(&mut text);
        let in_full = |row: &&Row| style.all || (row.verdict.is_good() && !is_held(row));
        let rows: Vec<&Row> = self.rows.iter().filter(in_full).collect();
        table::rows(&mut text, &rows, style.width);
        self.failures(&mut text);
        self.conclude(&mut text);
        text
    }

    /// A line for each layer that has rows.
    fn layers(&self, text: &mut String) {
        let mut all = vec![["layer", "standing", "looks held", "attempts held"].map(String::from)];
        for layer in Layer::ALL {
            let of = |row: &&Row| row.layer == layer.name();
            let looks = || self.rows.iter().filter(of).filter(|row| is_look(row));
            let attempts = self.rows.iter().filter(of).filter(|row| !is_look(row));
            if let Some(standing) = standing(looks().map(|row| row.verdict)) {
                let name = layer.name().to_owned();
                all.push([name, standing.into(), held(looks()), held(attempts)]);
            }
        }
        table::short(text, &all);
    }

    /// A line for each group of attempts.
    fn groups(&self, text: &mut String) {
        let mut all = vec![["attempts by guests", "tried", "held", ""].map(String::from)];
        for rows in self.rows.chunk_by(|one, other| one.group == other.group) {
            if let Some(first) = rows.first().filter(|row| !is_look(row)) {
                let held = rows.iter().filter(|row| is_held(row)).count();
                let counts = [rows.len(), held].map(|count| count.to_string());
                let [tried, held] = counts;
                all.push([first.group.into(), tried, held, String::new()]);
            }
        }
        line(text, format_args!(""));
        table::short(text, &all);
    }

    /// Each row that is not good, with advice.
    fn failures(&self, text: &mut String) {
        for (verdict, advice) in ADVICE {
            let mut bad = self.rows.iter().filter(|row| row.verdict == verdict);
            let Some(first) = bad.next() else {
                continue;
            };
            line(text, format_args!("\n{}:", name(verdict)));
            for row in [first].into_iter().chain(bad) {
                let Row {
                    attempt, expected, ..
                } = row;
                let part = match row.layer.as_str() {
                    "" => row.group,
                    layer => layer,
                };
                // Some files have many lines.
                let outcome: Vec<&str> = row.outcome.split_whitespace().collect();
                let outcome = outcome.join(" ");
                line(
                    text,
                    format_args!("  {part}: {attempt}: {outcome}; expected {expected}"),
                );
            }
            line(text, format_args!("{advice}"));
        }
    }

    fn conclude(&self, text: &mut String) {
        let Counts {
            attempts,
            looks,
            holds,
            reported,
            off,
            absent,
            unverified,
            broken,
            got_through,
        } = self.counts;
        line(
            text,
            format_args!(
                "\n{attempts} attempts by guests, {looks} looks from outside: {got_through} got \
                 through, {broken} broken, {unverified} unverified, {holds} held, {reported} \
                 reported, {off} off, {absent} absent."
            ),
        );
        line(text, format_args!("\n{}", self.conclusion()));
    }

    /// The last line.
    fn conclusion(&self) -> String {
        let counts = &self.counts;
        if self.good {
            return "The wall is whole.".into();
        }
        let is_open = counts.got_through + counts.broken > 0;
        if is_open || counts.attempts == 0 || counts.looks == 0 {
            return "The wall is not whole, or not known to be.".into();
        }
        let unverified = |row: &&Row| row.verdict == Verdict::Unverified;
        let looks = self
            .rows
            .iter()
            .filter(unverified)
            .filter(|row| is_look(row));
        let looks = looks.count();
        let attempts = counts.unverified - looks;
        let mut missing = Vec::new();
        if looks > 0 {
            let whose = if linux_raw::process::geteuid() == 0 {
                ""
            } else {
                " (run as root to make them)"
            };
            let of = counts.looks;
            missing.push(format!("{looks} of {of} looks could not be made{whose}"));
        }
        if attempts > 0 {
            let of = counts.attempts;
            missing.push(format!("{attempts} of {of} attempts could not be judged"));
        }
        format!("Nothing got through; {}.", missing.join("; "))
    }
}

fn is_look(row: &Row) -> bool {
    row.group == OUTSIDE
}

fn is_held(row: &Row) -> bool {
    row.verdict == Verdict::Holds
}

/// What the looks at a layer say together.
fn standing(looks: impl Iterator<Item = Verdict>) -> Option<&'static str> {
    let (mut worst, mut is_seen) = (None, false);
    for verdict in looks {
        worst = worst.max(Some(verdict));
        is_seen |= verdict == Verdict::Holds;
    }
    Some(match worst? {
        Verdict::Holds => "in force",
        // A part of it was seen.
        Verdict::Reported if is_seen => "in force",
        other => name(other),
    })
}

#[cfg(test)]
mod tests;
