//! Faults of the guest's: settled by the host, answered by a pager, or given to the caller.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

use super::run::Next;
use super::{At, Instance};
use crate::error::{Blame, Error, Misuse, Stage};
use crate::interrupt::{Interrupt, PageFault, Trap, TrapKind};
use crate::memory::Verdict;
use crate::pager::{Paged, Pager};

/// Who answers page faults.
pub(super) enum Answers {
    /// The caller of `run`.
    Caller,
    /// A pager. Nobody shares it; the lock is for the compiler, which does not know that.
    Pager(Mutex<Box<dyn Pager>>),
    /// A pager that is being asked: what it runs itself answers to it as to a caller.
    Asked,
}

impl Instance {
    /// Lets `pager` answer page faults from now on. It is called on the thread that calls
    /// [`run`](Self::run), for modules that page dynamically.
    pub fn set_pager(&mut self, pager: impl Pager + 'static) {
        self.pager = Answers::Pager(Mutex::new(Box::new(pager)));
    }

    /// Takes the pager away: page faults come out of [`run`](Self::run) again.
    pub fn clear_pager(&mut self) {
        self.pager = Answers::Caller;
    }

    /// Refuses the page fault that the guest is stopped in, which makes a trap of it. The guest
    /// does not go on; `call` enters it anew.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoFault`] if there is none.
    pub fn refuse_fault(&mut self) -> Result<Trap, Error> {
        match self.at {
            At::Fault(trap) => {
                self.at = At::Trap;
                Ok(trap)
            }
            _ => Err(Error::misuse(Stage::Run, Misuse::NoFault)),
        }
    }

    /// A guest that the worker reports as trapped.
    pub(super) fn trapped(&mut self, mut trap: Trap) -> Result<Next, Error> {
        self.at = At::Trap;
        let is_memory = matches!(trap.kind, TrapKind::Memory | TrapKind::Bus);
        let (Some(address), Some(access), true) = (trap.address, trap.access, is_memory) else {
            return Ok(Next::Interrupt(Interrupt::Trap(trap)));
        };
        if !self.started.memory.is_paged() {
            return Ok(Next::Interrupt(Interrupt::Trap(trap)));
        }
        let reported = trap.kind;
        // The kernel says SIGBUS for what is ours to decide.
        trap.kind = TrapKind::Memory;
        self.at = At::Fault(trap);
        self.started.tally.faults += 1;
        let verdict = match self.started.memory.settle_fault(address, access) {
            Err(error) if is_over(&error) => return Ok(Next::Retry), // which ends with its death
            verdict => verdict?,
        };
        match verdict {
            Verdict::Settled => return Ok(Next::Retry),
            Verdict::Absent if self.started.module.pages_dynamically() => {
                let pc = trap.pc.unwrap_or(0);
                return self.page_fault(PageFault {
                    address,
                    access,
                    pc,
                });
            }
            Verdict::Absent | Verdict::Refused => {}
            Verdict::Unexplained => trap.kind = reported,
        }
        self.at = At::Trap;
        Ok(Next::Interrupt(Interrupt::Trap(trap)))
    }

    fn page_fault(&mut self, fault: PageFault) -> Result<Next, Error> {
        let later = Next::Interrupt(Interrupt::PageFault(fault));
        let mut pager = match mem::replace(&mut self.pager, Answers::Asked) {
            Answers::Pager(pager) => pager.into_inner().unwrap_or_else(PoisonError::into_inner),
            other => {
                self.pager = other;
                return Ok(later);
            }
        };
        // A pager that panics is put back: the guest is in its fault still, and the instance whole.
        let answered = catch_unwind(AssertUnwindSafe(|| pager.page_fault(&fault, self)));
        // Unless it has set another, or none.
        if matches!(self.pager, Answers::Asked) {
            self.pager = Answers::Pager(Mutex::new(pager));
        }
        match answered.unwrap_or_else(|panic| resume_unwind(panic)) {
            Ok(Paged::Retry) => Ok(Next::Retry),
            Ok(Paged::Refuse) => {
                let trap = self.refuse_fault()?;
                Ok(Next::Interrupt(Interrupt::Trap(trap)))
            }
            Ok(Paged::Later) => Ok(later),
            // Of this worker, and of no other that the pager has to do with.
            Err(error) if is_over(&error) && self.is_dying() => Ok(Next::Interrupt(self.death())),
            Err(error) if is_limit(&error) => Ok(Next::Interrupt(Interrupt::OutOfMemory(fault))),
            Err(error) => Err(error),
        }
    }

    /// Whether the worker is dead, and nobody has been told.
    fn is_dying(&self) -> bool {
        self.started.worker.pidfd().is_some() && self.started.worker.is_ending()
    }
}

/// Whether the worker's memory was gone.
fn is_over(error: &Error) -> bool {
    error.blame == Blame::Caller(Misuse::Over)
}

fn is_limit(error: &Error) -> bool {
    matches!(
        error.blame,
        Blame::Caller(Misuse::MemoryLimit { .. } | Misuse::EngineMemoryLimit { .. })
    )
}
