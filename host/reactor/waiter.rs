//! Waiting for processes to end, for the alarm, and for a time.

use std::sync::Arc;
use std::time::Duration;

use linux_raw::fd::BorrowedFd;

use super::dying::{Dying, Token};
use super::mailbox::Mailbox;
use super::poll;
use super::ring::RingWaiter;
use crate::error::{Error, Stage};
use crate::probe::Feature;
use crate::ways::Ways;

/// By what the thread waits.
pub(super) enum Waiter {
    /// With whom is told should it fail later.
    Ring(Box<RingWaiter>, Arc<Ways>),
    /// Without io_uring.
    Poll,
}

impl Waiter {
    /// # Errors
    ///
    /// Where there is no ring, and there must be one.
    pub(super) fn new(ways: &Arc<Ways>) -> Result<Self, Error> {
        if !ways.may_use(Feature::IoUring) {
            return Ok(Self::Poll);
        }
        match RingWaiter::new() {
            Ok(ring) => Ok(Self::Ring(Box::new(ring), Arc::clone(ways))),
            Err(errno) => {
                ways.lack(Stage::Engine, Feature::IoUring, errno)?;
                Ok(Self::Poll)
            }
        }
    }

    /// Reports this process once, when it has ended. It must be among [`Dying::watched`] until
    /// then.
    pub(super) fn watch(&mut self, token: Token, pidfd: BorrowedFd<'_>) {
        match self {
            Self::Ring(ring, _) => ring.watch(token, pidfd),
            Self::Poll => {} // it asks `Dying` each time
        }
    }

    /// Waits until a process ends, somebody rings, or the time is up; for ever without one. The
    /// processes that have ended, or of which that cannot be told, come into `ended`.
    pub(super) fn wait(
        &mut self,
        mailbox: &Mailbox,
        dying: &Dying,
        timeout: Option<Duration>,
        ended: &mut Vec<Token>,
    ) {
        if let Self::Ring(ring, ways) = self {
            match ring.wait(mailbox, timeout, ended) {
                Ok(()) => return,
                // A filter has come over the thread, or memory is short. Workers are reaped all the
                // same.
                Err(errno) => {
                    ways.lack_from_now_on(Feature::IoUring, errno);
                    *self = Self::Poll;
                }
            }
        }
        poll::wait(mailbox, dying, timeout, ended);
    }
}
