#![expect(unsafe_code, reason = "execs and ends processes")]
//! Starting and ending processes, and asking who this is.

use core::ffi::{CStr, c_char};
use core::num::NonZeroU32;

use bitflags::bitflags;
use linux_raw_sys::general as sys;

use crate::arch;
use crate::arg::Ret;
use crate::errno::Errno;
use crate::fd::AsFd;
use crate::nr;

pub use crate::clone::{CloneArgs, CloneBy, CloneFlags, Cloned, Stack, clone_copy, clone_vm};
pub use crate::limit::{Limit, Resource, get_limit, set_limit};

/// A process or thread number, as seen in the caller's pid namespace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Pid(NonZeroU32);

impl Pid {
    /// The process with this number, unless it is zero.
    #[must_use]
    pub const fn from_raw(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0.get()
    }

    /// The answer of a call that names a process, which is never zero.
    pub(crate) fn answered(answer: Ret) -> Result<Self, Errno> {
        Self::from_raw(answer.word()?).ok_or(Errno::ESRCH)
    }
}

bitflags! {
    /// How [`execveat`] finds its file.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct AtFlags: u32 {
        /// The descriptor is the file; the path is empty.
        const EMPTY_PATH = sys::AT_EMPTY_PATH;
    }
}

/// Replaces this process by the program at `path` from `fd`; answers only if that fails.
///
/// Since Linux 3.19.
///
/// # Errors
///
/// The answer: `ENOENT`, `EACCES`, `ENOEXEC`, `ENOMEM`, `E2BIG`, `EAGAIN` at a limit of processes
/// and so on. Past a point the kernel kills instead of answering.
///
/// # Safety
///
/// `argv` and `envp` must be arrays of C strings that end with a null pointer.
pub unsafe fn execveat(
    fd: impl AsFd,
    path: &CStr,
    argv: *const *const c_char,
    envp: *const *const c_char,
    flags: AtFlags,
) -> Errno {
    // SAFETY: the path ends with a NUL, and the arrays are the caller's promise. On success
    // nothing of this program is left to be unsound.
    let answer = unsafe {
        arch::syscall5(
            nr::EXECVEAT,
            fd.as_fd().into(),
            path.as_ptr().into(),
            argv.into(),
            envp.into(),
            flags.bits().into(),
        )
    };
    // An exec that answers has failed; a kernel that says otherwise is out of its mind.
    answer.done().err().unwrap_or(Errno::ENOEXEC)
}

/// Ends the process; the low eight bits of the code reach whoever waits.
///
/// Since Linux 2.6.
pub fn exit_group(code: i32) -> ! {
    // SAFETY: exit_group does not return.
    unsafe { arch::syscall1_noreturn(nr::EXIT_GROUP, code.into()) }
}

macro_rules! ask {
    ($(#[$doc:meta])* $name:ident, $nr:ident) => {
        $(#[$doc])*
        #[must_use]
        pub fn $name() -> u32 {
            // SAFETY: the call takes nothing and changes nothing.
            let answer = unsafe { arch::syscall0(nr::$nr) };
            // See the documentation above.
            answer.word().unwrap_or(u32::MAX)
        }
    };
}

ask! {
    /// The effective user. Since Linux 1.0. Cannot fail; `u32::MAX` under a filter that answers for
    /// it.
    geteuid, GETEUID
}
ask! {
    /// The effective group. Since Linux 1.0. Cannot fail; `u32::MAX` under a filter that answers
    /// for it.
    getegid, GETEGID
}

ask! {
    /// The process that made this one, or that got it since; 0 if it is outside of the pid
    /// namespace. Since Linux 1.0. Cannot fail; `u32::MAX` under a filter that answers for it.
    getppid, GETPPID
}

/// This process.
///
/// Since Linux 1.0.
///
/// # Errors
///
/// None, except from a filter.
pub fn getpid() -> Result<Pid, Errno> {
    // SAFETY: the call takes nothing and changes nothing.
    Pid::answered(unsafe { arch::syscall0(nr::GETPID) })
}

/// This thread, whose number the process' first thread shares with the process.
///
/// Since Linux 2.4.11.
///
/// # Errors
///
/// None, except from a filter.
pub fn gettid() -> Result<Pid, Errno> {
    // SAFETY: the call takes nothing and changes nothing.
    Pid::answered(unsafe { arch::syscall0(nr::GETTID) })
}

/// Leaves the terminal and the process group: a new session, whose number is answered.
///
/// Since Linux 1.0.
///
/// # Errors
///
/// `EPERM` if the process leads a group already.
pub fn setsid() -> Result<Pid, Errno> {
    // SAFETY: the call takes nothing and touches no memory.
    Pid::answered(unsafe { arch::syscall0(nr::SETSID) })
}

/// Lets others run.
///
/// Since Linux 2.0.
#[inline]
pub fn sched_yield() {
    // SAFETY: the call takes nothing and touches no memory.
    let answer = unsafe { arch::syscall0(nr::SCHED_YIELD) };
    // It always succeeds, and a caller could do nothing about it if not.
    let _ = answer.done();
}
