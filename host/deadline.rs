//! Points in time that may not be.

use std::time::{Duration, Instant};

/// How long it is to the deadline; for ever if there is none.
pub(crate) fn time_left(deadline: Option<Instant>) -> Duration {
    deadline.map_or(Duration::MAX, |deadline| {
        deadline.saturating_duration_since(Instant::now())
    })
}
