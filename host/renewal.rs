//! Making a worker as new: the eviction of whoever is in it, memory as at its origin, no trace on
//! the pages that it shares.

use linux_raw::called::Failed;
use linux_raw::{Errno, nr};

use crate::core::Core;
use crate::error::{Blame, Error, KernelResult as _, Misuse, Stage};
use crate::memory::Memory;
use crate::metrics::Kill;
use crate::start::Started;
use crate::turn::is_dead;

impl Started {
    /// Brings memory back by `renew`, with nobody in the worker who could look on, and wipes what a
    /// guest has left outside of it.
    ///
    /// A misuse leaves everything as it was, but for the guest, which does not go on. After any
    /// other error the worker is dead: nothing half wiped is run.
    pub(crate) fn renew(
        &mut self,
        core: &Core,
        renew: impl FnOnce(&mut Memory) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let one_tenant = core.config.single_tenant;
        let has_traces = !one_tenant && self.memory.has_been_touched();
        if has_traces {
            self.evict()?;
        }
        let done = renew(&mut self.memory);
        let done = done.map_err(|error| self.or_over(error));
        // Without an eviction nothing is wiped: an interruption may be on the worker's stack.
        let done = done.and_then(|()| match has_traces {
            false => {
                self.turn.set_gas(0);
                Ok(())
            }
            true => self.turn.pages().wipe(),
        });
        match done {
            // A guest that only said that it had finished may have ended its worker since: that is
            // no business of the next one's.
            Ok(()) => self.check_alive(),
            Err(error) if !matches!(error.blame, Blame::Caller(_)) => self.killed(error),
            misuse => misuse,
        }
    }

    /// Makes it as new for another instance of its module.
    pub(crate) fn clean(&mut self, core: &Core) -> Result<(), Error> {
        self.renew(core, Memory::reset)?;
        self.memory.forget_peak();
        Ok(())
    }

    /// That the worker lives, by a look that does not wait.
    pub(crate) fn check_alive(&self) -> Result<(), Error> {
        match self.worker.pidfd() {
            Some(worker) if !is_dead(worker) => Ok(()),
            _ => Err(Error::misuse(Stage::Memory, Misuse::Over)),
        }
    }

    /// Takes the thread away from a guest that has run, before anything is wiped that it might
    /// still read or write.
    fn evict(&mut self) -> Result<(), Error> {
        let over = || Error::misuse(Stage::Memory, Misuse::Over);
        let Some(worker) = self.worker.pidfd() else {
            return Err(over());
        };
        match self.turn.evict(worker) {
            Ok(()) if is_dead(worker) => Err(over()),
            // The next guest is not to be blamed for what this one has done to the word.
            Ok(()) => {
                let left = self.turn.check_left();
                left.map_err(|forged| self.worker.forged(Stage::Memory, forged))
            }
            Err(Failed(_, Errno::ESRCH)) => Err(over()),
            Err(Failed(call, errno)) => {
                self.killed(Error::kernel(Stage::Memory, call.name(), errno))
            }
        }
    }

    /// What the kernel refuses of a worker that is ending means no more than that.
    fn or_over(&self, error: Error) -> Error {
        if matches!(error.blame, Blame::Kernel { .. }) && self.worker.is_ending() {
            return Error::misuse(Stage::Memory, Misuse::Over);
        }
        error
    }

    /// Ends a worker that is neither old nor new.
    fn killed(&mut self, error: Error) -> Result<(), Error> {
        let killed = self.worker.kill_for(Kill::by(&error));
        killed.at(Stage::Memory, nr::PIDFD_SEND_SIGNAL.name())?;
        Err(error)
    }
}
