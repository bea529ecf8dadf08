//! Starts of workers that took too long: a busy machine's, and no finding about the wall.

use cellwall::{Blame, Error, Stage};

/// Whether a worker did not start in time.
pub(crate) fn is_late(error: &Error) -> bool {
    let starts = matches!(
        error.stage,
        Stage::Engine | Stage::Module | Stage::Start | Stage::Lockdown(_)
    );
    starts && matches!(error.blame, Blame::Timeout { .. })
}

/// Starts, and if that takes too long, once more.
pub(crate) fn retried<T>(mut start: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    match start() {
        Err(error) if is_late(&error) => start(),
        ended => ended,
    }
}

#[cfg(test)]
mod tests {
    use cellwall::{Blame, Error, Stage};

    use super::{is_late, retried};

    fn late(stage: Stage) -> Error {
        let blame = Blame::Timeout {
            what: "start",
            milliseconds: 1,
        };
        Error { stage, blame }
    }

    #[test]
    fn late_starts_are_tried_twice() {
        let mut tries = 0;
        let mut start = |stage, good_at| {
            tries = 0;
            retried(|| {
                tries += 1;
                if tries < good_at {
                    Err(late(stage))
                } else {
                    Ok(tries)
                }
            })
        };
        assert_eq!(start(Stage::Start, 2), Ok(2));
        assert!(start(Stage::Start, 3).is_err_and(|error| is_late(&error)));
        // A worker that does not obey is a finding.
        assert!(start(Stage::Run, 2).is_err_and(|error| !is_late(&error)));
    }
}
