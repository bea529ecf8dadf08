//! Waiting for processes to end, for the alarm, and for a time.

use std::time::Duration;

use linux_raw::fd::BorrowedFd;

use super::dying::{Dying, Token};
use super::mailbox::Mailbox;
use super::poll;
use super::ring::RingWaiter;

/// By what the thread waits.
pub(super) enum Waiter {
    Ring(RingWaiter),
    /// Where io_uring is forbidden, or fails.
    Poll,
}

impl Waiter {
    pub(super) fn new() -> Self {
        match RingWaiter::new() {
            Ok(ring) => Self::Ring(ring),
            Err(errno) => Self::without_ring(errno),
        }
    }

    fn without_ring(errno: linux_raw::Errno) -> Self {
        tracing::debug!(%errno, "no io_uring: poll");
        Self::Poll
    }

    /// Reports this process once, when it has ended. It must be among [`Dying::watched`] until
    /// then.
    pub(super) fn watch(&mut self, token: Token, pidfd: BorrowedFd<'_>) {
        match self {
            Self::Ring(ring) => ring.watch(token, pidfd),
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
        if let Self::Ring(ring) = self {
            match ring.wait(mailbox, timeout, ended) {
                Ok(()) => return,
                // A filter has come over the thread, or memory is short.
                Err(errno) => *self = Self::without_ring(errno),
            }
        }
        poll::wait(mailbox, dying, timeout, ended);
    }
}
