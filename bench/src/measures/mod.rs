//! All that is measured, by topic.

mod lives;
mod memory;
mod starts;
mod turns;

use crate::measure::{Measure, Side, Whole};
use crate::ours::{interrupts, nursery};

/// Measures of one kind.
pub struct Topic {
    /// For `--only`.
    pub name: &'static str,
    /// Side by side, by file.
    pub measures: &'static [&'static [Measure]],
    /// In runs of their own.
    pub wholes: &'static [Whole],
}

impl Topic {
    /// All that is measured side by side.
    pub fn measures(&self) -> impl Iterator<Item = &'static Measure> {
        self.measures.iter().copied().flatten()
    }

    /// What `--only` knows the figures by.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let wholes = self.wholes.iter().map(|whole| whole.name);
        self.measures().map(|measure| measure.name).chain(wholes)
    }
}

/// In the order in which they are measured: what leaves much to clean up for the kernel comes last.
pub const TOPICS: &[Topic] = &[
    Topic {
        name: "turns",
        measures: &[turns::MEASURES, interrupts::MEASURES],
        wholes: &[],
    },
    Topic {
        name: "memory",
        measures: &[memory::MEASURES],
        wholes: &[],
    },
    Topic {
        name: "start",
        measures: &[starts::MEASURES, nursery::MEASURES],
        wholes: starts::WHOLES,
    },
    Topic {
        name: "lives",
        measures: &[lives::MEASURES],
        wholes: lives::WHOLES,
    },
];

/// The names of the peers.
const POLKAVM: &str = "PolkaVM 0.37";
const PAGING: &str = "PolkaVM 0.37, dynamic paging";
const WASMTIME: &str = "wasmtime 48, in process";

/// Two processes that hand a cache line back and forth cannot be faster than two threads.
const PING_PONG: Side = Side::new("cache-line ping-pong", |_| {
    crate::limits::ping_pong::ping_pong()
});

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::TOPICS;

    #[test]
    fn names_are_for_programs_and_differ() {
        let mut seen = HashSet::new();
        for topic in TOPICS {
            for name in topic.names().chain([topic.name]) {
                let is_plain =
                    |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
                assert!(
                    name.chars().all(|letter| letter == '_' || is_plain(letter)),
                    "{name}"
                );
                assert!(seen.insert(name), "{name} twice");
            }
        }
    }
}
