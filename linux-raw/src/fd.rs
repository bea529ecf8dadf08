#![expect(
    unsafe_code,
    reason = "owns descriptors, which are plain numbers to the kernel"
)]
//! File descriptors with owners.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;

use bitflags::bitflags;
use linux_raw_sys::general as sys;
use static_assertions::{assert_impl_all, assert_not_impl_any};

use crate::arch;
use crate::arg::Arg;
use crate::errno::Errno;
use crate::nr;

/// A descriptor as the kernel numbers it.
pub type RawFd = i32;

/// An open descriptor that is closed when this value is dropped.
#[derive(Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct OwnedFd(RawFd);

/// A descriptor that somebody else keeps open for `'fd`.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct BorrowedFd<'fd>(RawFd, PhantomData<&'fd OwnedFd>);

// Two owners would close it twice.
assert_not_impl_any!(OwnedFd: Clone, Copy);
assert_impl_all!(OwnedFd: Send, Sync);

/// What has a descriptor to lend.
pub trait AsFd {
    /// Lends the descriptor.
    fn as_fd(&self) -> BorrowedFd<'_>;
}

impl OwnedFd {
    /// Takes over a descriptor.
    ///
    /// # Safety
    ///
    /// `fd` must be open, and nobody else may close it or count on it from here on.
    #[must_use]
    pub const unsafe fn from_raw(fd: RawFd) -> Self {
        Self(fd)
    }

    /// The number; the descriptor stays owned by this value.
    #[must_use]
    pub const fn as_raw(&self) -> RawFd {
        self.0
    }

    /// Gives up ownership without closing.
    #[must_use = "the descriptor stays open, and nobody owns it"]
    pub fn into_raw(self) -> RawFd {
        ManuallyDrop::new(self).as_raw()
    }
}

impl Drop for OwnedFd {
    fn drop(&mut self) {
        // SAFETY: we own the descriptor, and after this nobody can name it through us.
        let closed = unsafe { arch::syscall1(nr::CLOSE, self.0.into()) };
        // Whatever close says, the descriptor is gone: there is nothing to repeat or report.
        let _ = closed.done();
    }
}

impl<'fd> BorrowedFd<'fd> {
    /// Lends a descriptor by its number.
    ///
    /// # Safety
    ///
    /// `fd` must stay open for `'fd`.
    #[must_use]
    pub const unsafe fn borrow_raw(fd: RawFd) -> Self {
        Self(fd, PhantomData)
    }

    /// The number.
    #[must_use]
    pub const fn as_raw(self) -> RawFd {
        self.0
    }
}

impl AsFd for OwnedFd {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        BorrowedFd(self.0, PhantomData)
    }
}

impl AsFd for BorrowedFd<'_> {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        *self
    }
}

impl<T: AsFd + ?Sized> AsFd for &T {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        T::as_fd(self)
    }
}

/// Makes `slot` another descriptor of the file behind `fd`, not close-on-exec, replacing whatever
/// `slot` was (`dup3`).
///
/// Since Linux 2.6.27.
///
/// # Errors
///
/// `EINVAL` if `slot` is `fd` itself, `EBADF` if `slot` is beyond the limit, `EBUSY` if another
/// thread is just opening `slot`.
///
/// # Safety
///
/// Nobody may own or count on the descriptor that `slot` was, in this table of descriptors.
pub unsafe fn dup_to(fd: impl AsFd, slot: RawFd) -> Result<(), Errno> {
    // SAFETY: nothing is passed but numbers; `slot` is free to be replaced, by contract.
    let answer = unsafe { arch::syscall3(nr::DUP3, fd.as_fd().into(), slot.into(), Arg::NULL) };
    answer.done()
}

/// Another descriptor of the same open file, close-on-exec, with the lowest free number that is at
/// least `min` (`F_DUPFD_CLOEXEC`).
///
/// Since Linux 2.6.24.
///
/// # Errors
///
/// `EMFILE` if there is no number free, `EINVAL` if `min` is negative or beyond the limit.
pub fn dup_cloexec_min(fd: impl AsFd, min: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: nothing is passed but numbers, and the new descriptor is one nobody had.
    let answer = unsafe {
        arch::syscall3(
            nr::FCNTL,
            fd.as_fd().into(),
            sys::F_DUPFD_CLOEXEC.into(),
            min.into(),
        )
    };
    // SAFETY: F_DUPFD_CLOEXEC answers with a descriptor it has just opened.
    unsafe { answer.fd() }
}

/// Sets or clears close-on-exec (`F_SETFD`).
///
/// Since Linux 1.0.
///
/// # Errors
///
/// `EBADF` only.
pub fn set_cloexec(fd: impl AsFd, close: bool) -> Result<(), Errno> {
    // SAFETY: nothing is passed but numbers; the flag matters at an exec only.
    let answer = unsafe {
        arch::syscall3(
            nr::FCNTL,
            fd.as_fd().into(),
            sys::F_SETFD.into(),
            u32::from(close).into(),
        )
    };
    answer.done()
}

bitflags! {
    /// How [`close_range`] closes.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct CloseRangeFlags: u32 {
        /// First leave a table of descriptors that is shared with others, copying only what stays.
        const UNSHARE = 1 << 1;
        /// Marks them to be closed at the next exec, instead of closing them. Since Linux 5.11.
        const CLOEXEC = 1 << 2;
    }
}

/// Closes every descriptor from `first` to `last`, both included.
///
/// Since Linux 5.9.
///
/// # Errors
///
/// `EINVAL` for an unknown flag or `first > last`; with `UNSHARE` also `EMFILE` and `ENOMEM`.
///
/// # Safety
///
/// Nobody may own or count on a descriptor in the range, in the table that is changed.
pub unsafe fn close_range(first: u32, last: u32, flags: CloseRangeFlags) -> Result<(), Errno> {
    // SAFETY: nothing is passed but numbers; the range is free to be closed, by contract.
    let answer = unsafe {
        arch::syscall3(
            nr::CLOSE_RANGE,
            first.into(),
            last.into(),
            flags.bits().into(),
        )
    };
    answer.done()
}
