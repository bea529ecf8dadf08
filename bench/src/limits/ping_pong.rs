//! A cache line from one CPU to another and back.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::cpus::two_cpus;
use crate::measure::{Failure, Sampler, batch, each};

/// On a line of its own, and on no neighbour's that the CPU fetches along with it.
#[repr(align(128))]
struct Line(AtomicU64);

/// What ends the other thread.
const OVER: u64 = u64::MAX;

/// Two threads that spin, a CPU each. The other one is there during a batch alone: the next side's
/// worker has its CPU to itself.
pub(crate) fn ping_pong() -> Result<Sampler, Failure> {
    const ROUNDS: u32 = 1000;
    let (here, there) = two_cpus()?;
    here.pin()?;
    Ok(Box::new(move || {
        let line = Line(AtomicU64::new(0));
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                let pinned = there.pin();
                let mut ping = wait(&line.0, 0);
                while ping != OVER {
                    line.0.store(ping + 1, Ordering::Release);
                    ping = wait(&line.0, ping + 1);
                }
                pinned
            });
            // One exchange before the clock runs: the other thread has to start.
            let mut pong = exchange(&line.0, 0);
            let samples = batch(20, || {
                let start = Instant::now();
                for _ in 0..ROUNDS {
                    pong = exchange(&line.0, pong);
                }
                Ok(each(start, ROUNDS))
            });
            line.0.store(OVER, Ordering::Release);
            other.join().map_err(|_| "the other thread panicked")??;
            samples
        })
    }))
}

/// There and back.
fn exchange(word: &AtomicU64, pong: u64) -> u64 {
    word.store(pong + 1, Ordering::Release);
    wait(word, pong + 1)
}

/// Spins until the word is another one. Acquire pairs with the Release of who wrote it.
fn wait(word: &AtomicU64, known: u64) -> u64 {
    loop {
        let now = word.load(Ordering::Acquire);
        if now != known {
            return now;
        }
        spin_loop();
    }
}
