//! Going back: reset, snapshot, restore, and the eviction that comes first.

use linux_raw::called::Failed;
use linux_raw::{Errno, nr};

use super::{At, Instance};
use crate::error::{Blame, Error, KernelResult as _, Misuse, Stage};
use crate::memory::snapshot::Snapshot;
use crate::turn::is_dead;

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
    pub fn reset(&mut self) -> Result<(), Error> {
        self.check_usable(Stage::Memory)?;
        self.evict()?;
        let done = self.memory.reset();
        let done = self.unless_over(done);
        self.renewed(done)
    }

    /// Keeps the memory as it is, for [`restore`](Self::restore). Registers are not in it: the
    /// guest is best between two calls. Code that was written into the code window is not either.
    ///
    /// # Errors
    ///
    /// The kernel's, where it has no memory.
    pub fn snapshot(&mut self) -> Result<Snapshot, Error> {
        self.check_ours(Stage::Memory)?;
        self.memory.snapshot()
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
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        self.check_usable(Stage::Memory)?;
        self.memory.check_restore(snapshot)?;
        self.evict()?;
        let done = self.memory.restore(snapshot);
        let done = self.unless_over(done);
        self.renewed(done)
    }

    /// Takes the thread away from a guest that has run, before anything is wiped that it might
    /// still read or write.
    fn evict(&mut self) -> Result<(), Error> {
        let Some(worker) = self.worker.pidfd() else {
            return Err(Error::misuse(Stage::Memory, Misuse::Over));
        };
        let one_tenant = self.engine.config().single_tenant;
        if one_tenant || !self.memory.has_been_touched() {
            return Ok(());
        }
        self.order = None;
        self.at = At::Rest;
        match self.turn.evict(worker) {
            Ok(()) if is_dead(worker) => Err(Error::misuse(Stage::Memory, Misuse::Over)),
            // The next guest is not to be blamed for what this one has done to the word.
            Ok(()) => {
                let left = self.turn.check_left();
                left.map_err(|forged| self.forged(Stage::Memory, forged))
            }
            Err(Failed(_, Errno::ESRCH)) => Err(Error::misuse(Stage::Memory, Misuse::Over)),
            Err(Failed(call, errno)) => {
                self.renewed(Err(Error::kernel(Stage::Memory, call.name(), errno)))
            }
        }
    }

    /// Wipes what a guest leaves outside its memory, or ends a worker whose memory is neither old
    /// nor new.
    fn renewed(&mut self, done: Result<(), Error>) -> Result<(), Error> {
        let done = done.and_then(|()| match self.engine.config().single_tenant {
            true => Ok(()),
            false => self.turn.pages().wipe(),
        });
        match done {
            // A guest that only said that it had finished may have ended its worker since: that is
            // no business of the next one's.
            Ok(()) if !self.is_alive() => Err(Error::misuse(Stage::Memory, Misuse::Over)),
            Ok(()) => {
                self.order = None;
                self.at = At::Rest;
                Ok(())
            }
            Err(error) if matches!(error.blame, Blame::Caller(_)) => Err(error),
            Err(error) => {
                let killed = self.worker.kill();
                killed.at(Stage::Memory, nr::PIDFD_SEND_SIGNAL.name())?;
                Err(error)
            }
        }
    }
}
