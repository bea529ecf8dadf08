//! One operation on a ring that is used for nothing else, from submission to completion.

use core::time::Duration;

use super::Sqe;
use super::clock;
use super::op;
use super::ring::Ring;
use crate::errno::Errno;
use crate::time::Timespec;

/// The operation's and its cancellation's values; the ring is empty between flights.
const OPERATION: u64 = 1;
const CANCELLATION: u64 = 2;

/// How long a cancelled operation may take to complete before it is cancelled again: one that is
/// just between two attempts is overlooked by the first.
const CANCEL_AGAIN: Duration = Duration::from_millis(10);

/// How long to rest when the kernel can neither take an entry nor wait.
const REST: Duration = Duration::from_millis(10);

/// How a flight ended.
pub(super) enum Flight {
    /// The operation completed; `ETIME` if it did so because its time was up.
    Landed(Result<u32, Errno>),
    /// The kernel did not take the entry, for this reason. It is given up.
    Grounded(Errno),
}

/// Submits `sqe` and waits until it completes or `deadline` has passed; then cancels it and waits
/// for its completion all the same.
///
/// Returns when the kernel has no use for the entry's memory any more, and never before: that is
/// what callers rely on for memory that they have borrowed. `ring` must be idle, and is so again
/// afterwards.
pub(super) fn fly(ring: &mut Ring, sqe: Sqe, deadline: Option<Duration>) -> Flight {
    if ring.push(sqe.with_user_data(OPERATION)).is_err() {
        return Flight::Grounded(Errno::EBUSY);
    }
    match ring.submit_and_wait(1, deadline.map(clock::left).map(Timespec::from)) {
        Err(errno) if ring.discard_unsubmitted() > 0 => return Flight::Grounded(errno),
        // Taken, so it has to be awaited, whatever became of this wait.
        Ok(_) | Err(_) => {}
    }

    let mut outcome = None;
    let mut cancelled = false;
    let mut cancelling = false;
    let mut cancel_at = deadline;
    loop {
        for cqe in ring.completions() {
            match cqe.user_data() {
                OPERATION => outcome = Some(cqe.result()),
                _ => cancelling = false,
            }
        }
        match outcome {
            Some(result) if !cancelling => return Flight::Landed(verdict(result, cancelled)),
            None if !cancelling && cancel_at.is_some_and(clock::is_past) => {
                let cancellation = op::async_cancel(OPERATION).with_user_data(CANCELLATION);
                cancelling = ring.push(cancellation).is_ok();
                cancelled |= cancelling;
                cancel_at = Some(clock::after(CANCEL_AGAIN));
            }
            _ => {}
        }
        // A cancellation completes at once: waiting for it needs no end.
        let timeout = if cancelling {
            None
        } else {
            cancel_at.map(clock::left).map(Timespec::from)
        };
        if ring.submit_and_wait(1, timeout).is_err() {
            cancelling &= ring.discard_unsubmitted() == 0;
            clock::rest(REST);
        }
    }
}

/// What a completion means: one that was brought about by cancelling means that time was up.
fn verdict(result: Result<u32, Errno>, cancelled: bool) -> Result<u32, Errno> {
    match result {
        // Taken off its queue; or interrupted where it was blocked; or had found nothing to do.
        Err(Errno::ECANCELED | Errno::EINTR | Errno::EAGAIN) if cancelled => Err(Errno::ETIME),
        // Otherwise it completed by itself, just in time.
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::{Errno, verdict};

    #[test]
    fn only_a_cancelled_operation_is_late() {
        assert_eq!(verdict(Err(Errno::ECANCELED), true), Err(Errno::ETIME));
        assert_eq!(verdict(Err(Errno::EINTR), true), Err(Errno::ETIME));
        assert_eq!(verdict(Err(Errno::EINTR), false), Err(Errno::EINTR));
        assert_eq!(verdict(Err(Errno::EPIPE), true), Err(Errno::EPIPE));
        assert_eq!(verdict(Ok(3), true), Ok(3));
    }
}
