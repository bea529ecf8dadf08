//! The errors that a host answers with.

use core::fmt;

/// A Linux error number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(u16);

impl Errno {
    /// Input or output failed.
    pub const IO: Self = Self(5);
    /// No such handle, or not one for this direction.
    pub const BADF: Self = Self(9);
    /// An address outside the guest's memory.
    pub const FAULT: Self = Self(14);
    /// An argument that makes no sense.
    pub const INVAL: Self = Self(22);
    /// Nobody reads what is written any more.
    pub const PIPE: Self = Self(32);
    /// No such hostcall.
    pub const NOSYS: Self = Self(38);

    /// The largest number that stands for an error in a hostcall's answer.
    const MAX: u16 = 4095;

    /// From its number; anything that is none becomes [`Errno::IO`].
    #[must_use]
    pub fn from_raw(number: i32) -> Self {
        match u16::try_from(number) {
            Ok(number @ 1..=Self::MAX) => Self(number),
            _ => Self::IO,
        }
    }

    /// Its number, as in the kernel's headers.
    #[must_use]
    pub fn raw(self) -> u16 {
        self.0
    }

    /// Splits a hostcall's answer into a value and a negated errno.
    ///
    /// # Errors
    ///
    /// The errno, where the answer is one.
    pub fn from_answer(answer: u64) -> Result<u64, Self> {
        let negated = answer.wrapping_neg();
        match u16::try_from(negated) {
            Ok(number @ 1..=Self::MAX) => Err(Self(number)),
            _ => Ok(answer),
        }
    }

    fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::IO => "EIO",
            Self::BADF => "EBADF",
            Self::FAULT => "EFAULT",
            Self::INVAL => "EINVAL",
            Self::PIPE => "EPIPE",
            Self::NOSYS => "ENOSYS",
            _ => return None,
        })
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => out.write_str(name),
            None => write!(out, "errno {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl core::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString as _;

    #[test]
    fn answers_split_into_values_and_errors() {
        assert_eq!(Errno::from_answer(0), Ok(0));
        assert_eq!(Errno::from_answer(1 << 63), Ok(1 << 63));
        assert_eq!(Errno::from_answer(14u64.wrapping_neg()), Err(Errno::FAULT));
        assert!(Errno::from_answer(4095u64.wrapping_neg()).is_err());
        assert!(Errno::from_answer(4096u64.wrapping_neg()).is_ok());
    }

    #[test]
    fn numbers_have_names() {
        assert_eq!(Errno::from_raw(32).to_string(), "EPIPE");
        assert_eq!(Errno::from_raw(7).to_string(), "errno 7");
        assert_eq!(Errno::from_raw(-1), Errno::IO);
    }
}
