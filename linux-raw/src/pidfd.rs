#![expect(unsafe_code, reason = "makes the calls on process descriptors")]
//! Watching, signalling and reaping processes by descriptor, which no other process can inherit
//! the way it inherits a number.

use bitflags::bitflags;
use linux_raw_sys::general as sys;

use crate::arch;
use crate::arg::Arg;
use crate::errno::Errno;
use crate::fd::{AsFd, OwnedFd};
use crate::nr;
use crate::process::Pid;
use crate::signal::{SigInfo, Signal};

bitflags! {
    /// How [`pidfd_open`] opens.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct PidfdFlags: u32 {
        /// Waits answer `EAGAIN` instead of waiting. Since Linux 5.10.
        const NONBLOCK = sys::O_NONBLOCK;
        /// Of a thread: it is readable as soon as the thread has ended, while others of its process
        /// may still be ending. Since Linux 6.9.
        const THREAD = sys::O_EXCL;
    }
}

/// A descriptor of a process, close-on-exec.
///
/// Since Linux 5.3. The number may be another process's by now, unless the process is a child of
/// the caller that has not been waited for.
///
/// # Errors
///
/// `ESRCH` if there is none, `EINVAL` for an unknown flag, or for a thread without [`PidfdFlags::THREAD`], `EMFILE`.
pub fn pidfd_open(pid: Pid, flags: PidfdFlags) -> Result<OwnedFd, Errno> {
    // SAFETY: nothing is passed but numbers.
    let answer = unsafe { arch::syscall2(nr::PIDFD_OPEN, pid.raw().into(), flags.bits().into()) };
    // SAFETY: pidfd_open answers with a descriptor it has just opened.
    unsafe { answer.fd() }
}

/// Sends a signal; with `None` it only asks whether it could.
///
/// Since Linux 5.1.
///
/// # Errors
///
/// `ESRCH` if the process has ended and been reaped, `EPERM`.
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: Option<Signal>) -> Result<(), Errno> {
    // SAFETY: nothing is passed but numbers; without a siginfo the kernel makes one.
    let answer = unsafe {
        arch::syscall4(
            nr::PIDFD_SEND_SIGNAL,
            pidfd.as_fd().into(),
            signal.map_or(0, Signal::raw).into(),
            Arg::NULL,
            Arg::NULL,
        )
    };
    answer.done()
}

bitflags! {
    /// How [`waitid_pidfd`] waits; for an end, in any case.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct WaitFlags: u32 {
        /// Answers `None` instead of waiting.
        const NOHANG = sys::WNOHANG;
        /// Also children that send no `SIGCHLD` when they end (`__WALL`). Since Linux 4.7.
        const ALL = sys::__WALL;
    }
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitStatus {
    /// By itself, with this code, 0 to 255.
    Exited(i32),
    /// By a signal.
    Killed {
        /// Which.
        signal: Signal,
        /// Whether it dumped core.
        core: bool,
    },
}

impl WaitStatus {
    /// Reads what `waitid` wrote; `None` if it says that nothing has ended.
    fn from_info(info: &SigInfo) -> Option<Self> {
        const EXITED: i32 = sys::CLD_EXITED.cast_signed();
        const KILLED: i32 = sys::CLD_KILLED.cast_signed();
        const DUMPED: i32 = sys::CLD_DUMPED.cast_signed();
        info.signal()?;
        match info.code() {
            EXITED => Some(Self::Exited(info.status())),
            code @ (KILLED | DUMPED) => Some(Self::Killed {
                signal: Signal::from_raw(info.status().cast_unsigned())?,
                core: code == DUMPED,
            }),
            _ => None,
        }
    }
}

/// Waits for a child to end and reaps it.
///
/// `None` if it has not ended, with [`WaitFlags::NOHANG`].
///
/// Since Linux 5.4.
///
/// # Errors
///
/// `ECHILD` if it is not a child of the caller (or is one that needs [`WaitFlags::ALL`], or was
/// reaped already), `EINTR` by a signal, `EAGAIN` on a descriptor that does not wait.
pub fn waitid_pidfd(pidfd: impl AsFd, flags: WaitFlags) -> Result<Option<WaitStatus>, Errno> {
    let mut info = SigInfo::ZERO;
    // SAFETY: the kernel writes one siginfo there; resource usage is not asked for.
    let answer = unsafe {
        arch::syscall5(
            nr::WAITID,
            sys::P_PIDFD.into(),
            pidfd.as_fd().into(),
            (&raw mut info).into(),
            (sys::WEXITED | flags.bits()).into(),
            Arg::NULL,
        )
    };
    answer.done()?;
    Ok(WaitStatus::from_info(&info))
}
