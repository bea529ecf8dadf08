//! Rows as columns of text.

use std::fmt::{Arguments, Write as _};

use cellwall::Layer;

use crate::row::Row;

const HEADINGS: [&str; COLUMNS] = ["verdict", "attempt", "expected", "outcome", "layer"];
const COLUMNS: usize = 5;

/// What a verdict takes.
const VERDICT: usize = 11;

/// Fewer rows than this that differ in nothing but the attempt are not worth folding.
const FOLD_MIN: usize = 8;

/// What each column of text gets at the least.
const TEXT_MIN: usize = 12;

/// The widths of the columns in characters; the last one needs none.
struct Widths([usize; COLUMNS]);

impl Widths {
    /// Lines of at most this many characters, if there is room for the columns at all.
    fn of(line: usize) -> Self {
        let layers = Layer::ALL.iter().map(|layer| layer.name().len()).max();
        let gaps = 2 * (COLUMNS - 1);
        let rest = line.saturating_sub(VERDICT + layers.unwrap_or(0) + gaps);
        let third = (rest / 3).max(TEXT_MIN);
        let attempt = rest.saturating_sub(2 * third).max(TEXT_MIN);
        Self([VERDICT, attempt, third, third, 0])
    }
}

/// All rows, under headings for each group; those that differ only in the attempt are one line.
pub(super) fn rows(text: &mut String, rows: &[&Row], width: usize) {
    let widths = Widths::of(width);
    let mut group = "";
    for rows in rows.chunk_by(|one, other| is_alike(one, other)) {
        let Some(&first) = rows.first() else {
            continue;
        };
        if first.group != group {
            group = first.group;
            line(text, format_args!("\n{group}"));
            put(text, &HEADINGS, &widths);
        }
        if rows.len() < FOLD_MIN {
            for row in rows {
                put(text, &cells(row, &row.attempt), &widths);
            }
        } else {
            put(text, &cells(first, &folded(rows)), &widths);
        }
    }
}

/// Whether two rows differ in nothing but the attempt.
fn is_alike(one: &Row, other: &Row) -> bool {
    let key = |row: &Row| (row.group, row.verdict as u8, row.layer.clone());
    key(one) == key(other) && (&one.expected, &one.outcome) == (&other.expected, &other.outcome)
}

/// The attempts of several rows in one cell.
fn folded(rows: &[&Row]) -> String {
    match rows {
        [first, .., last] => {
            let between = rows.len() - 2;
            format!("{}, and {between} more, to {}", first.attempt, last.attempt)
        }
        _ => String::new(),
    }
}

fn cells<'a>(row: &'a Row, attempt: &'a str) -> [&'a str; COLUMNS] {
    let Row {
        expected,
        outcome,
        layer,
        ..
    } = row;
    [super::name(row.verdict), attempt, expected, outcome, layer]
}

/// One row of the table: as many lines as its longest cell needs.
fn put(text: &mut String, cells: &[&str; COLUMNS], Widths(widths): &Widths) {
    let mut columns: [Vec<String>; COLUMNS] = Default::default();
    for ((column, cell), width) in columns.iter_mut().zip(cells).zip(widths) {
        *column = wrap(cell, *width);
    }
    let height = columns.iter().map(Vec::len).max().unwrap_or(0);
    for index in 0..height {
        let mut out = String::new();
        for (column, width) in columns.iter().zip(widths) {
            let cell = column.get(index).map_or("", String::as_str);
            // Writing to a string cannot fail.
            let _ = write!(out, "{cell:<width$}  ");
        }
        line(text, format_args!("{}", out.trim_end()));
    }
}

/// A table of short cells: each column is as wide as its longest one.
pub(super) fn short(text: &mut String, all: &[[String; 4]]) {
    let width = |column: usize| all.iter().map(|cells| cells[column].len()).max();
    let widths = [0, 1, 2, 3].map(|column| width(column).unwrap_or(0));
    for cells in all {
        let mut out = String::new();
        for (cell, width) in cells.iter().zip(widths) {
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

pub(super) fn line(text: &mut String, content: Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{content}");
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("no limit at all", 0), ["no limit at all"]);
    }
}
