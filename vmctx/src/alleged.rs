//! Words that the other side wrote: read once, check, then believe.

use core::fmt;
use core::ops::Range;

/// A value that a worker claims. It gives nothing until it has been checked.
///
/// It is made from *one* load, so that what was checked is what is used.
#[derive(Clone, Copy, Debug)]
pub struct Alleged<T>(T);

/// A word that no honest worker writes. The worker that wrote it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forged {
    /// Which word.
    pub word: &'static str,
    /// What it said.
    pub value: u64,
}

impl<T: Copy> Alleged<T> {
    /// Wraps what one load gave.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value where any value is as good as any other: a guest's own argument, a report
    /// that is only shown. Never an index, a length or an address that we will use.
    #[must_use]
    pub const fn opaque(self) -> T {
        self.0
    }

    pub(crate) const fn unchecked(self) -> T {
        self.0
    }
}

impl Alleged<u32> {
    /// The value, if `legal` holds it.
    ///
    /// # Errors
    ///
    /// [`Forged`], naming `word`, if it does not.
    pub const fn check(self, word: &'static str, legal: &Range<u32>) -> Result<u32, Forged> {
        if legal.start <= self.0 && self.0 < legal.end {
            Ok(self.0)
        } else {
            Err(Forged {
                word,
                value: self.0 as u64,
            })
        }
    }
}

impl Alleged<u64> {
    /// The value, if `legal` holds it.
    ///
    /// # Errors
    ///
    /// [`Forged`], naming `word`, if it does not.
    pub const fn check(self, word: &'static str, legal: &Range<u64>) -> Result<u64, Forged> {
        if legal.start <= self.0 && self.0 < legal.end {
            Ok(self.0)
        } else {
            Err(Forged {
                word,
                value: self.0,
            })
        }
    }
}

impl fmt::Display for Forged {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "the worker wrote {:#x} into the word \"{}\"",
            self.value, self.word
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Alleged;

    #[test]
    fn only_legal_values_come_out() {
        assert_eq!(Alleged::new(4u32).check("x", &(4..9)), Ok(4));
        assert_eq!(Alleged::new(8u32).check("x", &(4..9)), Ok(8));
        assert!(Alleged::new(9u32).check("x", &(4..9)).is_err());
        assert!(Alleged::new(3u64).check("x", &(4..9)).is_err());
        let forged = Alleged::new(u64::MAX).check("pc", &(0..9)).unwrap_err();
        assert_eq!((forged.word, forged.value), ("pc", u64::MAX));
    }
}
