//! Who takes memory from the machine now and then.

use std::fs;
use std::hint::black_box;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use crate::world::World;

/// The most that is taken at once, and how much of what the machine has left.
const BYTES_MAX: usize = 384 << 20;
const SHARE: usize = 4;
const PAGE: usize = 4096;
/// From one time to the next.
const PAUSE: Duration = Duration::from_millis(700);
const HELD: Duration = Duration::from_millis(100);

/// Takes and gives back until the world ends.
pub(crate) fn reign(world: &World) {
    while !world.is_over.load(Relaxed) {
        let bytes = (available() / SHARE).min(BYTES_MAX);
        let mut taken = vec![0_u8; bytes];
        for page in taken.chunks_mut(PAGE) {
            page[0] = 1;
        }
        black_box(&taken);
        world.ledger.strike("times that memory was taken");
        thread::sleep(HELD);
        drop(taken);
        thread::sleep(PAUSE);
    }
}

/// How many bytes the machine has left.
fn available() -> usize {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    number.unwrap_or(0) * 1024
}
