//! What one look found, and how it compares with what must be there.

use std::fmt::Display;

use cellwall::Layer;

use super::proc::Read;
use crate::row::{Row, Verdict};

/// The group of all rows of this part of the audit.
pub(crate) const GROUP: &str = "outside";

/// One look at a layer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) look: String,
    pub(super) expected: String,
    pub(super) outcome: String,
    pub(super) verdict: Verdict,
}

impl Finding {
    pub(super) fn new(
        look: impl Into<String>,
        expected: impl Into<String>,
        outcome: impl Into<String>,
        holds: bool,
    ) -> Self {
        Self {
            look: look.into(),
            expected: expected.into(),
            outcome: outcome.into(),
            verdict: if holds {
                Verdict::Holds
            } else {
                Verdict::Broken
            },
        }
    }

    /// The same with another verdict, if it holds.
    pub(super) fn holding_as(mut self, verdict: Verdict) -> Self {
        if self.verdict == Verdict::Holds {
            self.verdict = verdict;
        }
        self
    }

    /// Something was read, or not, and a rule says whether it is as it must be.
    pub(super) fn judged<T: Display>(
        look: impl Into<String>,
        expected: impl Into<String>,
        found: Read<T>,
        holds: impl FnOnce(&T) -> bool,
    ) -> Self {
        match found {
            Ok(found) => {
                let good = holds(&found);
                Self::new(look, expected, or_nothing(&found.to_string()), good)
            }
            Err(unread) => Self {
                look: look.into(),
                expected: expected.into(),
                outcome: unread.to_string(),
                verdict: Verdict::Unverified,
            },
        }
    }

    /// What was read must be this and nothing else.
    pub(super) fn equal<T: Display + PartialEq>(
        look: impl Into<String>,
        expected: T,
        found: Read<T>,
    ) -> Self {
        let text = or_nothing(&expected.to_string());
        Self::judged(look, text, found, |found| *found == expected)
    }

    /// A list of complaints, which must be empty.
    pub(super) fn faultless(
        look: impl Into<String>,
        expected: impl Into<String>,
        faults: Read<Vec<String>>,
    ) -> Self {
        let expected = expected.into();
        let good = expected.clone();
        let told = faults.map(|faults| {
            if faults.is_empty() {
                good.clone()
            } else {
                faults.join("; ")
            }
        });
        Self::judged(look, expected, told, |told| *told == good)
    }

    pub(super) fn about(self, layer: Layer) -> Row {
        Row {
            group: GROUP,
            attempt: self.look,
            expected: self.expected,
            outcome: self.outcome,
            layer: layer.name().into(),
            verdict: self.verdict,
        }
    }
}

fn or_nothing(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() {
        "nothing".into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::Finding;
    use crate::outside::proc::silent;
    use crate::row::Verdict;

    #[test]
    fn verdicts() {
        let equal = |found| Finding::equal("look", 0, found).verdict;
        assert_eq!(equal(Ok(0)), Verdict::Holds);
        assert_eq!(equal(Ok(1)), Verdict::Broken);
        assert_eq!(
            equal(Err(silent("file", "is not there"))),
            Verdict::Unverified
        );
        let faults = |faults| Finding::faultless("look", "none", faults).verdict;
        assert_eq!(faults(Ok(vec![])), Verdict::Holds);
        assert_eq!(faults(Ok(vec!["a hole".into()])), Verdict::Broken);
        assert_eq!(faults(Err(silent("file", "why"))), Verdict::Unverified);
    }
}
