#![expect(
    unsafe_code,
    reason = "turns an answered number into an owned descriptor"
)]
//! Typed registers: what goes into a system call and what comes out.

use crate::errno::Errno;
use crate::fd::{BorrowedFd, OwnedFd, RawFd};

/// One argument of a system call.
///
/// Built from typed values only, and read by nobody but [`arch`](crate::arch). Pointers expose
/// their provenance on the way in, so that what the kernel writes through them is visible.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Arg(usize);

impl Arg {
    /// A null pointer, or zero where the kernel wants an unused argument to be zero.
    pub const NULL: Self = Self(0);

    /// The register's content.
    #[inline]
    pub(crate) fn register(self) -> usize {
        self.0
    }
}

impl<T> From<*const T> for Arg {
    #[inline]
    fn from(pointer: *const T) -> Self {
        Self(pointer.expose_provenance())
    }
}

impl<T> From<*mut T> for Arg {
    #[inline]
    fn from(pointer: *mut T) -> Self {
        Self(pointer.expose_provenance())
    }
}

impl From<BorrowedFd<'_>> for Arg {
    #[inline]
    fn from(fd: BorrowedFd<'_>) -> Self {
        Self::from(fd.as_raw())
    }
}

impl From<i32> for Arg {
    #[inline]
    fn from(value: i32) -> Self {
        Self(i64::from(value).cast_unsigned().to_register())
    }
}

impl From<u32> for Arg {
    #[inline]
    fn from(value: u32) -> Self {
        Self(u64::from(value).to_register())
    }
}

impl From<u64> for Arg {
    #[inline]
    fn from(value: u64) -> Self {
        Self(value.to_register())
    }
}

impl From<usize> for Arg {
    #[inline]
    fn from(value: usize) -> Self {
        Self(value)
    }
}

/// A 64-bit value as a register; the crate builds for 64-bit architectures only.
trait ToRegister {
    fn to_register(self) -> usize;
}

const _: () = assert!(
    size_of::<usize>() == size_of::<u64>(),
    "registers are 64 bits wide"
);

impl ToRegister for u64 {
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "usize has 64 bits, asserted above"
    )]
    fn to_register(self) -> usize {
        self as usize
    }
}

/// What a system call answered, not yet looked at.
#[derive(Clone, Copy, Debug)]
#[must_use = "a system call can fail"]
#[repr(transparent)]
pub struct Ret(isize);

impl Ret {
    /// The answer register as the kernel left it.
    #[inline]
    pub(crate) fn from_register(value: isize) -> Self {
        Self(value)
    }

    /// The answer as a full register: a length, an address.
    ///
    /// # Errors
    ///
    /// Whatever the call failed with.
    #[inline]
    pub fn value(self) -> Result<usize, Errno> {
        match Errno::from_return(self.0) {
            Some(errno) => Err(errno),
            None => Ok(self.0.cast_unsigned()),
        }
    }

    /// Success alone, for calls that answer zero.
    ///
    /// # Errors
    ///
    /// Whatever the call failed with.
    #[inline]
    pub fn done(self) -> Result<(), Errno> {
        self.value().map(drop)
    }

    /// The answer of a call that returns a C `int` which is not negative.
    ///
    /// # Errors
    ///
    /// Whatever the call failed with.
    #[inline]
    pub fn int(self) -> Result<i32, Errno> {
        self.done()?;
        #[expect(clippy::cast_possible_truncation, reason = "the answer is a C int")]
        Ok(self.0 as i32)
    }

    /// The answer of a call that returns a C `unsigned int`.
    ///
    /// # Errors
    ///
    /// Whatever the call failed with.
    #[inline]
    pub fn word(self) -> Result<u32, Errno> {
        self.int().map(i32::cast_unsigned)
    }

    /// The answer of a call that opened a descriptor.
    ///
    /// # Errors
    ///
    /// Whatever the call failed with.
    ///
    /// # Safety
    ///
    /// The call must be one that answers with a descriptor it has just opened, and nobody else may
    /// own that descriptor.
    #[inline]
    pub unsafe fn fd(self) -> Result<OwnedFd, Errno> {
        let fd: RawFd = self.int()?;
        // SAFETY: the caller promises that the call has just opened this descriptor for us alone.
        Ok(unsafe { OwnedFd::from_raw(fd) })
    }
}
