//! A worker process: its life from the outside.

use std::time::{Duration, Instant};

use linux_raw::Errno;
use linux_raw::fd::{AsFd, BorrowedFd, OwnedFd};
use linux_raw::io::{self, PollFd, PollFlags};
use linux_raw::pidfd::{self, WaitFlags, WaitStatus};
use linux_raw::signal::Signal;
use linux_raw::time::Timespec;

use crate::interrupt::Death;
use crate::keeper::Reaper;
use crate::spawn::Process;

/// How long a killed process may take to end before we stop waiting for it.
pub(crate) const REAP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a process may take to end after its memory is gone.
const END_TIMEOUT: Duration = Duration::from_millis(100);

/// A worker. Dropping it kills the process; the keeper thread reaps it.
pub(crate) struct Worker {
    /// Gone once the process has been reaped or handed over for it.
    pidfd: Option<OwnedFd>,
    id: u32,
    reaper: Reaper,
}

impl Worker {
    pub(crate) fn new(process: Process, reaper: Reaper) -> Self {
        Self {
            pidfd: Some(process.pidfd),
            id: process.id,
            reaper,
        }
    }

    /// Whether the process is this one's own, and not a forked child's copy of the handle.
    pub(crate) fn is_ours(&self) -> bool {
        self.reaper.is_ours()
    }

    /// Its number in the host's pid namespace.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// The process, unless it is over.
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Whether the process is dead, or about to be: what one hears of it when the kernel has
    /// refused something of its memory, which is gone before the process is. Waits for that, not
    /// long.
    pub(crate) fn is_ending(&self) -> bool {
        let Some(pidfd) = self.pidfd() else {
            return true;
        };
        let mut poll = [PollFd::new(pidfd, PollFlags::IN)];
        matches!(
            io::poll(&mut poll, Some(Timespec::from(END_TIMEOUT))),
            Ok(1)
        )
    }

    /// Kills the process and leaves the rest to the keeper.
    ///
    /// # Errors
    ///
    /// The kernel's, where this thread may not kill it: it has given up what it takes since the
    /// start, or put itself behind a filter or a Landlock domain. The keeper goes on trying.
    pub(crate) fn kill(&mut self) -> Result<(), Errno> {
        match self.pidfd.take() {
            Some(pidfd) if self.reaper.is_ours() => {
                let killed = kill(&pidfd);
                self.reaper.reap(pidfd);
                killed
            }
            _ => Ok(()),
        }
    }

    /// Takes the exit status of a process that has ended.
    pub(crate) fn bury(&mut self) -> Death {
        self.pidfd
            .take()
            .map_or(Death::Unknown, |pidfd| reap(&pidfd))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Nobody is there to be told.
        let _ = self.kill();
    }
}

/// Kills a process that is still to be reaped.
pub(crate) fn kill(pidfd: &OwnedFd) -> Result<(), Errno> {
    match pidfd::pidfd_send_signal(pidfd, Some(Signal::KILL)) {
        // It is dead already, which is what we want.
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Reaps a process that has been killed or has ended, waiting for it at most [`REAP_TIMEOUT`].
pub(crate) fn reap(pidfd: &OwnedFd) -> Death {
    reap_until(pidfd, Instant::now() + REAP_TIMEOUT)
}

/// The same, with a bound of the caller's.
pub(crate) fn reap_until(pidfd: &OwnedFd, deadline: Instant) -> Death {
    loop {
        match try_reap(pidfd) {
            Ok(Some(death)) => return death,
            Err(Errno::EINTR) | Ok(None) => {}
            // ECHILD: an embedder that waits for all of its children has taken it.
            Err(_) => return Death::Unknown,
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Death::Unknown;
        }
        let mut poll = [PollFd::new(pidfd.as_fd(), PollFlags::IN)];
        // An error here is no news of the process; the loop ends at the deadline.
        let _ = io::poll(&mut poll, Some(Timespec::from(left)));
    }
}

/// Takes the exit status if the process has ended. Never waits.
pub(crate) fn try_reap(pidfd: &OwnedFd) -> Result<Option<Death>, Errno> {
    let status = pidfd::waitid_pidfd(pidfd, WaitFlags::NOHANG | WaitFlags::ALL)?;
    Ok(status.map(|status| match status {
        WaitStatus::Exited(status) => Death::Exited(status),
        WaitStatus::Killed { signal, .. } => Death::Killed(signal),
    }))
}
