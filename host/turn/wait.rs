//! Giving the turn away and waiting for it to come back: spin, yield, sleep.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::time::{Duration, Instant};

use linux_raw::fd::BorrowedFd;
use linux_raw::io::{self, PollFd, PollFlags};
use linux_raw::time::Timespec;
use linux_raw::{arch, futex, process};
use vmctx::{Forged, State, StateWord};

use super::Turn;
use crate::deadline::time_left;

/// How long a host yields at the most, and how long it then sleeps without a look at whether the
/// worker lives. A dead worker is noticed within two of these, whatever it did to the words.
const SLICE: Duration = Duration::from_millis(5);

/// How hard to try before sleeping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) spin_iterations: u32,
    pub(crate) yields: u32,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The worker gave the turn back, legally.
    Turn(State),
    /// The deadline passed.
    Deadline,
    /// The worker is dead and left no turn behind.
    Dead,
}

impl Turn {
    /// Gives the turn to the worker.
    ///
    /// Fails if the worker changed the word while the turn was the host's: all that it may do
    /// then is to say that it sleeps.
    pub(super) fn publish(&mut self, order: State) -> Result<(), Forged> {
        debug_assert!(
            order.may_follow(self.record),
            "{order:?} after {:?}",
            self.record
        );
        let word = StateWord::publish(order, arch::current_cpu()).raw();
        self.record = order;
        self.ordered = word;
        // Release pairs with the worker's load of the state in `zygote/src/trampoline.rs`: it
        // sees the answer or the entry. Acquire pairs with the worker's `cmpxchg` of its sleep bit.
        let old = StateWord::from_raw(self.pages.state().swap(word, AcqRel));
        if old.awake() != self.seen {
            return Err(Forged {
                word: "state",
                value: old.raw().into(),
            });
        }
        self.worker_cpu = old.cpu_hint();
        if old.worker_sleeps() {
            // The only error is a bad address, which ours is not.
            let _ = futex::wake(self.pages.state(), 1);
        }
        Ok(())
    }

    /// One look at the word: the new state, nothing yet, or a forgery.
    fn look(&mut self) -> Result<Option<State>, Forged> {
        // Acquire pairs with the worker's exchange: what it wrote before is visible.
        let word = StateWord::from_raw(self.pages.state().load(Acquire));
        if word.raw() & !StateWord::HOST_SLEEPS == self.ordered {
            return Ok(None);
        }
        self.seen = word.awake();
        let state = word.alleged_state().check_state(self.record)?;
        self.record = state;
        Ok(Some(state))
    }
}

pub(super) fn wait(
    turn: &mut Turn,
    worker: BorrowedFd<'_>,
    deadline: Option<Instant>,
) -> Result<Waited, Forged> {
    // A worker that last ran on this very CPU waits for us to let go of it.
    if turn.worker_cpu != Some(arch::current_cpu()) {
        for _ in 0..turn.patience.spin_iterations {
            if let Some(state) = turn.look()? {
                return Ok(Waited::Turn(state));
            }
            arch::pause();
        }
    }
    // Where CPUs are short, each yield can take a time slice, and nobody looks at the worker's life
    // meanwhile: so yielding ends by the clock too.
    let enough = Instant::now() + SLICE;
    for _ in 0..turn.patience.yields {
        if let Some(state) = turn.look()? {
            return Ok(Waited::Turn(state));
        }
        let now = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Ok(Waited::Deadline);
        }
        if enough <= now {
            break;
        }
        process::sched_yield();
    }
    sleep(turn, worker, deadline)
}

/// Sleeps in slices. Every round looks at the word, the deadline and the worker's life, so that
/// no lie about the sleep bits can keep it.
fn sleep(
    turn: &mut Turn,
    worker: BorrowedFd<'_>,
    deadline: Option<Instant>,
) -> Result<Waited, Forged> {
    loop {
        if let Some(state) = turn.look()? {
            return Ok(Waited::Turn(state));
        }
        let slice = time_left(deadline).min(SLICE);
        if slice.is_zero() {
            return Ok(Waited::Deadline);
        }
        let asleep = turn.ordered | StateWord::HOST_SLEEPS;
        // Relaxed: nothing is read for it, and the next look loads again. The worker's exchange
        // either comes first, and this fails, or returns the bit, and it wakes us.
        let said = turn
            .pages
            .state()
            .compare_exchange(turn.ordered, asleep, Relaxed, Relaxed);
        if said.is_ok() || said == Err(asleep) {
            // AGAIN: the word moved. TIMEDOUT, INTR: look again. All of it is the loop's.
            let _ = futex::wait(turn.pages.state(), asleep, Some(Timespec::from(slice)));
        }
        if is_dead(worker) {
            return Ok(turn.look()?.map_or(Waited::Dead, Waited::Turn));
        }
    }
}

/// Whether the process behind a pidfd has ended: then it is readable (pidfd_open(2)).
pub(crate) fn is_dead(worker: BorrowedFd<'_>) -> bool {
    let mut poll = [PollFd::new(worker, PollFlags::IN)];
    matches!(io::poll(&mut poll, Some(Timespec::from_nanos(0))), Ok(1))
}
