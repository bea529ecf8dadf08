#![expect(unsafe_code, reason = "makes the calls on scheduling")]
//! How and where a thread is scheduled: policy, nice value, CPUs.

use linux_raw_sys::general as sys;

use crate::arch;
use crate::arg::Arg;
use crate::errno::Errno;
use crate::nr;
use crate::process::Pid;

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

/// Lets the calling thread run on the CPUs of a mask alone: bit `n` of the words is CPU `n`.
///
/// CPUs that the machine or the cpuset lacks are left out.
///
/// Since Linux 2.5.8.
///
/// # Errors
///
/// `EINVAL` if no CPU would be left.
pub fn set_affinity(mask: &[u64]) -> Result<(), Errno> {
    // SAFETY: the kernel reads at most as many bytes as it is told, which there are; thread 0 is
    // this one.
    let answer = unsafe {
        arch::syscall3(
            nr::SCHED_SETAFFINITY,
            Arg::NULL,
            size_of_val(mask).into(),
            mask.as_ptr().into(),
        )
    };
    answer.done()
}

/// The CPUs that a thread may run on, `None` being this one: bit `n` of the words is CPU `n`.
///
/// Answers how many bytes of `mask` were written: a whole number of words, which depends on how
/// many CPUs the kernel is made for. The rest stays as it was.
///
/// Since Linux 2.5.8.
///
/// # Errors
///
/// `EINVAL` if `mask` has no room for all CPUs that the kernel may have, `ESRCH` if there is no
/// such thread.
pub fn get_affinity(thread: Option<Pid>, mask: &mut [u64]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most as many bytes as it is told, which there are.
    let answer = unsafe {
        arch::syscall3(
            nr::SCHED_GETAFFINITY,
            thread.map_or(0, Pid::raw).into(),
            size_of_val(mask).into(),
            mask.as_mut_ptr().into(),
        )
    };
    answer.value()
}

/// Sets the calling thread's nice value, -20 to 19; beyond is brought into that range.
///
/// Since Linux 1.0.
///
/// # Errors
///
/// `EACCES` to lower it without `CAP_SYS_NICE` below what
/// [`Resource::Nice`](crate::process::Resource::Nice) allows.
pub fn set_nice(nice: i32) -> Result<(), Errno> {
    // SAFETY: nothing is passed but numbers; thread 0 is this one.
    let answer = unsafe {
        arch::syscall3(
            nr::SETPRIORITY,
            sys::PRIO_PROCESS.into(),
            Arg::NULL,
            nice.into(),
        )
    };
    answer.done()
}

/// The calling thread's nice value, -20 to 19.
///
/// Since Linux 1.0.
///
/// # Errors
///
/// None, except from a filter.
pub fn nice() -> Result<i32, Errno> {
    // SAFETY: nothing is passed but numbers; thread 0 is this one.
    let answer = unsafe { arch::syscall2(nr::GETPRIORITY, sys::PRIO_PROCESS.into(), Arg::NULL) };
    Ok(20i32.saturating_sub(answer.int()?)) // the kernel answers 1 to 40, never a negative number
}

#[cfg(test)]
mod tests {
    use super::{Policy, get_affinity, nice, policy, set_affinity, set_nice, set_normal};
    use crate::errno::Errno;

    #[test]
    fn a_thread_returns_to_normal() {
        std::thread::spawn(|| {
            set_normal().unwrap();
            assert_eq!(policy(), Ok(Policy::NORMAL));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_becomes_nicer() {
        std::thread::spawn(|| {
            let before = nice().unwrap();
            let after = (before + 1).min(19);
            set_nice(after).unwrap();
            assert_eq!(nice(), Ok(after));
            set_nice(100).unwrap();
            assert_eq!(nice(), Ok(19));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_stays_on_one_cpu() {
        std::thread::spawn(|| {
            let mut all = [0u64; 1024];
            let bytes = get_affinity(None, &mut all).unwrap();
            assert!(bytes.is_multiple_of(8) && bytes <= size_of_val(&all));
            let word = all.iter().position(|word| *word != 0).unwrap();
            let mut one = [0u64; 1024];
            one[word] = all[word] & all[word].wrapping_neg();
            set_affinity(&one).unwrap();
            let mut now = [0u64; 1024];
            assert_eq!(get_affinity(None, &mut now), Ok(bytes));
            assert_eq!(now, one);
            assert_eq!(set_affinity(&[]), Err(Errno::EINVAL));
            assert_eq!(get_affinity(None, &mut []), Err(Errno::EINVAL));
        })
        .join()
        .unwrap();
    }
}
