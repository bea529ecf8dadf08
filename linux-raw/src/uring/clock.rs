//! Deadlines: times of the monotonic clock, and what is left until then.

use core::time::Duration;

use crate::io;
use crate::time::{Timespec, monotonic};

/// The time `span` from now.
pub(super) fn after(span: Duration) -> Duration {
    monotonic().saturating_add(span)
}

/// How long it is to `deadline`; zero if it has passed.
pub(super) fn left(deadline: Duration) -> Duration {
    deadline.saturating_sub(monotonic())
}

/// Whether `deadline` has passed.
pub(super) fn is_past(deadline: Duration) -> bool {
    left(deadline).is_zero()
}

/// Does nothing for `span`, or until a signal comes.
pub(super) fn rest(span: Duration) {
    // No descriptors and a time: this can end in no other way that matters.
    let _ = io::poll(&mut [], Some(Timespec::from(span)));
}
