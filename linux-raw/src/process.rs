#![expect(unsafe_code, reason = "execs and ends processes")]
//! Starting and ending processes, and asking who this is.

use core::ffi::{CStr, c_char};
use core::num::NonZeroU32;

use bitflags::bitflags;
use linux_raw_sys::general as sys;

use crate::arch;
use crate::arg::{Arg, Ret};
use crate::errno::Errno;
use crate::fd::AsFd;
use crate::nr;
use crate::signal::Signal;

pub use crate::clone::{CloneArgs, CloneFlags, Cloned, Stack, clone_copy, clone_vm};
pub use crate::limit::{Limit, Resource, get_limit, prlimit, set_limit};

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
        /// The last part of the path may not be a symbolic link.
        const SYMLINK_NOFOLLOW = sys::AT_SYMLINK_NOFOLLOW;
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

/// Ends this thread alone.
///
/// Since Linux 1.0.
///
/// # Safety
///
/// Nothing that the thread owns or lends may be needed by others: no destructor runs.
pub unsafe fn exit_thread(code: i32) -> ! {
    // SAFETY: exit does not return.
    unsafe { arch::syscall1_noreturn(nr::EXIT, code.into()) }
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
    /// The real user. Since Linux 1.0. Cannot fail; `u32::MAX` under a filter that answers for it.
    getuid, GETUID
}
ask! {
    /// The effective user. Since Linux 1.0. Cannot fail; `u32::MAX` under a filter that answers for it.
    geteuid, GETEUID
}
ask! {
    /// The real group. Since Linux 1.0. Cannot fail; `u32::MAX` under a filter that answers for it.
    getgid, GETGID
}
ask! {
    /// The effective group. Since Linux 1.0. Cannot fail; `u32::MAX` under a filter that answers for it.
    getegid, GETEGID
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

/// This thread.
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

/// The parent, or `None` if it is outside this pid namespace.
///
/// Since Linux 1.0.
#[must_use]
pub fn getppid() -> Option<Pid> {
    // SAFETY: the call takes nothing and changes nothing.
    let answer = unsafe { arch::syscall0(nr::GETPPID) };
    Pid::from_raw(answer.word().ok()?)
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

/// Sends a signal to one thread of a process.
///
/// Since Linux 2.6.
///
/// # Errors
///
/// `ESRCH` if there is none, `EPERM`.
pub fn tgkill(process: Pid, thread: Pid, signal: Signal) -> Result<(), Errno> {
    // SAFETY: nothing is passed but numbers; handlers are their installers' promise.
    let answer = unsafe {
        arch::syscall3(
            nr::TGKILL,
            process.raw().into(),
            thread.raw().into(),
            signal.raw().into(),
        )
    };
    answer.done()
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

/// Restricts this thread to the CPUs whose bits are set; bit 0 of the first word is CPU 0.
///
/// Since Linux 2.6.
///
/// # Errors
///
/// `EINVAL` if none of them is usable.
pub fn sched_setaffinity(cpus: &[u64]) -> Result<(), Errno> {
    // SAFETY: the kernel reads the words, whose size is their own; thread 0 is this one.
    let answer = unsafe {
        arch::syscall3(
            nr::SCHED_SETAFFINITY,
            Arg::NULL,
            size_of_val(cpus).into(),
            cpus.as_ptr().into(),
        )
    };
    answer.done()
}

/// The CPUs that this thread may run on, and how many bytes of `cpus` the kernel filled in.
///
/// Since Linux 2.6.
///
/// # Errors
///
/// `EINVAL` if `cpus` is shorter than the kernel's own mask.
pub fn sched_getaffinity(cpus: &mut [u64]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most the size given; thread 0 is this one.
    let answer = unsafe {
        arch::syscall3(
            nr::SCHED_GETAFFINITY,
            Arg::NULL,
            size_of_val(cpus).into(),
            cpus.as_mut_ptr().into(),
        )
    };
    answer.value()
}

bitflags! {
    /// How [`getrandom`] behaves.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct RandomFlags: u32 {
        /// `EAGAIN` instead of waiting until the pool is ready, early at boot.
        const NONBLOCK = sys::GRND_NONBLOCK;
    }
}

/// Fills a buffer with random bytes and answers how many: all, up to 256.
///
/// Since Linux 3.17.
///
/// # Errors
///
/// `EAGAIN` with [`RandomFlags::NONBLOCK`], `EINTR` by a signal.
pub fn getrandom(buffer: &mut [u8], flags: RandomFlags) -> Result<usize, Errno> {
    // SAFETY: the buffer is ours alone, and the length is its own.
    let answer = unsafe {
        arch::syscall3(
            nr::GETRANDOM,
            buffer.as_mut_ptr().into(),
            buffer.len().into(),
            flags.bits().into(),
        )
    };
    answer.value()
}
