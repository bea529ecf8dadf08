//! A system call that failed, by its name.

use linux_raw::Errno;
use linux_raw::nr::Nr;

/// Which call, and what the kernel answered.
pub(crate) struct Failed(pub(crate) Nr, pub(crate) Errno);

/// Names the call of an errno.
pub(crate) trait Called<T> {
    fn called(self, call: Nr) -> Result<T, Failed>;
}

impl<T> Called<T> for Result<T, Errno> {
    fn called(self, call: Nr) -> Result<T, Failed> {
        self.map_err(|errno| Failed(call, errno))
    }
}
