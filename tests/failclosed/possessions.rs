//! What a failed start could leave behind.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::harness::{children, eventually};

const WAIT: Duration = Duration::from_secs(5);

/// What this process has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Possessions {
    descriptors: usize,
    mappings: usize,
    threads: usize,
    children: usize,
}

impl Possessions {
    pub(super) fn now() -> Self {
        let count = |path: &str| fs::read_dir(path).unwrap().count();
        Self {
            descriptors: count("/proc/self/fd"),
            mappings: fs::read_to_string("/proc/self/maps")
                .unwrap()
                .lines()
                .count(),
            threads: count("/proc/self/task"),
            children: children(),
        }
    }

    /// What it has once every worker is reaped, and every thread that was joined is gone too.
    pub(super) fn at_rest() -> Self {
        let mut last = Self::now();
        eventually(WAIT, "no child, and nothing that ends", || {
            let before = std::mem::replace(&mut last, Self::now());
            // Longer than a busy machine keeps a thread from closing what it has just reaped.
            sleep(Duration::from_millis(250));
            last == before && last.children == 0
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
