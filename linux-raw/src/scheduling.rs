#![expect(unsafe_code, reason = "makes the calls on scheduling policies")]
//! Under which policy a thread is scheduled.

use linux_raw_sys::general as sys;

use crate::arch;
use crate::arg::Arg;
use crate::errno::Errno;
use crate::nr;

/// A scheduling policy (sched(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy(u32);

impl Policy {
    /// The default: every thread gets its share, by its nice value.
    pub const NORMAL: Self = Self(sys::SCHED_NORMAL);
    /// Like the default, for threads that never wait for a person.
    pub const BATCH: Self = Self(sys::SCHED_BATCH);
    /// Only when nothing else wants to run.
    pub const IDLE: Self = Self(sys::SCHED_IDLE);

    /// The kernel's number.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }
}

/// Asks for the calling thread's policy. Its reset-on-fork flag is left out.
///
/// Since Linux 2.0.
///
/// # Errors
///
/// None that this thread itself can meet, except under a filter that answers for the call.
pub fn policy() -> Result<Policy, Errno> {
    // SAFETY: nothing is passed but the number 0, which is this thread.
    let answer = unsafe { arch::syscall1(nr::SCHED_GETSCHEDULER, Arg::NULL) };
    Ok(Policy(answer.word()? & !sys::SCHED_RESET_ON_FORK))
}

/// Puts the calling thread under [`Policy::NORMAL`]. The nice value stays.
///
/// Since Linux 2.0.
///
/// # Errors
///
/// `EPERM` to leave [`Policy::IDLE`] without `CAP_SYS_NICE` in the first user namespace. Leaving a
/// real-time policy needs no privilege.
pub fn set_normal() -> Result<(), Errno> {
    // `struct sched_param` is this one number: no policy but the real-time ones has a priority.
    let priority: i32 = 0;
    // SAFETY: the kernel reads one number; thread 0 is this one.
    let answer = unsafe {
        arch::syscall3(
            nr::SCHED_SETSCHEDULER,
            Arg::NULL,
            Policy::NORMAL.raw().into(),
            (&raw const priority).into(),
        )
    };
    answer.done()
}

#[cfg(test)]
mod tests {
    use super::{Policy, policy, set_normal};

    #[test]
    fn a_thread_returns_to_normal() {
        std::thread::spawn(|| {
            set_normal().unwrap();
            assert_eq!(policy(), Ok(Policy::NORMAL));
        })
        .join()
        .unwrap();
    }
}
