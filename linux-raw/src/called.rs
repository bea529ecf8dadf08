//! A system call that failed, by its number: for whoever makes several, and says which one it was.

use core::fmt;

use crate::errno::Errno;
use crate::nr::Nr;

/// Which call failed, and what the kernel answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failed(pub Nr, pub Errno);

/// Names the call of an errno.
pub trait Called<T> {
    /// The same result, whose error says that it is this call's.
    ///
    /// # Errors
    ///
    /// The errno that was there before.
    fn called(self, call: Nr) -> Result<T, Failed>;
}

impl<T> Called<T> for Result<T, Errno> {
    fn called(self, call: Nr) -> Result<T, Failed> {
        self.map_err(|errno| Failed(call, errno))
    }
}

/// For whom the answer is enough.
impl From<Failed> for Errno {
    fn from(Failed(_, errno): Failed) -> Self {
        errno
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(call, errno) = self;
        write!(out, "{} failed with {errno}", call.name())
    }
}

impl core::error::Error for Failed {}
