//! Figures as bars, for the documents: SVG, on one logarithmic scale.

use std::fmt::Write as _;

use crate::figure::{Figure, Other, Quantiles};
use crate::table::number;

/// Who, and the colour of the bars.
const SIDES: [(&str, &str); 3] = [
    ("Cellwall", "#2563a8"),
    ("peer", "#d9822b"),
    ("the machine's limit", "#7c8794"),
];

/// Where bars begin, and the end of the scale, in pixels.
const LEFT: f64 = 260.0;
const RIGHT: f64 = 900.0;
const WIDTH: f64 = 1080.0;

/// Heights, in pixels.
const HEAD: f64 = 56.0;
const BAR: f64 = 11.0;
const GAP: f64 = 9.0;

/// Medians as horizontal bars, with what each bar is beside it. A figure that nothing is compared
/// with is left out.
///
/// ```
/// use bench::{Better, Figure, Quantiles, chart};
///
/// let of = |value| Quantiles::of(vec![value], Better::Less);
/// let figures = [Figure::ours("call_awake", "us", of(0.3)).with_limit("ping-pong", of(0.1))];
/// assert_eq!(chart(&figures).matches("<rect").count(), 1 + 3 + 2); // ground, legend, bars
/// ```
#[must_use]
pub fn chart(figures: &[Figure]) -> String {
    let rows: Vec<&Figure> = figures
        .iter()
        .filter(|figure| figure.ours.is_some() && (figure.peer.is_some() || figure.limit.is_some()))
        .collect();
    let values = rows.iter().flat_map(|figure| bars(figure));
    let values: Vec<f64> = values.map(|(_, _, value)| value).collect();
    let scale = Scale::around(&values);
    let mut body = String::new();
    let mut y = HEAD;
    for figure in &rows {
        let bars = bars(figure);
        let count = bars.iter().fold(0.0, |count, _| count + 1.0);
        let label = format!("{}, {}", figure.name, figure.unit);
        let middle = y + count * BAR / 2.0 + 4.0;
        text(&mut body, LEFT - 8.0, middle, "end", &label);
        for (side, name, value) in bars {
            let (_, colour) = SIDES[side];
            let width = (scale.x(value) - LEFT).max(1.0);
            let thick = BAR - 1.0;
            let _ = writeln!(
                body,
                r#"<rect x="{LEFT}" y="{y:.1}" width="{width:.1}" height="{thick}" fill="{colour}"/>"#
            );
            let label = format!("{} {name}", number(value));
            text(
                &mut body,
                LEFT + width + 4.0,
                y + BAR - 2.0,
                "start",
                &label,
            );
            y += BAR;
        }
        y += GAP;
    }
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" font-family="sans-serif" font-size="10" fill="#1b1f24">
<rect width="{WIDTH}" height="{height:.0}" fill="#ffffff"/>
"##,
        height = y + GAP
    );
    legend(&mut svg);
    scale.lines(&mut svg, y);
    svg + &body + "</svg>\n"
}

/// The side's number, what the bar is besides, the median.
fn bars(figure: &Figure) -> Vec<(usize, &'static str, f64)> {
    let ours = figure.ours.map(|Quantiles { p50, .. }| (0, "", p50));
    let other = |side, other: &Option<Other>| {
        let other = other.as_ref();
        other.map(|other| (side, other.name, other.quantiles.p50))
    };
    let others = [other(1, &figure.peer), other(2, &figure.limit)];
    let bars = ours.into_iter().chain(others.into_iter().flatten());
    // Nothing has no place on a logarithmic scale.
    bars.filter(|(_, _, value)| *value > 0.0).collect()
}

/// Powers of ten.
struct Scale {
    lowest: i32,
    highest: i32,
}

impl Scale {
    fn around(values: &[f64]) -> Self {
        let power = |value: f64, round: fn(f64) -> f64| {
            (-9..=12)
                .find(|power| f64::from(*power) >= round(value.log10()))
                .unwrap_or(12)
        };
        let least = values.iter().copied().fold(1.0, f64::min);
        let most = values.iter().copied().fold(10.0, f64::max);
        Self {
            lowest: power(least, f64::floor),
            highest: power(most, f64::ceil),
        }
    }

    fn x(&self, value: f64) -> f64 {
        let share =
            (value.log10() - f64::from(self.lowest)) / f64::from(self.highest - self.lowest);
        LEFT + share * (RIGHT - LEFT)
    }

    fn lines(&self, svg: &mut String, bottom: f64) {
        for power in self.lowest..=self.highest {
            let value = 10f64.powi(power);
            let x = self.x(value);
            let top = HEAD - 8.0;
            let _ = writeln!(
                svg,
                r##"<line x1="{x:.1}" y1="{top}" x2="{x:.1}" y2="{bottom:.1}" stroke="#d8dde3"/>"##
            );
            text(svg, x, top - 4.0, "middle", &value.to_string());
        }
    }
}

fn legend(svg: &mut String) {
    let mut x = LEFT;
    for (name, colour) in SIDES {
        let _ = writeln!(
            svg,
            r#"<rect x="{x}" y="10" width="10" height="10" fill="{colour}"/>"#
        );
        text(svg, x + 14.0, 19.0, "start", name);
        x += 130.0;
    }
    let scale = "medians, each in the figure's own unit";
    text(svg, x, 19.0, "start", scale);
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let text = text.trim();
    let _ = writeln!(
        svg,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
    );
}

#[cfg(test)]
mod tests {
    use super::{LEFT, RIGHT, Scale, chart};
    use crate::figure::{Better, Figure, Other, Quantiles};

    #[test]
    fn the_scale_is_logarithmic() {
        let scale = Scale::around(&[0.02, 3000.0]);
        assert_eq!((scale.lowest, scale.highest), (-2, 4));
        assert_eq!((scale.x(0.01), scale.x(10_000.0)), (LEFT, RIGHT));
        assert!((scale.x(10.0) - (LEFT + RIGHT) / 2.0).abs() < 1e-6);
        let nothing = Scale::around(&[]);
        assert!(nothing.lowest < nothing.highest);
    }

    #[test]
    fn the_svg_is_well_formed() {
        let of = |value| Quantiles::of(vec![value], Better::Less).unwrap();
        let mut compared = Figure::ours("a<b", "us", Some(of(0.5)));
        let (name, quantiles) = ("x & y", of(70.0));
        compared.peer = Some(Other { name, quantiles });
        let alone = Figure::ours("alone", "us", Some(of(1.0)));
        let svg = chart(&[compared, alone]);
        assert!(!svg.contains("alone") && !svg.contains("NaN") && !svg.contains("inf"));
        assert!(svg.contains("a&lt;b, us") && svg.contains("x &amp; y"));
        // Every element is closed, in order.
        let mut open = Vec::new();
        for tag in svg.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').expect("a tag without an end");
            let name = tag
                .trim_start_matches('/')
                .split([' ', '/'])
                .next()
                .unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(name);
            }
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        }
        assert!(open.is_empty());
    }
}
