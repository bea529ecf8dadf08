#![expect(unsafe_code, reason = "submits a timeout that points to the stack")]
//! Waiting for completions, with an end to it.
//!
//! From Linux 5.11 on ([`Features::EXT_ARG`]) the timeout is an argument of the wait. Before, it is
//! an operation among the others: the wait ends with *its* completion at the latest. Such
//! operations carry values from [`RESERVED_USER_DATA`] up, a new one each time, so that one that
//! fires late ends no later wait; their completions take room in the queue, and are never shown.

use core::time::Duration;

use super::abi::{Features, RESERVED_USER_DATA, SqFlags};
use super::clock;
use super::op::{self, TimeoutFlags};
use super::ring::Ring;
use crate::errno::Errno;
use crate::time::Timespec;

impl Ring {
    /// Submits every pushed entry and waits until `want` completions are ready, or until
    /// `timeout`, a span of the monotonic clock, has passed. Says how many are ready: at least
    /// `want`, or fewer if the time was up.
    ///
    /// `want` counts completions that are ready already, and is at most what the queue holds.
    /// Without a timeout the wait ends with the completions alone.
    ///
    /// # Errors
    ///
    /// Each leaves the entries that were not taken pushed ([`unsubmitted`](Self::unsubmitted)).
    ///
    /// - `EAGAIN`: no memory for requests; reap completions or wait, then try again.
    /// - `EBUSY`: too many completions overflowed; reap them, then try again.
    /// - `EBADR`: the kernel dropped completions ([`dropped`](Self::dropped)).
    /// - `EEXIST`: another thread is the ring's single issuer.
    /// - `ESTALE`: this process was forked from the ring's.
    /// - others, `EPERM` above all, if a filter forbids the call by now.
    ///
    /// `EINTR` is not among them: a signal's handler runs, and the wait goes on for what is left.
    pub fn submit_and_wait(&mut self, want: u32, timeout: Option<Timespec>) -> Result<u32, Errno> {
        self.owned()?;
        let want = want.min(self.completion_entries());
        let deadline = timeout.map(|span| clock::after(Duration::from_nanos(span.as_nanos())));
        match deadline {
            Some(deadline) if !self.features.contains(Features::EXT_ARG) => {
                self.wait_for(0, None)?; // the timeout needs a free slot
                if self.ready() >= want {
                    return Ok(self.ready());
                }
                self.wait_by_operation(want, deadline)
            }
            _ => self.wait_for(want, deadline),
        }
    }

    /// Submits everything, then waits; `deadline` needs [`Features::EXT_ARG`].
    fn wait_for(&mut self, want: u32, deadline: Option<Duration>) -> Result<u32, Errno> {
        let mut kernel_has_more = self
            .sq
            .flags()
            .intersects(SqFlags::CQ_OVERFLOW | SqFlags::TASKRUN);
        loop {
            let ready = self.ready();
            let pending = self.sq.pending();
            if ready >= want && pending == 0 && !kernel_has_more {
                return Ok(ready);
            }
            kernel_has_more = false;
            let left = deadline.map(clock::left);
            let (wait_for, timeout) = if ready < want {
                (want, left.map(Timespec::from))
            } else {
                (0, None)
            };
            match self.enter(wait_for, timeout.as_ref()) {
                // Entries that the kernel neither takes nor refuses: it found no memory.
                Ok(0) if pending > 0 => return Err(Errno::EAGAIN),
                Ok(_) => {}
                // A signal: its handler has run, look again.
                Err(Errno::EINTR) => {}
                // The time is up, and no entry was left to take.
                Err(Errno::ETIME) => return Ok(self.ready()),
                Err(other) => return Err(other),
            }
            // A call that takes entries does not tell that its time was up.
            if deadline.is_some_and(clock::is_past) && self.sq.pending() == 0 {
                return Ok(self.ready());
            }
        }
    }

    /// Waits as kernels before 5.11 can: until enough completions are ready or a timeout
    /// operation completes. Nothing may be unsubmitted.
    fn wait_by_operation(&mut self, want: u32, deadline: Duration) -> Result<u32, Errno> {
        self.timeouts_made = self.timeouts_made.wrapping_add(1);
        let ticket = RESERVED_USER_DATA | u64::from(self.timeouts_made);
        let left = Timespec::from(clock::left(deadline));
        // SAFETY: `left` outlives the submission: it is either taken in the first enter call
        // below or given up before this function returns.
        let entry = unsafe { op::timeout(&raw const left, 0, TimeoutFlags::empty()) };
        if self.sq.push(entry.with_user_data(ticket)).is_err() {
            return Err(Errno::EBUSY);
        }
        let waited = self.wait_for_ticket(want, ticket);
        // Not taken after an error: then nothing else is pushed, and nothing must point to `left`.
        self.sq.rewind();
        if waited.is_ok() && !self.cq.peek().any(|cqe| cqe.user_data() == ticket) {
            // Best effort: a timeout that stays fires once, unseen.
            let removal = op::timeout_remove(ticket).with_user_data(ticket);
            if self.sq.push(removal).is_ok() && self.enter(0, None).is_err() {
                self.sq.rewind();
            }
        }
        waited
    }

    fn wait_for_ticket(&mut self, want: u32, ticket: u64) -> Result<u32, Errno> {
        loop {
            let pending = self.sq.pending();
            let there = self.cq.ready();
            let ready = self.ready();
            let expired = self.cq.peek().any(|cqe| cqe.user_data() == ticket);
            // A queue full of the ring's own completions can show no more.
            if pending == 0 && (ready >= want || expired || there >= self.cq.entries()) {
                return Ok(ready);
            }
            match self.enter(there + 1, None) {
                Ok(0) if pending > 0 => return Err(Errno::EAGAIN),
                Ok(_) | Err(Errno::EINTR) => {} // as in `wait_for`
                Err(other) => return Err(other),
            }
        }
    }
}
