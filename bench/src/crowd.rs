//! Threads that all do the same as often as they can, for some time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::measure::Failure;

/// How long: long enough for the scheduler to come round to everybody many times.
const TIME: Duration = Duration::from_millis(300);

/// What a thread does over and over.
pub(crate) type Step = Box<dyn FnMut() -> Result<(), Failure>>;

/// What they did.
pub(crate) struct Done {
    /// Steps of all in a second, in millions.
    pub(crate) rate: f64,
    /// Those of the slowest as a part of the mean.
    pub(crate) slowest: f64,
}

/// Lets so many threads run, each with a step that it prepares by its number. Nothing of them is
/// left afterwards: what a side leaves waiting may spin, and the next side would meet it.
pub(crate) fn crowd(
    members: usize,
    prepare: impl Fn(usize) -> Result<Step, Failure> + Sync,
) -> Result<Done, Failure> {
    let (begun, over) = (Barrier::new(members + 1), AtomicBool::new(false));
    let live = |member| {
        // A panic comes to the gate too: the others wait there for everybody.
        let step = catch_unwind(AssertUnwindSafe(|| prepare(member)));
        begun.wait();
        let step = step.map_err(|_| "a thread of the crowd panicked")?;
        let (mut step, start) = (step?, Instant::now());
        let mut count = 0;
        while !over.load(Ordering::Relaxed) {
            step()?;
            count += 1;
        }
        // Its last step may have taken long.
        Ok(f64::from(count) / (start.elapsed().as_secs_f64() * 1e6))
    };
    let rates = thread::scope(|scope| {
        let live = &live;
        let spawn = |member| scope.spawn(move || live(member));
        let threads: Vec<_> = (0..members).map(spawn).collect();
        begun.wait();
        thread::sleep(TIME);
        over.store(true, Ordering::Relaxed);
        let rates = threads.into_iter().map(|thread| {
            let rate = thread.join();
            rate.map_err(|_| "a thread of the crowd panicked")?
        });
        rates.collect::<Result<Vec<f64>, Failure>>()
    })?;
    let rate: f64 = rates.iter().sum();
    let slowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let members = f64::from(u32::try_from(members)?);
    Ok(Done {
        rate,
        slowest: slowest * members / rate,
    })
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;
    use std::time::Duration;

    use super::{Step, crowd};

    #[test]
    fn a_slow_member_is_seen() {
        let done = crowd(2, |member| {
            let pause = Duration::from_millis(if member == 0 { 1 } else { 50 });
            let step: Step = Box::new(move || {
                sleep(pause);
                Ok(())
            });
            Ok(step)
        });
        let done = done.unwrap();
        assert!(done.slowest < 0.5, "{}", done.slowest);
        assert!(done.rate > 0.0);
    }

    #[test]
    fn a_member_that_fails_fails_all() {
        assert!(crowd(3, |_| Err("not prepared".into())).is_err());
        assert!(crowd(3, |_| panic!("on purpose")).is_err());
        let one = |member| -> Step {
            match member {
                1 => Box::new(|| Err("no step".into())),
                _ => Box::new(|| Ok(())),
            }
        };
        assert!(crowd(3, |member| Ok(one(member))).is_err());
    }
}
