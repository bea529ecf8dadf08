//! A process of ours, from the outside: its end, and what is to be done then.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use linux_raw::Errno;
use linux_raw::fd::{self, AsFd, BorrowedFd, OwnedFd};
use linux_raw::io::{self, PollFd, PollFlags};
use linux_raw::pidfd::{self, WaitFlags, WaitStatus};
use linux_raw::signal::Signal;
use linux_raw::time::Timespec;

use crate::interrupt::Death;
use crate::nursery::{Nursery, Slot};
use crate::turn::is_dead;

/// How long a killed process may take to end before we stop waiting for it.
pub(crate) const REAP_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a process that has ended is asked for that its nursery has not yet told of.
const TELL_INTERVAL: Duration = Duration::from_millis(1);

/// A process that is still to be reaped.
pub(crate) struct Process {
    pidfd: OwnedFd,
    /// For people and their tools. Nothing here acts on it: numbers are used again.
    id: OnceLock<u32>,
    parent: Parent,
}

/// Who has cloned it, and hears how it ends.
enum Parent {
    Host,
    Nursery {
        nursery: Arc<Nursery>,
        /// Which of its lives, and the process' number there.
        child: Child,
        /// What it lives in, which is made as new when nobody uses it any more.
        slot: Arc<Slot>,
    },
}

/// A nursery's child: the number is the nursery's own, which it uses again in another life.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Child {
    pub(crate) life: u64,
    pub(crate) pid: u32,
}

impl Process {
    /// A child of this process.
    pub(crate) fn child(pidfd: OwnedFd, id: u32) -> Self {
        Self {
            pidfd,
            id: OnceLock::from(id),
            parent: Parent::Host,
        }
    }

    /// Another handle of a child of this process. Whoever reaps it first has its exit status.
    pub(crate) fn another(&self) -> Result<Self, Errno> {
        let pidfd = fd::dup_cloexec_min(self.pidfd(), 0)?;
        Ok(Self::child(pidfd, self.id()))
    }

    /// A child of a nursery.
    pub(crate) fn nursed(
        pidfd: OwnedFd,
        nursery: Arc<Nursery>,
        child: Child,
        slot: Arc<Slot>,
    ) -> Self {
        Self {
            pidfd,
            id: OnceLock::new(),
            parent: Parent::Nursery {
                nursery,
                child,
                slot,
            },
        }
    }

    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Its number in `/proc`; 0 if that does not show it.
    pub(crate) fn id(&self) -> u32 {
        *self.id.get_or_init(|| {
            let number = pidfd::number_in_proc(&self.pidfd).ok().flatten();
            number.map_or(0, |number| number.raw())
        })
    }

    /// The same, if somebody has asked for it while it lived: the number is another's later.
    pub(crate) fn known_id(&self) -> u32 {
        self.id.get().copied().unwrap_or(0)
    }

    /// Lets go of the handle alone: in a forked child it is not ours.
    pub(crate) fn leave(self) {}

    /// Whether a nursery has cloned it.
    pub(crate) fn is_nursed(&self) -> bool {
        matches!(self.parent, Parent::Nursery { .. })
    }

    /// Kills it.
    pub(crate) fn kill(&self) -> Result<(), Errno> {
        match pidfd::pidfd_send_signal(&self.pidfd, Some(Signal::KILL)) {
            // It is dead already, which is what we want.
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Reaps a process that has been killed or has ended, waiting for it at most
    /// [`REAP_TIMEOUT`].
    pub(crate) fn reap(&self) -> Death {
        self.reap_until(Instant::now() + REAP_TIMEOUT)
    }

    /// The same, with a bound of the caller's.
    pub(crate) fn reap_until(&self, deadline: Instant) -> Death {
        loop {
            match self.try_reap() {
                Ok(Some(death)) => return death,
                Err(Errno::EINTR) | Ok(None) => {}
                // ECHILD: an embedder that waits for all of its children has taken it.
                Err(_) => return Death::Unknown,
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Death::Unknown;
            }
            if is_dead(self.pidfd()) {
                std::thread::sleep(TELL_INTERVAL.min(left)); // its nursery is busy
                continue;
            }
            let mut poll = [PollFd::new(self.pidfd(), PollFlags::IN)];
            // An error here is no news of the process; the loop ends at the deadline.
            let _ = io::poll(&mut poll, Some(Timespec::from(left)));
        }
    }

    /// Takes the exit status if the process has ended. Never waits.
    pub(crate) fn try_reap(&self) -> Result<Option<Death>, Errno> {
        match &self.parent {
            Parent::Host => try_reap_child(&self.pidfd),
            Parent::Nursery { nursery, child, .. } if is_dead(self.pidfd()) => {
                Ok(nursery.end_of(*child))
            }
            Parent::Nursery { .. } => Ok(None),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has survived its killing for so long that nobody waits for it any more.
        if let Parent::Nursery { slot, .. } = &self.parent
            && !is_dead(self.pidfd())
        {
            slot.give_up();
        }
    }
}

/// Reaps a child of this process that has been killed or has ended, waiting for it at most
/// [`REAP_TIMEOUT`].
pub(crate) fn reap_child(pidfd: &OwnedFd) {
    let mut poll = [PollFd::new(pidfd.as_fd(), PollFlags::IN)];
    let _ = io::poll(&mut poll, Some(Timespec::from(REAP_TIMEOUT)));
    // Whatever it answers: there is nobody to tell.
    let _ = try_reap_child(pidfd);
}

fn try_reap_child(pidfd: &OwnedFd) -> Result<Option<Death>, Errno> {
    let status = pidfd::waitid_pidfd(pidfd, WaitFlags::NOHANG | WaitFlags::ALL)?;
    Ok(status.map(Death::from))
}

impl From<WaitStatus> for Death {
    fn from(status: WaitStatus) -> Self {
        match status {
            WaitStatus::Exited(status) => Self::Exited(status),
            WaitStatus::Killed { signal, .. } => Self::Killed(signal),
        }
    }
}
