//! Going back: reset, snapshot, restore, and the eviction that comes first.

use std::time::Instant;

use super::{At, Instance};
use crate::error::{Error, Stage};
use crate::memory::Memory;
use crate::memory::snapshot::Snapshot;

impl Instance {
    /// Puts the instance back to its module's initial state: map, contents, and all that the guest
    /// has left in its worker. What it was in is over: `call` it anew. The host's own settings
    /// stay: deadline and pager.
    ///
    /// # Errors
    ///
    /// [`Misuse::Over`]; [`Blame::Forged`] if the guest wrote what no honest worker writes after it
    /// had given the turn back, and then the worker is dead; [`Misuse::EngineMemoryLimit`] if the
    /// module's own map no longer fits, and then memory is as it was, but the guest does not go on;
    /// the kernel's, and then the worker is dead: nothing half wiped is run.
    ///
    /// [`Misuse::Over`]: crate::Misuse::Over
    /// [`Misuse::EngineMemoryLimit`]: crate::Misuse::EngineMemoryLimit
    /// [`Blame::Forged`]: crate::Blame::Forged
    pub fn reset(&mut self) -> Result<(), Error> {
        self.renew(Memory::reset)
    }

    /// Keeps the memory as it is, for [`restore`](Self::restore). Registers are not in it: the
    /// guest is best between two calls. Code that was written into the code window is not either.
    ///
    /// # Errors
    ///
    /// The kernel's, where it has no memory.
    pub fn snapshot(&mut self) -> Result<Snapshot, Error> {
        self.check_ours(Stage::Memory)?;
        self.started.memory.snapshot()
    }

    /// Puts map and contents back to a snapshot of this or another instance of the same module. Its
    /// pages are shared until they are first touched. What the guest was in is over: `call` it
    /// anew.
    ///
    /// A guest that was restored twice finds the same numbers twice where it keeps random ones: let
    /// it seed itself from [`ModuleBuilder::entropy`](crate::ModuleBuilder::entropy), which is
    /// fresh each time.
    ///
    /// # Errors
    ///
    /// [`Misuse::OtherModule`]; [`Misuse::FixedMap`] for another map than the module's where maps
    /// cannot be changed; the limits; otherwise as [`reset`](Self::reset).
    ///
    /// [`Misuse::OtherModule`]: crate::Misuse::OtherModule
    /// [`Misuse::FixedMap`]: crate::Misuse::FixedMap
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        self.check_usable(Stage::Memory)?;
        self.started.memory.check_restore(snapshot)?;
        self.renew(|memory| memory.restore(snapshot))
    }

    fn renew(&mut self, renew: impl FnOnce(&mut Memory) -> Result<(), Error>) -> Result<(), Error> {
        self.check_usable(Stage::Memory)?;
        let _span = tracing::debug_span!("reset").entered();
        let core = self.engine.core();
        let begun = Instant::now();
        let done = self.started.renew(core, renew);
        // Whatever became of it, the guest is where nobody can find it.
        self.order = None;
        self.at = At::Rest;
        core.counters.resets.since(begun);
        done
    }
}
