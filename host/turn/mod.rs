//! One conversation with a worker: the shared pages, and the host's own record of whose turn it is.

#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
mod pages;
mod place;
mod record;
mod report;
mod seats;
mod sitter;
mod spin;
#[cfg(test)]
mod tests;
mod wait;

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use linux_raw::called::{Called as _, Failed};
use linux_raw::fd::BorrowedFd;
use linux_raw::signal::Signal;
use linux_raw::{Errno, membarrier, nr, pidfd};
use vmctx::guest_page::REGISTERS;
use vmctx::{EVICTION, Forged, HOSTCALL_ARGS, INTERRUPTION, State};

pub(crate) use self::pages::{Doorbell, Pages, Slab, WorkerEnds};
use self::record::Record;
pub(crate) use self::seats::Seats;
use self::sitter::{Sitter, Standing};
pub(crate) use self::wait::{Alone, Patience, Waited, Watch, is_dead};
use crate::interrupt::{Hostcall, Trap};

/// The host's end of a conversation: what it shares with the worker, and what it keeps to itself.
pub(crate) struct Turn {
    pages: Pages,
    record: Record,
    sitter: Sitter,
    /// What the host page says, which is another line to fetch for the worker when it changes: the
    /// last entry and its stack, and how long to wait how.
    entered: (u64, u64),
    told: Patience,
    is_evicted: bool,
}

impl Turn {
    pub(crate) fn new(pages: Pages, patience: Patience, seats: &Arc<Seats>) -> Self {
        Self {
            pages,
            record: Record::new(patience),
            sitter: Sitter::new(seats),
            entered: (0, 0),
            told: patience,
            is_evicted: false,
        }
    }

    pub(crate) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// What the host last saw or ordered.
    pub(crate) fn record(&self) -> State {
        self.record.state
    }

    /// Finds out how to wait in the turn that is about to begin, and may wait before it: not beyond
    /// the deadline, and not once somebody asks.
    #[inline]
    pub(crate) fn settle(
        &mut self,
        deadline: impl FnOnce() -> Option<Instant>,
        is_asked: impl Fn() -> bool,
    ) {
        let standing = if self.sitter.sits_alone() {
            Standing::Alone
        } else {
            self.sitter
                .settle(&mut self.record.spinning, deadline(), &is_asked)
        };
        self.record.spinning.stands(standing);
    }

    /// No turn may follow for some time.
    #[inline]
    pub(crate) fn pauses(&mut self) {
        self.sitter.pauses();
    }

    /// Orders the worker to enter the guest.
    #[inline]
    pub(crate) fn enter(
        &mut self,
        entry: u64,
        stack: u64,
        args: &[u64; HOSTCALL_ARGS],
    ) -> Result<(), Forged> {
        if self.entered != (entry, stack) {
            self.pages.set_entry(entry, stack);
            self.entered = (entry, stack);
        }
        if mem::take(&mut self.is_evicted) {
            self.pages.set_evicted(false);
        }
        self.publish(State::Enter, |pages| pages.set_args(args))
    }

    /// Orders the worker to go on after a hostcall.
    #[inline]
    pub(crate) fn resume(&mut self, answer: u64) -> Result<(), Forged> {
        self.publish(State::Resume, |pages| pages.set_value(answer))
    }

    /// Orders the worker to go on where the guest was: after a fault with the instruction that made
    /// it.
    #[inline]
    pub(crate) fn retry(&mut self) -> Result<(), Forged> {
        self.publish(State::Resume, |_| {})
    }

    #[inline]
    fn publish(&mut self, order: State, write: impl FnOnce(&Pages)) -> Result<(), Forged> {
        let pages = &self.pages;
        self.sitter.beats(true);
        self.record.publish(pages.state(), order, || write(pages))?;
        let patience = self.record.spinning.worker();
        if patience != self.told {
            self.told = patience;
            self.pages.set_patience(patience);
        }
        Ok(())
    }

    /// Tells the worker to stop its guest where it is. A worker that is in its own code does not
    /// hear it.
    pub(crate) fn interrupt(worker: BorrowedFd<'_>) -> Result<(), Errno> {
        pidfd::pidfd_send_signal(worker, Signal::from_raw(INTERRUPTION))
    }

    /// Takes the worker's thread away from the guest, whatever it claims to have done with it: once
    /// this returns, nothing of the guest's executes any more. The turn must be ours.
    ///
    /// A guest that says that it has finished, and goes on, is known to nobody. The signal's
    /// handler is the zygote's, which no guest can change, and it never goes back; the barrier has
    /// every CPU that runs a worker pass through the kernel, where signals are taken. An
    /// interruption that is under way, or comes before the next order, ends in the same place.
    pub(crate) fn evict(&mut self, worker: BorrowedFd<'_>) -> Result<(), Failed> {
        self.is_evicted = true;
        self.pages.set_evicted(true);
        pidfd::pidfd_send_signal(worker, Signal::from_raw(EVICTION))
            .called(nr::PIDFD_SEND_SIGNAL)?;
        membarrier::global_expedited().called(nr::MEMBARRIER)
    }

    /// Whether the word is as the worker left it. Only after an eviction does the answer last.
    pub(crate) fn check_left(&self) -> Result<(), Forged> {
        self.record.check_left(self.pages.state())
    }

    /// Whether the word is another than the host has left it: a look that judges nothing.
    pub(crate) fn has_come_back(&self) -> bool {
        self.record.has_come_back(self.pages.state())
    }

    /// Waits until the worker gives the turn back, dies, or the deadline passes.
    pub(crate) fn wait(
        &mut self,
        watch: &impl Watch,
        deadline: Option<Instant>,
    ) -> Result<Waited, Forged> {
        self.record.wait(self.pages.state(), watch, deadline)
    }

    /// Waits as long as spinning is worth it. `None`: the worker has the turn still.
    #[inline]
    pub(crate) fn spin(&mut self) -> Result<Option<State>, Forged> {
        let state = self.record.spin(self.pages.state())?;
        if state.is_some() {
            self.sitter.beats(false);
        }
        Ok(state)
    }

    /// Waits on, after [`spin`](Self::spin).
    pub(crate) fn wait_long(
        &mut self,
        watch: &impl Watch,
        deadline: Option<Instant>,
    ) -> Result<Waited, Forged> {
        let waited = self.record.wait_long(self.pages.state(), watch, deadline);
        self.sitter.beats(false);
        self.sitter.forget_lost();
        waited
    }

    /// Waits on, asleep.
    pub(crate) fn sleep(
        &mut self,
        watch: &impl Watch,
        deadline: Option<Instant>,
    ) -> Result<Waited, Forged> {
        self.record.sleep(self.pages.state(), watch, deadline)
    }

    /// What wakes one who waits for this worker.
    pub(crate) fn doorbell(&self) -> Doorbell {
        self.pages.doorbell()
    }

    /// What the guest may still use up, as it says itself.
    pub(crate) fn gas(&self) -> i64 {
        self.pages.gas()
    }

    pub(crate) fn set_gas(&self, gas: i64) {
        self.pages.set_gas(gas);
    }

    /// The hostcall that the guest makes.
    #[inline]
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

    /// The registers at the last trap or interruption.
    pub(crate) fn registers(&self) -> [u64; REGISTERS] {
        report::registers(&self.pages.guest().fault)
    }
}

impl Doorbell {
    /// Has a host that sleeps look around.
    pub(crate) fn ring(&self) {
        wait::wake_host(self.state());
    }
}
