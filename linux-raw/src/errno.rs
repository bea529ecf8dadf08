//! Error numbers: what a failed system call says.

use core::fmt;
use core::num::NonZeroU16;

use linux_raw_sys::errno;

/// The largest number that a system call can fail with; anything past it is an answer.
const MAX: u16 = 4095;

/// Why a system call failed.
///
/// Not only the named numbers: a kernel newer than this list may answer with one of its own, which
/// is kept as it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Errno(NonZeroU16);

impl Errno {
    /// The error with this number, or `None` for zero and for numbers no call can fail with.
    #[must_use]
    pub const fn from_raw(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(number) if number.get() <= MAX => Some(Self(number)),
            _ => None,
        }
    }

    /// The number, 1 to 4095.
    #[must_use]
    pub const fn raw(self) -> u16 {
        self.0.get()
    }

    /// The error in a negated return value: of a system call, or of an `io_uring` completion.
    #[must_use]
    #[inline]
    pub fn from_return(value: isize) -> Option<Self> {
        // Answers become negative here and fall out of the u16; so does everything below -65535.
        Self::from_raw(u16::try_from(value.checked_neg()?).ok()?)
    }

    /// One of the named constants below.
    const fn named(number: u32) -> Self {
        assert!(
            number >= 1 && number <= 133,
            "not one of the kernel's error numbers"
        );
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most 133, asserted above"
        )]
        Self(NonZeroU16::MIN.saturating_add(number as u16 - 1))
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", self.name(), self.raw())
    }
}

impl core::error::Error for Errno {}

macro_rules! named {
    ($($name:ident,)*) => {
        impl Errno {
            $(
                #[doc = concat!("`", stringify!($name), "`, as `<linux/errno.h>` has it.")]
                pub const $name: Self = Self::named(errno::$name);
            )*

            /// The C name, such as `EPERM`, or `unknown` for a number this crate has no name for.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                    _ => "unknown",
                }
            }

            /// Every error that has a name here.
            pub const NAMED: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

named! {
    EPERM, ENOENT, ESRCH, EINTR, EIO, ENXIO, E2BIG, ENOEXEC, EBADF, ECHILD, EAGAIN, ENOMEM,
    EACCES, EFAULT, ENOTBLK, EBUSY, EEXIST, EXDEV, ENODEV, ENOTDIR, EISDIR, EINVAL, ENFILE,
    EMFILE, ENOTTY, ETXTBSY, EFBIG, ENOSPC, ESPIPE, EROFS, EMLINK, EPIPE, EDOM, ERANGE, EDEADLK,
    ENAMETOOLONG, ENOLCK, ENOSYS, ENOTEMPTY, ELOOP, ENOMSG, EIDRM, ECHRNG, EL2NSYNC, EL3HLT,
    EL3RST, ELNRNG, EUNATCH, ENOCSI, EL2HLT, EBADE, EBADR, EXFULL, ENOANO, EBADRQC, EBADSLT,
    EBFONT, ENOSTR, ENODATA, ETIME, ENOSR, ENONET, ENOPKG, EREMOTE, ENOLINK, EADV, ESRMNT, ECOMM,
    EPROTO, EMULTIHOP, EDOTDOT, EBADMSG, EOVERFLOW, ENOTUNIQ, EBADFD, EREMCHG, ELIBACC, ELIBBAD,
    ELIBSCN, ELIBMAX, ELIBEXEC, EILSEQ, ERESTART, ESTRPIPE, EUSERS, ENOTSOCK, EDESTADDRREQ,
    EMSGSIZE, EPROTOTYPE, ENOPROTOOPT, EPROTONOSUPPORT, ESOCKTNOSUPPORT, EOPNOTSUPP, EPFNOSUPPORT,
    EAFNOSUPPORT, EADDRINUSE, EADDRNOTAVAIL, ENETDOWN, ENETUNREACH, ENETRESET, ECONNABORTED,
    ECONNRESET, ENOBUFS, EISCONN, ENOTCONN, ESHUTDOWN, ETOOMANYREFS, ETIMEDOUT, ECONNREFUSED,
    EHOSTDOWN, EHOSTUNREACH, EALREADY, EINPROGRESS, ESTALE, EUCLEAN, ENOTNAM, ENAVAIL, EISNAM,
    EREMOTEIO, EDQUOT, ENOMEDIUM, EMEDIUMTYPE, ECANCELED, ENOKEY, EKEYEXPIRED, EKEYREVOKED,
    EKEYREJECTED, EOWNERDEAD, ENOTRECOVERABLE, ERFKILL, EHWPOISON,
}

#[cfg(test)]
mod tests {
    use super::Errno;
    use std::format;

    #[test]
    fn names_and_numbers() {
        assert_eq!(Errno::EPERM.raw(), 1);
        assert_eq!(Errno::EHWPOISON.raw(), 133);
        assert_eq!(format!("{}", Errno::EPERM), "EPERM (1)");
        assert_eq!(Errno::from_raw(41).map(Errno::name), Some("unknown"));
        for number in (1..=133).filter(|number| ![41, 58].contains(number)) {
            let errno = Errno::from_raw(number).unwrap();
            assert!(errno.name().starts_with('E'), "{number}");
            assert!(Errno::NAMED.contains(&errno));
        }
    }

    #[test]
    fn only_the_top_page_is_an_error() {
        assert_eq!(Errno::from_return(0), None);
        assert_eq!(Errno::from_return(7), None);
        assert_eq!(Errno::from_return(-1), Some(Errno::EPERM));
        assert_eq!(Errno::from_return(-4095).map(Errno::raw), Some(4095));
        assert_eq!(Errno::from_return(-4096), None);
        assert_eq!(Errno::from_return(isize::MIN), None);
    }
}
