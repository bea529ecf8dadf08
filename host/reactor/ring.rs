//! Waiting by io_uring: what is watched is told to the kernel once, however often it is waited for.

use std::time::Duration;

use linux_raw::Errno;
use linux_raw::fd::BorrowedFd;
use linux_raw::io::PollFlags;
use linux_raw::time::Timespec;
use linux_raw::uring::op::{Fd, poll_add};
use linux_raw::uring::{Features, Ring, Sqe};

use super::dying::Token;
use super::mailbox::Mailbox;

/// How many processes can be told of in one call. More take more calls.
const ENTRIES: u32 = 64;

/// What stands for the alarm. `Dying` begins to count above.
const ALARM: Token = 0;

/// A ring with a poll for each process, and one for the alarm.
pub(super) struct RingWaiter {
    ring: Ring,
    /// Whether the alarm's poll is in the kernel.
    is_armed: bool,
    /// Reported by calls that were not there to wait.
    early: Vec<Token>,
    /// What went wrong where nobody could be told.
    failed: Option<Errno>,
}

/// A ring as an engine needs it.
///
/// # Errors
///
/// Those of `io_uring_setup`; `ENOSYS` from Linux before 5.5, which loses completions if there are
/// too many.
pub(crate) fn open() -> Result<Ring, Errno> {
    let ring = Ring::new(ENTRIES)?;
    if !ring.features().contains(Features::NODROP) {
        return Err(Errno::ENOSYS);
    }
    Ok(ring)
}

impl RingWaiter {
    /// # Errors
    ///
    /// Those of [`open`].
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self {
            ring: open()?,
            is_armed: false,
            early: Vec::new(),
            failed: None,
        })
    }

    pub(super) fn watch(&mut self, token: Token, pidfd: BorrowedFd<'_>) {
        let entry = poll_add(Fd::new(&pidfd), PollFlags::IN).with_user_data(token);
        if let Err(errno) = self.push(entry) {
            self.failed = Some(errno);
        }
    }

    fn push(&mut self, entry: Sqe) -> Result<(), Errno> {
        let Err(full) = self.ring.push(entry) else {
            return Ok(());
        };
        if self.ring.submit() == Err(Errno::EBUSY) {
            // Too many have ended that nobody has looked at.
            self.harvest_early();
            self.ring.submit()?;
        }
        // Still full: the kernel took none, for want of memory.
        self.ring.push(full.0).map_err(|_| Errno::EAGAIN)
    }

    fn harvest_early(&mut self) {
        let mut early = std::mem::take(&mut self.early);
        self.harvest(&mut early);
        self.early = early;
    }

    /// Takes what has completed; whether the alarm has.
    fn harvest(&mut self, ended: &mut Vec<Token>) -> bool {
        let mut rang = false;
        for completion in self.ring.completions() {
            match completion.user_data() {
                ALARM => rang = true,
                // What failed is looked at too.
                token => ended.push(token),
            }
        }
        self.is_armed &= !rang;
        rang
    }

    /// # Errors
    ///
    /// Those of `io_uring_enter`: the ring is of no use any more.
    pub(super) fn wait(
        &mut self,
        mailbox: &Mailbox,
        timeout: Option<Duration>,
        ended: &mut Vec<Token>,
    ) -> Result<(), Errno> {
        if let Some(errno) = self.failed {
            return Err(errno);
        }
        if !self.is_armed {
            let entry = poll_add(Fd::new(&mailbox.alarm()), PollFlags::IN);
            self.push(entry.with_user_data(ALARM))?;
            self.is_armed = true;
        }
        ended.append(&mut self.early);
        let waits = ended.is_empty() && timeout != Some(Duration::ZERO);
        let timeout = timeout.filter(|_| waits).map(Timespec::from);
        match self.ring.submit_and_wait(u32::from(waits), timeout) {
            Ok(_) | Err(Errno::EBUSY) => {} // there is something to harvest
            Err(errno) => return Err(errno),
        }
        if self.harvest(ended) {
            mailbox.hear();
        }
        Ok(())
    }
}
