//! A worker process: its life from the outside.

use std::time::Duration;

use linux_raw::fd::BorrowedFd;
use linux_raw::io::{self, PollFd, PollFlags};
use linux_raw::time::Timespec;
use linux_raw::{Errno, nr};
use vmctx::Forged;

use crate::error::{Blame, Error, Stage};
use crate::interrupt::Death;
use crate::metrics::Kill;
use crate::process::Process;
use crate::reactor::{Reaper, Then};

/// How long a process may take to end after its memory is gone: over 100 ms on a busy machine.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// A worker. Dropping it has the engine's thread kill the process and reap it.
pub(crate) struct Worker {
    /// Gone once the process has been reaped or handed over for it.
    process: Option<Process>,
    id: u32,
    /// Why it is over, if anybody has said so.
    end: Option<Kill>,
    reaper: Reaper,
}

impl Worker {
    pub(crate) fn new(process: Process, reaper: Reaper) -> Self {
        Self {
            process: Some(process),
            id: 0,
            end: None,
            reaper,
        }
    }

    /// Whether the process is this one's own, and not a forked child's copy of the handle.
    pub(crate) fn is_ours(&self) -> bool {
        self.reaper.is_ours()
    }

    /// Its number in the host's pid namespace.
    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().map_or(self.id, Process::id)
    }

    /// The process, unless it is over.
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.process.as_ref().map(Process::pidfd)
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

    /// What a worker is counted as that is ended for this reason now, unless it has been for
    /// another one before.
    pub(crate) fn end_for(&self, why: Kill) -> Option<Kill> {
        self.end.or(self.process.as_ref().map(|_| why))
    }

    /// Kills the process, for this reason: see [`kill`](Self::kill).
    pub(crate) fn kill_for(&mut self, why: Kill) -> Result<(), Errno> {
        self.end = self.end_for(why);
        self.kill()
    }

    /// Kills the process and leaves the rest to the engine's thread.
    ///
    /// # Errors
    ///
    /// The kernel's, where this thread may not kill it: it has given up what it takes since the
    /// start, or put itself behind a filter or a Landlock domain. The engine's thread goes on
    /// trying.
    pub(crate) fn kill(&mut self) -> Result<(), Errno> {
        match self.process.take() {
            Some(process) if self.reaper.is_ours() => {
                let killed = process.kill();
                self.id = process.known_id();
                self.reaper.reap(process);
                killed
            }
            Some(process) => {
                process.leave();
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Kills the process for a forgery, and gives the error that says so.
    #[cold]
    pub(crate) fn forged(&mut self, stage: Stage, forged: Forged) -> Error {
        tracing::warn!(worker = self.id(), %forged, "killed");
        let blame = Blame::Forged(forged);
        match self.kill_for(Kill::Forged) {
            Ok(()) => Error { stage, blame },
            Err(errno) => Error::kernel(stage, nr::PIDFD_SEND_SIGNAL.name(), errno),
        }
    }

    /// Takes the exit status of a process that has ended.
    pub(crate) fn bury(&mut self) -> Death {
        self.end = self.end_for(Kill::Died);
        self.process.take().map_or(Death::Unknown, |process| {
            self.id = process.known_id();
            process.reap()
        })
    }

    /// Has the engine's thread kill the process, then drop what belongs to it, then reap it, then
    /// do what follows. The caller waits for none of that, and makes no system call as a rule. In a
    /// forked child it is all dropped here and now.
    pub(crate) fn end_with(
        mut self,
        reaper: &Reaper,
        rest: impl Send + 'static,
        then: Option<Then>,
    ) {
        let process = self.process.take();
        if !self.is_ours() {
            return process.map_or((), Process::leave);
        }
        let rest = move || drop((rest, self));
        match process {
            Some(process) => reaper.reap_and(process, rest, then),
            None => reaper.run(move || {
                rest();
                if let Some(then) = then {
                    then(None);
                }
            }),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        match self.process.take() {
            Some(process) if self.reaper.is_ours() => self.reaper.reap(process),
            Some(process) => process.leave(),
            None => {}
        }
    }
}
