//! What a failed start could leave behind.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::harness::{children, descriptors, eventually, workers};

const WAIT: Duration = Duration::from_secs(5);

/// What this process has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Possessions {
    descriptors: usize,
    mappings: usize,
    threads: usize,
    children: usize,
    workers: usize,
}

impl Possessions {
    pub(super) fn now() -> Self {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let is_kept = |line: &str| line.contains("/memfd:cellwall-memory");
        Self {
            // Empty memory files are kept for the next workers.
            descriptors: descriptors().len(),
            mappings: maps.lines().filter(|line| !is_kept(line)).count(),
            threads: fs::read_dir("/proc/self/task").unwrap().count(),
            children: children(),
            workers: workers().len(),
        }
    }

    /// What it has once every worker is reaped, and every thread that was joined is gone too.
    pub(super) fn at_rest() -> Self {
        let mut last = Self::now();
        eventually(WAIT, "no worker, and nothing that ends", || {
            let before = std::mem::replace(&mut last, Self::now());
            // Longer than a busy machine keeps a thread from closing what it has just reaped.
            sleep(Duration::from_millis(250));
            last == before && last.workers == 0
        });
        last
    }

    /// Waits until the process has what it had.
    pub(super) fn come_back(&self, after: &str) {
        let start = Instant::now();
        while Self::now() != *self && start.elapsed() < WAIT {
            sleep(Duration::from_millis(1));
        }
        assert_eq!(Self::now(), *self, "after {after}");
    }
}
