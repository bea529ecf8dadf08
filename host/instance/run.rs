//! Running: a turn of the guest's after the other, until there is something to tell.

use std::time::{Duration, Instant};

use linux_raw::Errno;
use linux_raw::fd::BorrowedFd;
use linux_raw::nr;
use linux_raw::signal::Signal;
use vmctx::{Forged, State};

use super::{At, Instance, Order};
use crate::bell::Bell;
use crate::deadline::Limit;
use crate::error::{Error, KernelResult as _, Misuse, Stage};
use crate::interrupt::{Death, Interrupt, Trap, TrapKind};
use crate::metrics::Kill;
use crate::turn::{Alone, Turn, Waited, Watch, is_dead};

/// How long a guest may go on after it was told to stop before it is told again, and how much
/// longer each time: what meets the worker's own code is not heard.
const ASK_AGAIN: Duration = Duration::from_micros(100);
const ASK_AGAIN_MAX: Duration = Duration::from_millis(2);

/// How a guest goes on after the worker gave the turn back.
pub(super) enum Next {
    Interrupt(Interrupt),
    Retry,
}

/// Why the host stops a guest.
#[derive(Clone, Copy)]
enum Cause {
    Asked,
    Deadline,
    Gas,
}

/// Why a wait has no end of the guest's making.
enum Broken {
    Forged(Forged),
    /// The guest cannot be told to stop.
    Unstoppable(Errno),
}

impl From<Forged> for Broken {
    fn from(forged: Forged) -> Self {
        Self::Forged(forged)
    }
}

/// What ends a wait for a worker whom a handle may interrupt.
struct Watched<'a> {
    worker: BorrowedFd<'a>,
    bell: &'a Bell,
}

impl Watch for Watched<'_> {
    fn is_dead(&self) -> bool {
        is_dead(self.worker)
    }

    fn is_asked(&self) -> bool {
        self.bell.is_asked()
    }
}

impl Instance {
    /// Gives the guest the turn and waits until it comes back. A guest that is stopped in a page
    /// fault tries again, and one that was interrupted goes on, unless something else was ordered.
    ///
    /// # Errors
    ///
    /// [`Misuse::NothingToRun`], [`Misuse::Over`] and [`Misuse::Forked`]; [`Blame::Forged`] if the
    /// worker wrote what no honest worker writes: the one error that a guest can cause. Its worker
    /// is dead then. The kernel's error where it refuses a page, and the pager's: then the guest is
    /// still in its fault. The kernel's where this thread may not stop the guest, once it has to:
    /// then the engine's thread ends the worker. Everything else that a guest does is an
    /// [`Interrupt`].
    ///
    /// [`Blame::Forged`]: crate::Blame::Forged
    pub fn run(&mut self) -> Result<Interrupt, Error> {
        let mut limit = Limit::new(self.deadline);
        loop {
            self.check_usable(Stage::Run)?;
            // Anew each time: a pager may have ordered something else, or ended what there was.
            let order = self.next_order()?;
            if let Some(early) = self.stays_stopped() {
                return Ok(early);
            }
            match self.take_turn(order, &mut limit)? {
                Next::Interrupt(interrupt) => return Ok(interrupt),
                // A guest that faults for ever may be too quick for the wait to look at the clock.
                // It is stopped, and what it was in goes on with the next run.
                Next::Retry if limit.is_over() => return Ok(Interrupt::Deadline),
                Next::Retry => {}
            }
        }
    }

    /// What the worker is to do: what was ordered, or to go on where the guest was.
    #[inline]
    fn next_order(&self) -> Result<Order, Error> {
        match (self.order, self.at) {
            (Some(order), _) => Ok(order),
            (None, At::Fault(_) | At::Anywhere | At::OutOfGas) => Ok(Order::Retry),
            (None, At::Rest | At::Hostcall | At::Trap) => {
                Err(Error::misuse(Stage::Run, Misuse::NothingToRun))
            }
        }
    }

    /// Why the guest does not get the turn at all. What was ordered stays so.
    #[inline]
    fn stays_stopped(&self) -> Option<Interrupt> {
        if self.bell.is_asked() && self.bell.take() {
            return Some(Interrupt::Interrupted);
        }
        if self.gas_interval.is_some() && self.started.turn.gas() < 0 {
            return Some(Interrupt::OutOfGas);
        }
        None
    }

    /// One turn of the guest's, and what the host settles by itself.
    #[inline]
    fn take_turn(&mut self, order: Order, limit: &mut Limit) -> Result<Next, Error> {
        let bell = &*self.bell;
        let turn = &mut self.started.turn;
        turn.settle(|| limit.end(), || bell.is_asked());
        bell.begin_turn();
        let given = match order {
            Order::Enter => {
                let entry = &self.entry;
                turn.enter(entry.address, entry.stack, &entry.args)
            }
            Order::Resume(answer) => turn.resume(answer),
            Order::Retry => turn.retry(),
        };
        // While the worker is at it.
        self.order = None;
        self.at = At::Rest;
        self.started.memory.is_touched_from_here();
        self.started.tally.turn_begins();
        match given.and_then(|()| self.started.turn.spin()) {
            Ok(Some(state)) => self.stopped(state, None),
            Ok(None) => self.wait(limit),
            Err(forged) => Err(self.started.worker.forged(Stage::Run, forged)),
        }
    }

    /// The long wait, and what ended it.
    #[cold]
    fn wait(&mut self, limit: &mut Limit) -> Result<Next, Error> {
        let (waited, cause) = match self.wait_or_stop(limit.end()) {
            Ok(ended) => ended,
            Err(Broken::Forged(forged)) => {
                return Err(self.started.worker.forged(Stage::Run, forged));
            }
            Err(Broken::Unstoppable(errno)) => return Err(self.end_unstoppable(errno)),
        };
        match waited {
            Waited::Turn(state) => self.stopped(state, cause),
            Waited::Dead => Ok(Next::Interrupt(self.death())),
            Waited::Deadline | Waited::Asked => self.end_unresponsive().map(Next::Interrupt),
        }
    }

    /// Waits, and stops the guest when somebody wants that, at the deadline, and when its gas is
    /// found to be used up. Gives what happened, `Waited::Deadline` if it did not stop, and why it
    /// was to.
    fn wait_or_stop(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<(Waited, Option<Cause>), Broken> {
        let started = &mut **self.started;
        let Some(worker) = started.worker.pidfd() else {
            return Ok((Waited::Dead, None));
        };
        let bell = &*self.bell;
        let watch = Watched { worker, bell };
        let turn = &mut started.turn;
        let look_at = |interval: Option<Duration>| Instant::now().checked_add(interval?);
        let mut look = look_at(self.gas_interval);
        let mut waited = turn.wait_long(&watch, earlier(deadline, look))?;
        let cause = loop {
            let is_over = deadline.is_some_and(|deadline| deadline <= Instant::now());
            match waited {
                Waited::Turn(_) | Waited::Dead => return Ok((waited, None)),
                Waited::Asked => break Cause::Asked,
                Waited::Deadline if is_over => break Cause::Deadline,
                Waited::Deadline if turn.gas() < 0 => break Cause::Gas,
                Waited::Deadline => {}
            }
            look = look_at(self.gas_interval);
            waited = turn.sleep(&watch, earlier(deadline, look))?;
        };
        let timeout = self.engine.config().stop_timeout;
        let waited = stop(turn, worker, cause, timeout)?;
        Ok((waited, Some(cause)))
    }

    #[inline]
    fn stopped(&mut self, state: State, cause: Option<Cause>) -> Result<Next, Error> {
        if let Some(begun) = self.started.tally.timed_turn() {
            self.engine.core().counters.timed_turns.since(begun);
        }
        let interrupt = match state {
            State::Hostcall => {
                self.at = At::Hostcall;
                Interrupt::Hostcall(self.started.turn.hostcall())
            }
            State::Finished => {
                self.started.turn.pauses();
                Interrupt::Finished(self.started.turn.value())
            }
            State::Trapped => {
                let trap = self
                    .started
                    .turn
                    .trap(self.engine.core().wishes.reports_calls());
                let trap = trap.map_err(|forged| self.started.worker.forged(Stage::Run, forged))?;
                return self.trapped(trap);
            }
            State::Interrupted => return Ok(self.interrupted(cause)),
            State::OutOfGas => {
                self.at = At::OutOfGas;
                Interrupt::OutOfGas
            }
            // `State::may_follow` lets none of these follow an order of ours.
            State::Boot | State::Idle | State::Enter | State::Resume => {
                let value = state as u64;
                let word = "state";
                let forged = Forged { word, value };
                return Err(self.started.worker.forged(Stage::Run, forged));
            }
        };
        Ok(Next::Interrupt(interrupt))
    }

    #[cold]
    fn interrupted(&mut self, cause: Option<Cause>) -> Next {
        self.at = At::Anywhere;
        Next::Interrupt(match cause {
            Some(Cause::Deadline) => Interrupt::Deadline,
            Some(Cause::Gas) => Interrupt::OutOfGas,
            Some(Cause::Asked) | None if self.bell.take() => Interrupt::Interrupted,
            // A signal that came late, after a turn that was told of already, or a guest that
            // claims to have been interrupted: nobody wants it to stop.
            Some(Cause::Asked) | None => return Next::Retry,
        })
    }

    /// Ends a worker that does not stop.
    fn end_unresponsive(&mut self) -> Result<Interrupt, Error> {
        self.at = At::Rest;
        tracing::debug!(
            worker = self.started.worker.id(),
            "killed, since it did not stop"
        );
        let killed = self.started.worker.kill_for(Kill::Unresponsive);
        killed.at(Stage::Run, nr::PIDFD_SEND_SIGNAL.name())?;
        Ok(Interrupt::Died(Death::Unresponsive))
    }

    /// Ends a worker whose guest would run on for ever. This thread may not kill it either, as a
    /// rule: the engine's does.
    fn end_unstoppable(&mut self, errno: Errno) -> Error {
        tracing::warn!(worker = self.started.worker.id(), %errno, "killed, since it cannot be stopped");
        // The errno of the first attempt says it all.
        let _ = self.started.worker.kill_for(Kill::Unresponsive);
        Error::kernel(Stage::Run, nr::PIDFD_SEND_SIGNAL.name(), errno)
    }

    pub(super) fn death(&mut self) -> Interrupt {
        match self.started.worker.bury() {
            Death::Killed(Signal::SYS) => Interrupt::Trap(Trap::new(TrapKind::ForbiddenCall)),
            death => Interrupt::Died(death),
        }
    }
}

/// Tells the worker to stop its guest until it gives the turn back or the time is over, which is
/// `Waited::Deadline`.
fn stop(
    turn: &mut Turn,
    worker: BorrowedFd<'_>,
    cause: Cause,
    timeout: Duration,
) -> Result<Waited, Broken> {
    let watch = Alone(worker);
    let end = Instant::now().checked_add(timeout);
    let mut pause = ASK_AGAIN;
    // A handle has asked by itself.
    let mut is_asked = matches!(cause, Cause::Asked);
    loop {
        if !is_asked {
            match Turn::interrupt(worker) {
                Ok(()) => {}
                Err(Errno::ESRCH) => return Ok(Waited::Dead),
                // What this thread may not do now, it may not do later.
                Err(errno) => return Err(Broken::Unstoppable(errno)),
            }
        }
        is_asked = false;
        let again = Instant::now().checked_add(pause);
        let waited = turn.wait_long(&watch, earlier(end, again))?;
        if !matches!(waited, Waited::Deadline) || end.is_some_and(|end| end <= Instant::now()) {
            return Ok(waited);
        }
        pause = (pause * 2).min(ASK_AGAIN_MAX);
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
