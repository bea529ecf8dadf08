//! What an embedder may choose.

use std::time::Duration;

/// Options of an [`Engine`](crate::Engine). The default is meant for production.
#[derive(Debug, Clone)]
#[must_use]
pub struct Config {
    pub(crate) start_timeout: Duration,
    pub(crate) memory_limit: u64,
    pub(crate) spin: Duration,
    pub(crate) yields: u32,
}

const SPIN_MAX: Duration = Duration::from_millis(1);
const YIELDS_MAX: u32 = 1000;

impl Default for Config {
    fn default() -> Self {
        Self {
            start_timeout: Duration::from_secs(5),
            memory_limit: 1 << 30,
            // Longer than an answer from a host that is awake, shorter than a wake-up.
            spin: Duration::from_micros(10),
            yields: 40,
        }
    }
}

impl Config {
    /// The default.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a worker may take to start before it is killed. 5 s by default; a start takes
    /// about a millisecond.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// The most bytes of guest memory that a module may ask for, all regions together. 1 GiB by
    /// default. Memory is taken from the machine only when a guest first touches it.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// How long each side spins for the other before it yields its CPU. 10 µs by default, at most
    /// 1 ms: while it spins, a side looks at nothing else.
    pub fn spin(mut self, spin: Duration) -> Self {
        self.spin = spin.min(SPIN_MAX);
        self
    }

    /// How often each side yields its CPU before it sleeps. 40 by default, at most 1,000; the host
    /// also stops after 5 ms.
    pub fn yields(mut self, yields: u32) -> Self {
        self.yields = yields.min(YIELDS_MAX);
        self
    }
}
