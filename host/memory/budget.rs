//! How much guest memory an instance, and all of an engine's together, may hold.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use crate::error::Misuse;

/// What all instances of an engine share.
pub(crate) struct EngineBudget {
    limit: u64,
    used: AtomicU64,
    reserve: OnceLock<Reserve>,
}

/// Gives back what nobody needs, until what it is given has succeeded or nothing is left.
type Reserve = Box<dyn Fn(&mut dyn FnMut() -> bool) + Send + Sync>;

impl EngineBudget {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicU64::new(0),
            reserve: OnceLock::new(),
        })
    }

    /// Who is asked to give something back before somebody gets nothing.
    pub(crate) fn on_shortage(
        &self,
        give: impl Fn(&mut dyn FnMut() -> bool) + Send + Sync + 'static,
    ) {
        // There is one pool, which says this once.
        let _ = self.reserve.set(Box::new(give));
    }

    /// How many bytes all instances hold.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    fn take(&self, bytes: u64) -> Result<(), Misuse> {
        let mut taken = self.take_what_is_free(bytes);
        if taken.is_err()
            && bytes <= self.limit
            && let Some(give) = self.reserve.get()
        {
            give(&mut || {
                taken = self.take_what_is_free(bytes);
                taken.is_ok()
            });
        }
        taken
    }

    /// Relaxed here and below: the number guards nothing but itself.
    fn take_what_is_free(&self, bytes: u64) -> Result<(), Misuse> {
        let limit = self.limit;
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= limit);
        let taken = self.used.fetch_update(Relaxed, Relaxed, more);
        taken
            .map(drop)
            .map_err(|used| Misuse::EngineMemoryLimit { used, bytes, limit })
    }

    fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Relaxed);
    }
}

/// What one instance holds, in bytes. It is given back on drop.
pub(super) struct Budget {
    engine: Arc<EngineBudget>,
    limit: u64,
    used: u64,
}

impl Budget {
    pub(super) fn new(engine: &Arc<EngineBudget>, limit: u64) -> Self {
        Self {
            engine: Arc::clone(engine),
            limit,
            used: 0,
        }
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Takes so many more bytes, or none.
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), Misuse> {
        let all = self.used.saturating_add(bytes);
        if all > self.limit {
            let limit = self.limit;
            return Err(Misuse::MemoryLimit { bytes: all, limit });
        }
        self.engine.take(bytes)?;
        self.used = all;
        Ok(())
    }

    pub(super) fn give(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.used, "{bytes} of {} given back", self.used);
        let bytes = bytes.min(self.used);
        self.used -= bytes;
        self.engine.give(bytes);
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.engine.give(self.used);
    }
}
