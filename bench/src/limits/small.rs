//! Other bare operations.

use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use crate::measure::{Failure, Sampler, batch, each};

/// A value handed to another thread, which is awake.
pub(crate) fn send() -> Result<Sampler, Failure> {
    const SENDS: u32 = 100;
    Ok(Box::new(move || {
        thread::scope(|scope| {
            let (values, theirs) = channel::<u32>();
            scope.spawn(move || theirs.iter().sum::<u32>());
            batch(20, || {
                let start = Instant::now();
                for value in 0..SENDS {
                    values.send(value)?;
                }
                Ok(each(start, SENDS))
            })
        })
    }))
}

/// A child that sleeps, killed and waited for.
pub(crate) fn kill_and_wait() -> Result<Sampler, Failure> {
    Ok(Box::new(|| {
        let mut child = Command::new("sleep").arg("60").spawn()?;
        thread::sleep(Duration::from_millis(5));
        let start = Instant::now();
        child.kill()?;
        child.wait()?;
        Ok(vec![each(start, 1)])
    }))
}
