//! One conversation with a worker: the shared pages, and the host's own record of whose turn it is.

mod pages;
mod report;
mod wait;

use std::time::Instant;

use linux_raw::fd::BorrowedFd;
use vmctx::guest_page::REGISTERS;
use vmctx::{Forged, HOSTCALL_ARGS, State, StateWord};

pub(crate) use self::pages::{Pages, WorkerEnds};
pub(crate) use self::wait::{Patience, Waited, is_dead};
use crate::interrupt::{Hostcall, Trap};

/// The host's end of a conversation.
///
/// `record` is what the host believes; the shared state word is only what the worker claims.
pub(crate) struct Turn {
    pages: Pages,
    record: State,
    /// The state word as the host last wrote it: while the worker has the turn, it may not change
    /// but by a new state.
    ordered: u32,
    /// The state word as the worker gave the turn back, without the sleep bits.
    seen: StateWord,
    /// The CPU that the worker last claimed to run on.
    worker_cpu: Option<u32>,
    patience: Patience,
}

impl Turn {
    pub(crate) fn new(pages: Pages, patience: Patience) -> Self {
        Self {
            pages,
            record: State::Boot,
            ordered: 0,
            seen: StateWord::from_raw(0),
            worker_cpu: None,
            patience,
        }
    }

    pub(crate) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// What the host last saw or ordered.
    pub(crate) fn record(&self) -> State {
        self.record
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
        self.publish(State::Enter)
    }

    /// Orders the worker to go on after a hostcall.
    pub(crate) fn resume(&mut self, answer: u64) -> Result<(), Forged> {
        self.pages.set_value(answer);
        self.publish(State::Resume)
    }

    /// Waits until the worker gives the turn back, dies, or the deadline passes.
    pub(crate) fn wait(
        &mut self,
        worker: BorrowedFd<'_>,
        deadline: Option<Instant>,
    ) -> Result<Waited, Forged> {
        wait::wait(self, worker, deadline)
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
    pub(crate) fn trap(&self) -> Result<Trap, Forged> {
        report::trap(&self.pages.guest().fault)
    }

    /// The registers at the last trap.
    pub(crate) fn registers(&self) -> [u64; REGISTERS] {
        report::registers(&self.pages.guest().fault)
    }
}
