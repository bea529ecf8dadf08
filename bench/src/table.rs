//! Figures side by side.

use std::fmt::Write as _;

use crate::figure::{Figure, Side, Topic, Value};

/// The columns, for the sides that have figures.
const COLUMNS: [(Side, &str); 3] = [
    (Side::Ours, "ours"),
    (Side::Limit, "the machine's limit"),
    (Side::Peer, "PolkaVM 0.37"),
];

/// The figures as a Markdown table in microseconds, unless a topic says otherwise; a topic's are in
/// one row, or in several where a side has several. A side without figures has no column. Beside
/// ours is what it should be at the most, and how large a part of that it is.
#[must_use]
pub fn table(figures: &[Figure]) -> String {
    let columns: Vec<_> = COLUMNS
        .into_iter()
        .filter(|(side, _)| figures.iter().any(|figure| figure.side == *side))
        .collect();
    let (mut head, mut line) = (String::from("| us |"), String::from("|---|"));
    for (side, name) in &columns {
        let _ = write!(head, " {name} | p50 | p99 |");
        line.push_str("---|---|---|");
        if *side == Side::Ours {
            head.push_str(" at most | met |");
            line.push_str("---|---|");
        }
    }
    let mut table = format!("{head}\n{line}\n");
    for topic in Topic::ALL {
        let of = |side| {
            figures
                .iter()
                .filter(move |figure| figure.topic == topic && figure.side == side)
        };
        let rows = columns.iter().map(|(side, _)| of(*side).count()).max();
        for row in 0..rows.unwrap_or(0) {
            let name = if row == 0 { topic.name() } else { "" };
            let _ = write!(table, "| {name} |");
            for (side, _) in &columns {
                let figure = of(*side).nth(row);
                cells(&mut table, figure);
                if *side == Side::Ours {
                    verdict(&mut table, figure, of(Side::Peer).find_map(Figure::median));
                }
            }
            table.push('\n');
        }
    }
    table
}

/// How, the median and the 99th percentile, or why not.
fn cells(table: &mut String, figure: Option<&Figure>) {
    let Some(Figure { how, value, .. }) = figure else {
        table.push_str("  |  |  |");
        return;
    };
    let _ = match value {
        Value::Measured(quantiles) => {
            write!(
                table,
                " {how} | {:.3} | {:.3} |",
                quantiles.p50, quantiles.p99
            )
        }
        Value::Not { why } => write!(table, " {how}: not measured: {why} |  |  |"),
    };
}

/// What a figure of ours should be at the most, and whether it is: also as a part of the peer's
/// median, where that counts.
fn verdict(table: &mut String, figure: Option<&Figure>, peer: Option<f64>) {
    let target = figure.and_then(|figure| figure.topic.target());
    let Some((target, ours)) = target.zip(figure.and_then(Figure::median)) else {
        table.push_str("  |  |");
        return;
    };
    let part = ours / target.at_most;
    let mut is_met = part <= 1.0;
    let (mut wanted, mut found) = (target.at_most.to_string(), format!("{part:.2} of it"));
    if let Some(most) = target.of_peer {
        let _ = write!(wanted, ", {most} of the peer's");
        match peer {
            Some(peer) => {
                let part = ours / peer;
                is_met &= part <= most;
                let _ = write!(found, ", {part:.2} of the peer's");
            }
            None => found.push_str(", the peer's is not measured"),
        }
    }
    let word = if is_met { "yes" } else { "NO" };
    let _ = write!(table, " {wanted} | {word}: {found} |");
}

#[cfg(test)]
mod tests {
    use super::table;
    use crate::figure::{Figure, Quantiles, Side, Topic, Value};

    fn figure(topic: Topic, side: Side, how: &'static str, p50: f64) -> Figure {
        Figure {
            topic,
            side,
            how,
            value: Value::Measured(Quantiles { p50, p99: 2.0 }),
        }
    }

    #[test]
    fn topics_share_rows() {
        let mut figures = vec![
            figure(Topic::Reset16, Side::Peer, "one way", 1.0),
            figure(Topic::Hostcall, Side::Limit, "ping-pong", 0.05),
            figure(Topic::Reset16, Side::Peer, "another", 1.5),
        ];
        figures[2].value = Value::Not {
            why: "needs more".to_owned(),
        };
        let expected = "\
            | us | the machine's limit | p50 | p99 | PolkaVM 0.37 | p50 | p99 |\n\
            |---|---|---|---|---|---|---|\n\
            | hostcall | ping-pong | 0.050 | 2.000 |  |  |  |\n\
            | reset, 16 dirty pages |  |  |  | one way | 1.000 | 2.000 |\n\
            |  |  |  |  | another: not measured: needs more |  |  |\n";
        assert_eq!(table(&figures), expected);
    }

    #[test]
    fn ours_is_judged() {
        let ours = |topic, p50| figure(topic, Side::Ours, "so", p50);
        let peer = |p50| figure(Topic::FaultZero, Side::Peer, "so", p50);
        let cases = [
            (vec![ours(Topic::Reset16, 4.0)], "| 4 | yes: 1.00 of it |"),
            (vec![ours(Topic::Reset16, 5.0)], "| 4 | NO: 1.25 of it |"),
            (vec![ours(Topic::Hostcall, 5.0)], "| 5.000 | 2.000 |  |  |"),
            (
                vec![ours(Topic::FaultZero, 1.9)],
                "yes: 0.50 of it, the peer's is not measured |",
            ),
            (
                vec![ours(Topic::FaultZero, 1.9), peer(2.0)],
                "| 3.8, 0.9 of the peer's | NO: 0.50 of it, 0.95 of the peer's |",
            ),
        ];
        for (figures, expected) in cases {
            let table = table(&figures);
            assert!(table.contains(expected), "{table}");
        }
    }
}
