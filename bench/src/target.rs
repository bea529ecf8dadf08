//! What a figure of ours is to reach, said before it was measured.

use std::fmt;

use crate::figure::Figure;

/// What ours is compared with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Of {
    /// Nothing: the median in the figure's unit.
    Itself,
    /// The peer: [`Figure::ratio_to_peer`].
    Peer,
    /// The limit: [`Figure::ratio_to_limit`].
    Limit,
}

/// A bound of a median or of a ratio.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Target {
    /// No more than this.
    AtMost(f64, Of),
    /// No less than this.
    AtLeast(f64, Of),
}

/// What came of a target.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Verdict {
    /// The target.
    pub target: Target,
    /// What was found; `None` where a side that it takes is absent.
    pub found: Option<f64>,
}

impl Target {
    /// Whether a figure reaches it.
    #[must_use]
    pub fn verdict(self, figure: &Figure) -> Verdict {
        let (Self::AtMost(_, of) | Self::AtLeast(_, of)) = self;
        let found = match of {
            Of::Itself => figure.ours.map(|ours| ours.p50),
            Of::Peer => figure.ratio_to_peer,
            Of::Limit => figure.ratio_to_limit,
        };
        Verdict {
            target: self,
            found,
        }
    }
}

impl Verdict {
    /// Whether it is reached, if that is known.
    #[must_use]
    pub fn is_reached(&self) -> Option<bool> {
        self.found.map(|found| match self.target {
            Target::AtMost(bound, _) => found <= bound,
            Target::AtLeast(bound, _) => found >= bound,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, bound, of) = match *self {
            Self::AtMost(bound, of) => ("≤", bound, of),
            Self::AtLeast(bound, of) => ("≥", bound, of),
        };
        let of = match of {
            Of::Itself => "",
            Of::Peer => " × peer",
            Of::Limit => " × limit",
        };
        write!(out, "{sign} {bound}{of}")
    }
}

/// "≤ 2 × limit: reached"
impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.is_reached() {
            Some(true) => "reached",
            Some(false) => "**missed**",
            None => "not known",
        };
        write!(out, "{}: {word}", self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::{Of, Target};
    use crate::figure::{Better, Figure, Quantiles};

    #[test]
    fn a_target_is_reached_missed_or_not_known() {
        let quantiles = |value| Quantiles::of(vec![value], Better::Less);
        let figure = Figure::ours("", "us", quantiles(4.0)).with_limit("", quantiles(2.0));
        let cases = [
            (Target::AtMost(4.0, Of::Itself), "≤ 4: reached"),
            (Target::AtMost(3.9, Of::Itself), "≤ 3.9: **missed**"),
            (Target::AtMost(2.0, Of::Limit), "≤ 2 × limit: reached"),
            (Target::AtLeast(2.5, Of::Limit), "≥ 2.5 × limit: **missed**"),
            (Target::AtLeast(1.0, Of::Peer), "≥ 1 × peer: not known"),
        ];
        for (target, expected) in cases {
            assert_eq!(target.verdict(&figure).to_string(), expected);
        }
    }
}
