//! One conversation with a worker: the shared pages, and the host's own record of whose turn it is.

#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
mod pages;
mod place;
mod record;
mod report;
#[cfg(test)]
mod tests;
mod wait;

use std::time::Instant;

use linux_raw::called::{Called as _, Failed};
use linux_raw::fd::BorrowedFd;
use linux_raw::signal::Signal;
use linux_raw::{membarrier, nr, pidfd};
use vmctx::guest_page::REGISTERS;
use vmctx::{EVICTION, Forged, HOSTCALL_ARGS, State};

pub(crate) use self::pages::{Pages, WorkerEnds};
use self::record::Record;
pub(crate) use self::wait::{Patience, Waited, is_dead};
use crate::interrupt::{Hostcall, Trap};

/// The host's end of a conversation: what it shares with the worker, and what it keeps to itself.
pub(crate) struct Turn {
    pages: Pages,
    record: Record,
}

impl Turn {
    pub(crate) fn new(pages: Pages, patience: Patience) -> Self {
        Self {
            pages,
            record: Record::new(patience),
        }
    }

    pub(crate) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// What the host last saw or ordered.
    pub(crate) fn record(&self) -> State {
        self.record.state
    }

    /// Orders the worker to enter the guest.
    pub(crate) fn enter(
        &mut self,
        entry: u64,
        stack: u64,
        args: &[u64; HOSTCALL_ARGS],
    ) -> Result<(), Forged> {
        self.pages.set_entry(entry, stack);
        self.pages.set_args(args);
        self.record.publish(self.pages.state(), State::Enter)
    }

    /// Orders the worker to go on after a hostcall.
    pub(crate) fn resume(&mut self, answer: u64) -> Result<(), Forged> {
        self.pages.set_value(answer);
        self.record.publish(self.pages.state(), State::Resume)
    }

    /// Orders the worker to go on after a fault, with the instruction that made it.
    pub(crate) fn retry(&mut self) -> Result<(), Forged> {
        self.record.publish(self.pages.state(), State::Resume)
    }

    /// Takes the worker's thread away from the guest, whatever it claims to have done with it: once
    /// this returns, nothing of the guest's executes any more. The turn must be ours.
    ///
    /// A guest that says that it has finished, and goes on, is known to nobody. The signal's
    /// handler is the zygote's, which no guest can change, and it never goes back; the barrier has
    /// every CPU that runs a worker pass through the kernel, where signals are taken.
    pub(crate) fn evict(&self, worker: BorrowedFd<'_>) -> Result<(), Failed> {
        pidfd::pidfd_send_signal(worker, Signal::from_raw(EVICTION))
            .called(nr::PIDFD_SEND_SIGNAL)?;
        membarrier::global_expedited().called(nr::MEMBARRIER)
    }

    /// Whether the word is as the worker left it. Only after an eviction does the answer last.
    pub(crate) fn check_left(&self) -> Result<(), Forged> {
        self.record.check_left(self.pages.state())
    }

    /// Waits until the worker gives the turn back, dies, or the deadline passes.
    pub(crate) fn wait(
        &mut self,
        worker: BorrowedFd<'_>,
        deadline: Option<Instant>,
    ) -> Result<Waited, Forged> {
        self.record
            .wait(self.pages.state(), || is_dead(worker), deadline)
    }

    /// The hostcall that the guest makes.
    pub(crate) fn hostcall(&self) -> Hostcall {
        self.pages.hostcall()
    }

    /// The value that the guest finished with.
    pub(crate) fn value(&self) -> u64 {
        self.pages.value()
    }

    /// The trap that the worker reports.
    pub(crate) fn trap(&self, reports_calls: bool) -> Result<Trap, Forged> {
        report::trap(&self.pages.guest().fault, reports_calls)
    }

    /// The registers at the last trap.
    pub(crate) fn registers(&self) -> [u64; REGISTERS] {
        report::registers(&self.pages.guest().fault)
    }
}
