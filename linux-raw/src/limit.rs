#![expect(unsafe_code, reason = "makes the call on limits")]
//! Resource limits.

use linux_raw_sys::general as sys;

use crate::arch;
use crate::arg::Arg;
use crate::errno::Errno;
use crate::nr;

/// What a limit is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Resource {
    /// Length of files written, in bytes.
    FileSize = sys::RLIMIT_FSIZE,
    /// Private writable memory, in bytes.
    Data = sys::RLIMIT_DATA,
    /// Core dumps, in bytes.
    Core = sys::RLIMIT_CORE,
    /// Processes and threads of this user.
    Processes = sys::RLIMIT_NPROC,
    /// One more than the largest descriptor.
    Files = sys::RLIMIT_NOFILE,
    /// Locked memory, in bytes.
    LockedMemory = sys::RLIMIT_MEMLOCK,
    /// All that is mapped, in bytes.
    AddressSpace = sys::RLIMIT_AS,
    /// Signals that wait to be delivered.
    PendingSignals = sys::RLIMIT_SIGPENDING,
    /// POSIX message queues, in bytes.
    MessageQueues = sys::RLIMIT_MSGQUEUE,
    /// How far the nice value may be raised.
    Nice = sys::RLIMIT_NICE,
    /// The highest real-time priority.
    RealtimePriority = sys::RLIMIT_RTPRIO,
}

/// A limit: the soft one counts, and may be raised up to the hard one (`struct rlimit64`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Limit {
    /// What counts.
    pub soft: u64,
    /// How far `soft` can go; raising this needs a privilege.
    pub hard: u64,
}

same_layout!(Limit, sys::rlimit64: soft = rlim_cur, hard = rlim_max);

/// Answers a limit of this process, and sets it if there is a new one (`prlimit64`).
fn prlimit(resource: Resource, new: Option<Limit>) -> Result<Limit, Errno> {
    let mut old = Limit { soft: 0, hard: 0 };
    let new = new
        .as_ref()
        .map_or(Arg::NULL, |new| Arg::from(&raw const *new));
    // SAFETY: both structs have the kernel's layout and outlive the call.
    let answer = unsafe {
        arch::syscall4(
            nr::PRLIMIT64,
            Arg::NULL, // this process
            (resource as u32).into(),
            new,
            (&raw mut old).into(),
        )
    };
    answer.done().map(|()| old)
}

/// Sets a limit of this process.
///
/// Since Linux 2.6.36.
///
/// # Errors
///
/// `EPERM` to raise a hard limit, `EINVAL` if soft exceeds hard.
pub fn set_limit(resource: Resource, soft: u64, hard: u64) -> Result<(), Errno> {
    prlimit(resource, Some(Limit { soft, hard })).map(drop)
}

/// A limit of this process.
///
/// Since Linux 2.6.36.
///
/// # Errors
///
/// None, except from a filter.
pub fn get_limit(resource: Resource) -> Result<Limit, Errno> {
    prlimit(resource, None)
}
