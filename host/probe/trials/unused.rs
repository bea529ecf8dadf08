//! What nothing rests on: operators may want to know it.

use linux_raw::Errno;
use linux_raw::process::{self, CloneFlags};

use super::effect;
use crate::probe::attempt::{Found, in_child};
use crate::probe::raw;

pub(super) fn futex_waitv() -> Found {
    match raw::wait_for_changed_word() {
        Err(Errno::EAGAIN) => Ok(None),
        Err(errno) => Err(errno.into()),
        Ok(()) => effect(false),
    }
}

/// A page that was written must be found.
pub(super) fn pagemap_scan() -> Found {
    effect(raw::scan_finds_a_page()?)
}

/// A child attaches to its parent, which is no descendant of it, as a debugger would to a worker.
/// It lets go when it ends.
pub(super) fn ptrace() -> Found {
    let tracee = process::getpid()?;
    in_child(CloneFlags::empty(), &|| raw::seize(tracee))?;
    Ok(None)
}

/// A finding's value where `/dev/userfaultfd` is the way.
pub(in crate::probe) const BY_DEVICE: u64 = 1;

/// By the system call, which takes a privilege or a sysctl, or else by the device.
pub(super) fn userfaultfd_kernel() -> Found {
    match (raw::userfaultfd_of_kernel(), raw::userfaultfd_device()) {
        (Ok(()), _) => Ok(None),
        (Err(_), Ok(())) => Ok(Some(BY_DEVICE)),
        (Err(errno), Err(_)) => Err(errno.into()),
    }
}
