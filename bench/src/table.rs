//! Figures side by side, for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::figure::{Figure, Other};

/// The figures as a Markdown table, and below it what was not measured and why.
///
/// ```
/// use bench::{Better, Figure, Quantiles, table};
///
/// let ours = Quantiles::of(vec![0.25], Better::Less);
/// let figures = [Figure::ours("call_awake", "us", ours)];
/// assert!(table(&figures).contains("| call_awake | us | 0.250 | 0.250 |"));
/// ```
#[must_use]
pub fn table(figures: &[Figure]) -> String {
    let mut table = String::from(
        "| figure | unit | ours p50 | p99 | peer | p50 | p99 | limit | p50 | p99 | \
         × peer | × limit | target |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for figure in figures {
        let ours = figure.ours.map_or("| | ".to_owned(), |ours| {
            format!("| {} | {} ", number(ours.p50), number(ours.p99))
        });
        let verdicts: Vec<String> = figure.verdicts().iter().map(ToString::to_string).collect();
        let _ = writeln!(
            table,
            "| {} | {} {ours}{}{}| {} | {} | {} |",
            figure.name,
            figure.unit,
            cells(figure.peer.as_ref()),
            cells(figure.limit.as_ref()),
            figure.ratio_to_peer.map_or(String::new(), number),
            figure.ratio_to_limit.map_or(String::new(), number),
            verdicts.join("; "),
        );
        if let Some(other) = &figure.other_peer {
            let other = cells(Some(other));
            let _ = writeln!(table, "| | | | {other}| | | | | | |");
        }
    }
    table.push_str(&absences(figures));
    let verdicts = || figures.iter().flat_map(Figure::verdicts);
    let count = |wanted| {
        verdicts()
            .filter(|verdict| verdict.is_reached() == wanted)
            .count()
    };
    let _ = write!(
        table,
        "\nTargets: {} reached, {} missed, {} not known.\n",
        count(Some(true)),
        count(Some(false)),
        count(None)
    );
    table
}

/// What was not measured, by who and why.
fn absences(figures: &[Figure]) -> String {
    let mut absences = BTreeMap::<(&str, &str), Vec<&str>>::new();
    for figure in figures {
        for (side, why) in &figure.absent {
            absences.entry((side, why)).or_default().push(&figure.name);
        }
    }
    let lines = absences.iter().map(|((side, why), names)| {
        let why = why.replace('\n', "; ");
        format!("\nNot measured: {side}: {why} ({})\n", names.join(", "))
    });
    lines.collect()
}

/// Name, median and 99th percentile.
fn cells(other: Option<&Other>) -> String {
    other.map_or("| | | ".to_owned(), |other| {
        let (p50, p99) = (number(other.quantiles.p50), number(other.quantiles.p99));
        format!("| {} | {p50} | {p99} ", other.name)
    })
}

/// Three digits that matter, where there are so many.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::table;
    use crate::figure::{Better, Figure, Other, Quantiles};
    use crate::target::{Of, Target};

    #[test]
    fn every_row_has_every_column() {
        let quantiles = Quantiles::of(vec![12.34], Better::Less).unwrap();
        let other = |name| Some(Other { name, quantiles });
        let mut all = Figure::ours("all", "us", Some(quantiles))
            .with_limit("limit", Some(quantiles))
            .with_targets(&[
                Target::AtMost(1.0, Of::Limit),
                Target::AtMost(12.0, Of::Itself),
            ]);
        (all.peer, all.other_peer) = (other("peer"), other("other"));
        let mut none = Figure::new("none", "KiB").with_targets(&[Target::AtMost(1.0, Of::Itself)]);
        none.absent.push(("Cellwall", "two\nlines".to_owned()));
        let table = table(&[all, none]);
        let rows: Vec<&str> = table.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), 5, "{table}");
        for row in &rows {
            assert_eq!(row.matches('|').count(), 14, "{row}");
        }
        let targets = "≤ 1 × limit: reached; ≤ 12: **missed**";
        assert!(rows[2].contains(targets), "{table}");
        assert!(table.contains("Not measured: Cellwall: two; lines (none)\n"));
        assert!(table.ends_with("Targets: 1 reached, 1 missed, 1 not known.\n"));
    }
}
