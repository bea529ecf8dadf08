//! What an embedder may choose of a pool.

use std::time::Duration;

/// How many workers an engine keeps for instances to come. A worker that is kept has been cleaned:
/// a new instance in it finds nothing of the one before.
///
/// ```
/// use cellwall::{Config, Engine, PoolConfig};
///
/// let pool = PoolConfig::new().spares(2).most(100).idle(50);
/// let engine = Engine::new(&Config::default().pool(pool))?;
/// # Ok::<(), cellwall::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct PoolConfig {
    pub(crate) spares: usize,
    pub(crate) most: usize,
    pub(crate) idle: usize,
    pub(crate) idle_memory: u64,
    pub(crate) wait: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            spares: 0,
            most: usize::MAX,
            idle: 64,
            idle_memory: 1 << 20,
            wait: Duration::ZERO,
        }
    }
}

impl PoolConfig {
    /// The default.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many locked-down workers are kept ready for the module that was asked for last, at the
    /// most [`idle`](Self::idle). They are started in the background. 0 by default.
    pub fn spares(mut self, workers: usize) -> Self {
        self.spares = workers;
        self
    }

    /// How many workers there may be at once, those that are kept included. No limit by default.
    pub fn most(mut self, workers: usize) -> Self {
        self.most = workers.max(1);
        self
    }

    /// How many workers without an instance are kept. 64 by default. Each is kept for its module:
    /// an instance of another one takes the place of one that has waited long, if there may be no
    /// more, or if this process has no descriptors left for more.
    pub fn idle(mut self, workers: usize) -> Self {
        self.idle = workers;
        self
    }

    /// How many bytes of guest memory a worker keeps without an instance, whole pages, so that the
    /// next one need not ask the kernel for them. 1 MiB by default. The rest is given back.
    pub fn idle_memory(mut self, bytes: u64) -> Self {
        self.idle_memory = bytes;
        self
    }

    /// How long [`Engine::instantiate`](crate::Engine::instantiate) waits where there are as many
    /// workers as there may be, until an instance is dropped. By default it fails at once, with
    /// [`Misuse::PoolExhausted`](crate::Misuse::PoolExhausted).
    pub fn wait(mut self, at_most: Duration) -> Self {
        self.wait = at_most;
        self
    }
}
