//! What this process and the kernel have: after each round as before it.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

// One file for both, since the test's package cannot be a dependency.
#[path = "../../tests/harness/objects.rs"]
mod objects;

/// How long what ends behind our back may take: network namespaces are freed by a kernel thread.
const SETTLED: Duration = Duration::from_secs(15);
/// How much more may be resident after a round than after the first: what allocators keep for
/// threads that come and go.
const RESIDENT_KIB: u64 = 24 << 10;
/// What must be the same again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    descriptors: usize,
    threads: usize,
    children: usize,
    /// Of files of ours.
    mappings: usize,
}

impl Standing {
    pub(crate) fn now() -> Self {
        let count = |path: &str| fs::read_dir(path).map_or(0, Iterator::count);
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        Self {
            descriptors: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
            children: children(),
            mappings: maps
                .lines()
                .filter(|line| line.contains("memfd:cellwall"))
                .count(),
        }
    }

    /// What differs from this for longer than anything takes to end.
    pub(crate) fn differs(&self) -> Option<String> {
        let begun = Instant::now();
        loop {
            let now = Self::now();
            if now == *self {
                return None;
            }
            if begun.elapsed() > SETTLED {
                return Some(format!("left behind: {now:?}, where there was {self:?}"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn children() -> usize {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    let lists = tasks.filter_map(|task| {
        let path = task.ok()?.path().join("children");
        Some(fs::read_to_string(path).ok()?.split_whitespace().count())
    });
    lists.sum()
}

/// What has no exact bound: looked at after each round.
pub(crate) struct Amounts {
    /// How many deeds there have been.
    deeds: u64,
    resident_kib: u64,
    objects: BTreeMap<String, u64>,
}

impl Amounts {
    pub(crate) fn after(deeds: u64) -> Self {
        Self {
            deeds,
            // Files' pages aside.
            resident_kib: objects::kibibytes("/proc/self/status", &["RssAnon", "RssShmem"])
                .unwrap_or(0),
            // Only root may know.
            objects: objects::kernel_objects().unwrap_or_default(),
        }
    }

    /// Whether there are more kernel objects of a kind than before. A leak adds one to some kind
    /// with each deed, or with most.
    fn has_more(&self, kind: &str, before: &Self) -> bool {
        let of = |amounts: &Self| amounts.objects.get(kind).copied().unwrap_or(0);
        of(self) > of(before) + (self.deeds - before.deeds) / 2
    }
}

/// What has grown without end. What others do grows now and then, a leak in each round.
pub(crate) fn grown(rounds: &[Amounts]) -> Vec<String> {
    let (Some(first), Some(last)) = (rounds.first(), rounds.last()) else {
        return Vec::new();
    };
    let mut grown = Vec::new();
    if last.resident_kib > first.resident_kib + RESIDENT_KIB {
        let (now, before) = (last.resident_kib, first.resident_kib);
        grown.push(format!("{now} KiB resident, where there were {before}"));
    }
    let pairs = || rounds.windows(2);
    for name in last.objects.keys() {
        let grows = |pair: &[Amounts]| pair[1].has_more(name, &pair[0]);
        if pairs().len() > 0 && pairs().all(grows) {
            grown.push(format!("kernel objects {name} grow in each round"));
        }
    }
    grown
}
