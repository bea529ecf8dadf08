#![expect(unsafe_code, reason = "makes the calls on process descriptors")]
//! Watching, signalling and reaping processes by descriptor, which no other process can inherit
//! the way it inherits a number.

use bitflags::bitflags;
use linux_raw_sys::general as sys;

use crate::arch;
use crate::arg::Arg;
use crate::called::{Called as _, Failed};
use crate::errno::Errno;
use crate::fd::{AsFd, OwnedFd, RawFd};
use crate::io::{self, OpenFlags};
use crate::nr;
use crate::process::Pid;
use crate::signal::{SigInfo, Signal};
use crate::text::Text;

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
/// `ESRCH` if there is none, `EINVAL` for an unknown flag, or for a thread without
/// [`PidfdFlags::THREAD`], `EMFILE`.
pub fn pidfd_open(pid: Pid, flags: PidfdFlags) -> Result<OwnedFd, Errno> {
    // SAFETY: nothing is passed but numbers.
    let answer = unsafe { arch::syscall2(nr::PIDFD_OPEN, pid.raw().into(), flags.bits().into()) };
    // SAFETY: pidfd_open answers with a descriptor it has just opened.
    unsafe { answer.fd() }
}

/// The number that `/proc` has for a process, whichever pid namespace that `/proc` shows: the
/// caller's own numbers are others than those of a `/proc` that was mounted outside of its pid
/// namespace. `None` if this `/proc` does not show the process, or if it is gone.
///
/// Since Linux 5.2. An open, a read and a close. The number is as good as in [`pidfd_open`].
///
/// # Errors
///
/// The call that failed: `ENOENT` if there is no `/proc`, or one that does not show the caller
/// itself.
pub fn number_in_proc(pidfd: impl AsFd) -> Result<Option<Pid>, Failed> {
    // Of the thread: the process' first one, whom `/proc/self` asks, may have ended.
    let path = Text::<40>::new().push(b"/proc/thread-self/fdinfo/");
    let path = path.push_number(pidfd.as_fd().as_raw().cast_unsigned());
    let path = path.c_str().ok_or(Failed(nr::OPENAT, Errno::E2BIG))?;
    let info = io::open(path, OpenFlags::RDONLY | OpenFlags::CLOEXEC).called(nr::OPENAT)?;
    // The line is the fifth of short ones, and the whole comes in one read.
    let mut text = [0; 512];
    let length = io::read(&info, &mut text).called(nr::READ)?;
    Ok(number_in(text.get(..length).unwrap_or_default()))
}

/// The number of the line `Pid:`, which is 0 for a process that is not shown, and -1 for one that
/// has been reaped (fs/pidfs.c, `pidfd_show_fdinfo`).
fn number_in(fdinfo: &[u8]) -> Option<Pid> {
    let mut lines = fdinfo.split_inclusive(|byte| *byte == b'\n');
    let line = lines.find_map(|line| line.strip_prefix(b"Pid:"))?;
    // A line that was cut off would be another's number.
    let number = str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    Pid::from_raw(number.trim().parse().ok()?)
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

/// Another descriptor, close-on-exec, of the open file that is `target` in another process.
///
/// Since Linux 5.6. The caller needs the rights of `ptrace` over the process, whose own table stays
/// as it is. What `target` is there may change at any time: check what came.
///
/// # Errors
///
/// `EBADF` if `target` is not open there, `EPERM` without the rights, `ESRCH` if the process has
/// ended, `EMFILE`.
pub fn pidfd_getfd(pidfd: impl AsFd, target: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: nothing is passed but numbers, and no flags, of which there are none.
    let answer = unsafe {
        arch::syscall3(
            nr::PIDFD_GETFD,
            pidfd.as_fd().into(),
            target.into(),
            Arg::NULL,
        )
    };
    // SAFETY: pidfd_getfd answers with a descriptor it has just opened here.
    unsafe { answer.fd() }
}

bitflags! {
    /// How [`waitid_pidfd`] and [`waitid_any`] wait; for an end, in any case.
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
    let info = waitid(sys::P_PIDFD, pidfd.as_fd().into(), flags)?;
    Ok(WaitStatus::from_info(&info))
}

/// Whether this thread may wait for children by their descriptors at all: it asks for none.
///
/// # Errors
///
/// `ENOSYS` before Linux 5.4, which knows no such wait; that of a filter which forbids it.
pub fn may_wait() -> Result<(), Errno> {
    // No process has so many descriptors (fs.nr_open is less). A kernel that does not know the kind
    // looks no further.
    match waitid(sys::P_PIDFD, i32::MAX.into(), WaitFlags::NOHANG) {
        Ok(_) | Err(Errno::EBADF) => Ok(()),
        Err(Errno::EINVAL) => Err(Errno::ENOSYS),
        Err(errno) => Err(errno),
    }
}

/// Waits until a tracee stops, and says at which signal; `None` if it has ended instead, and is
/// reaped.
///
/// Since Linux 5.4.
///
/// # Errors
///
/// As [`waitid_pidfd`].
pub fn wait_for_stop(tracee: impl AsFd) -> Result<Option<Signal>, Errno> {
    const STOPPED: i32 = sys::CLD_TRAPPED.cast_signed();
    let flags = WaitFlags::ALL | WaitFlags::from_bits_retain(sys::WSTOPPED);
    let info = waitid(sys::P_PIDFD, tracee.as_fd().into(), flags)?;
    let signal = Signal::from_raw(info.status().cast_unsigned());
    Ok(signal.filter(|_| info.code() == STOPPED))
}

/// Waits for whichever child ends first, of any of this process' threads, and reaps it.
///
/// `None` if none has ended, with [`WaitFlags::NOHANG`]. It takes the children of every other part
/// of the process too, so it is for a process that has all of its children itself. The number is
/// that of a process which is gone: the next one may have it.
///
/// Since Linux 2.6.10.
///
/// # Errors
///
/// `ECHILD` if there is no child (or only such as need [`WaitFlags::ALL`]), `EINTR` by a signal.
pub fn waitid_any(flags: WaitFlags) -> Result<Option<(Pid, WaitStatus)>, Errno> {
    let info = waitid(sys::P_ALL, Arg::NULL, flags)?;
    Ok(Pid::from_raw(info.pid()).zip(WaitStatus::from_info(&info)))
}

/// The call itself, which leaves the answer zero if nothing has ended.
fn waitid(kind: u32, which: Arg, flags: WaitFlags) -> Result<SigInfo, Errno> {
    let mut info = SigInfo::ZERO;
    // SAFETY: the kernel writes one siginfo there; resource usage is not asked for.
    let answer = unsafe {
        arch::syscall5(
            nr::WAITID,
            kind.into(),
            which,
            (&raw mut info).into(),
            (sys::WEXITED | flags.bits()).into(),
            Arg::NULL,
        )
    };
    answer.done()?;
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::{PidfdFlags, number_in, number_in_proc, pidfd_open};
    use crate::process::{Pid, getpid};

    #[test]
    fn the_number_is_that_of_its_line() {
        let number = |text: &str| number_in(text.as_bytes()).map(Pid::raw);
        let before = "pos:\t0\nflags:\t02000002\nmnt_id:\t15\nino:\t7\n";
        let with = |line: &str| number(&std::format!("{before}{line}"));
        assert_eq!(with("Pid:\t123\nNSpid:\t123\t1\n"), Some(123));
        for other in [
            "Pid:\t0\nNSpid:\t0\n",
            "Pid:\t-1\nNSpid:\t-1\n",
            "Pid:\t12",
            "Pid:\t\n",
            "NSpid:\t9\n",
            "Pid:\t4294967296\n",
            "",
        ] {
            assert_eq!(with(other), None, "{other:?}");
        }
    }

    #[test]
    fn this_process_is_shown() {
        let own = pidfd_open(getpid().unwrap(), PidfdFlags::empty()).unwrap();
        let link = std::fs::read_link("/proc/self").unwrap();
        let shown: u32 = link.to_str().unwrap().parse().unwrap();
        assert_eq!(number_in_proc(&own), Ok(Pid::from_raw(shown)));
    }
}
