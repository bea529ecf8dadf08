//! One guest in one worker.

mod fault;
mod memory;
mod renew;

use std::fmt;
use std::time::{Duration, Instant};

use vmctx::guest_page::REGISTER_NAMES;
use vmctx::{Forged, HOSTCALL_ARGS, State};

use self::fault::Answers;
use crate::engine::Engine;
use crate::error::{Blame, Error, KernelResult as _, Misuse, Stage};
use crate::interrupt::{Death, Interrupt, Trap, TrapKind};
use crate::layers::Layers;
use crate::memory::Memory;
use crate::module::Module;
use crate::start::Started;
use crate::turn::{Turn, Waited, is_dead};
use crate::worker::Worker;
use linux_raw::nr;
use linux_raw::signal::Signal;

/// A guest behind the wall, in a process of its own.
///
/// ```
/// use cellwall::{Config, Engine, Interrupt, Module};
///
/// let engine = Engine::new(&Config::default())?;
/// let add = [0x48, 0x8d, 0x04, 0x37, 0xc3]; // lea rax, [rdi + rsi]; ret
/// let module = Module::builder().code(&add).stack(0x10_0000, 0x1_0000).build(&engine)?;
/// let mut instance = engine.instantiate(&module)?;
/// instance.call(module.entry(), &[40, 2])?;
/// assert_eq!(instance.run()?, Interrupt::Finished(42));
/// # Ok::<(), cellwall::Error>(())
/// ```
pub struct Instance {
    // Dropped in this order: the worker is killed before its memory is unmapped.
    worker: Worker,
    turn: Turn,
    memory: Memory,
    module: Module,
    order: Option<Order>,
    /// Where the guest is stopped.
    at: At,
    pager: Answers,
    deadline: Option<Duration>,
    layers: Layers,
    // The keeper thread must outlive the worker.
    engine: Engine,
}

/// What the next `run` tells the worker.
enum Order {
    Enter {
        entry: u64,
        stack: u64,
        args: [u64; HOSTCALL_ARGS],
    },
    Resume {
        answer: u64,
    },
    /// The instruction that made the fault, anew.
    Retry,
}

/// Where a guest is stopped.
#[derive(Clone, Copy)]
enum At {
    /// It has not begun, it has finished, or what it was in is gone.
    Rest,
    Hostcall,
    Trap,
    /// In a fault that can be settled.
    Fault(Trap),
}

/// How a guest goes on after the worker gave the turn back.
enum Next {
    Interrupt(Interrupt),
    Retry,
}

impl Instance {
    pub(crate) fn new(engine: &Engine, started: Started) -> Self {
        Self {
            worker: started.worker,
            turn: started.turn,
            memory: started.memory,
            module: started.module,
            layers: started.layers,
            order: None,
            at: At::Rest,
            pager: Answers::Caller,
            deadline: None,
            engine: engine.clone(),
        }
    }

    /// Which layers of the wall are around this instance, as its worker reported before a guest
    /// ran in it.
    pub fn layers(&self) -> Layers {
        self.layers
    }

    /// The module that this is an instance of.
    #[must_use]
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The worker's process number, for people and their tools (`ps`, `perf`). It may be used
    /// again by another process once the instance is over.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.worker.id()
    }

    /// Whether the worker lives, by a look that does not wait. One that is dead says why when it is
    /// next told to do something, and [`run`](Self::run).
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.worker.pidfd().is_some_and(|worker| !is_dead(worker))
    }

    /// Says what the next [`run`](Self::run) does: enter the guest at `entry`, as a C function of
    /// up to six integer arguments (`docs/abi.md`). A guest that is in a hostcall or trap does not
    /// go on. An entry that is no code traps.
    ///
    /// # Errors
    ///
    /// [`Misuse::TooManyArguments`]; [`Misuse::Over`] once the worker is gone.
    pub fn call(&mut self, entry: u64, args: &[u64]) -> Result<(), Error> {
        self.check_usable(Stage::Run)?;
        let mut all = [0; HOSTCALL_ARGS];
        let Some(first) = all.get_mut(..args.len()) else {
            return Err(Error::misuse(
                Stage::Run,
                Misuse::TooManyArguments(args.len()),
            ));
        };
        first.copy_from_slice(args);
        self.order = Some(Order::Enter {
            entry,
            stack: self.module.stack_top(),
            args: all,
        });
        Ok(())
    }

    /// Answers the hostcall that the last [`run`](Self::run) returned; the next one goes on.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoHostcall`] if there is none to answer.
    pub fn answer(&mut self, answer: u64) -> Result<(), Error> {
        if !matches!(self.at, At::Hostcall) || self.worker.pidfd().is_none() {
            return Err(Error::misuse(Stage::Run, Misuse::NoHostcall));
        }
        self.order = Some(Order::Resume { answer });
        Ok(())
    }

    /// How long each following [`run`](Self::run) may take, hostcalls excluded. `None`, the
    /// default, is no limit: a guest that loops for ever keeps `run` for ever.
    ///
    /// At the deadline the worker is killed and `run` returns [`Interrupt::Deadline`].
    pub fn set_deadline(&mut self, deadline: impl Into<Option<Duration>>) {
        self.deadline = deadline.into();
    }

    /// Gives the guest the turn and waits until it comes back. A guest that is stopped in a page
    /// fault tries again, unless something else was ordered.
    ///
    /// # Errors
    ///
    /// [`Misuse::NothingToRun`], [`Misuse::Over`] and [`Misuse::Forked`]; [`Blame::Forged`] if the
    /// worker wrote what no honest worker writes: the one error that a guest can cause. Its worker
    /// is dead then. The kernel's error where it refuses a page, and the pager's: then the guest is
    /// still in its fault. Everything else that a guest does is an [`Interrupt`].
    pub fn run(&mut self) -> Result<Interrupt, Error> {
        // One that the clock cannot say is none.
        let deadline = self
            .deadline
            .and_then(|deadline| Instant::now().checked_add(deadline));
        loop {
            // Anew each time: a pager may have ordered something else, or ended what there was.
            let order = self.next_order()?;
            match self.take_turn(order, deadline)? {
                Next::Interrupt(interrupt) => return Ok(interrupt),
                // A guest that faults for ever may be too quick for the wait to look at the clock.
                Next::Retry if deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                    return self.end_at_deadline();
                }
                Next::Retry => {}
            }
        }
    }

    /// What the worker is to do: what was ordered, or the instruction of a fault anew.
    fn next_order(&mut self) -> Result<Order, Error> {
        self.check_usable(Stage::Run)?;
        match (self.order.take(), self.at) {
            (Some(order), _) => Ok(order),
            (None, At::Fault(_)) => Ok(Order::Retry),
            (None, _) => Err(Error::misuse(Stage::Run, Misuse::NothingToRun)),
        }
    }

    fn end_at_deadline(&mut self) -> Result<Interrupt, Error> {
        self.at = At::Rest;
        tracing::debug!(worker = self.worker.id(), "killed at its deadline");
        let killed = self.worker.kill();
        killed.at(Stage::Run, nr::PIDFD_SEND_SIGNAL.name())?;
        Ok(Interrupt::Deadline)
    }

    /// One turn of the guest's, and what the host settles by itself.
    fn take_turn(&mut self, order: Order, deadline: Option<Instant>) -> Result<Next, Error> {
        self.at = At::Rest;
        self.memory.is_touched_from_here();
        let given = match order {
            Order::Enter { entry, stack, args } => self.turn.enter(entry, stack, &args),
            Order::Resume { answer } => self.turn.resume(answer),
            Order::Retry => self.turn.retry(),
        };
        given.map_err(|forged| self.forged(Stage::Run, forged))?;
        let waited = self.wait(deadline);
        match waited.map_err(|forged| self.forged(Stage::Run, forged))? {
            Waited::Turn(state) => self.stopped(state),
            Waited::Deadline => self.end_at_deadline().map(Next::Interrupt),
            Waited::Dead => Ok(Next::Interrupt(self.death())),
        }
    }

    fn check_usable(&self, stage: Stage) -> Result<(), Error> {
        self.check_ours(stage)?;
        if self.worker.pidfd().is_none() {
            return Err(Error::misuse(stage, Misuse::Over));
        }
        Ok(())
    }

    /// A forked child has the handle and none of the memory behind it.
    fn check_ours(&self, stage: Stage) -> Result<(), Error> {
        if self.worker.is_ours() {
            Ok(())
        } else {
            Err(Error::misuse(stage, Misuse::Forked))
        }
    }

    fn stopped(&mut self, state: State) -> Result<Next, Error> {
        let interrupt = match state {
            State::Hostcall => {
                self.at = At::Hostcall;
                Interrupt::Hostcall(self.turn.hostcall())
            }
            State::Finished => Interrupt::Finished(self.turn.value()),
            State::Trapped => {
                let trap = self.turn.trap(self.engine.wishes().reports_calls());
                let trap = trap.map_err(|forged| self.forged(Stage::Run, forged))?;
                return self.trapped(trap);
            }
            // `State::may_follow` lets none of these follow an order of ours.
            State::Boot | State::Idle | State::Enter | State::Resume => {
                let value = state as u64;
                let word = "state";
                return Err(self.forged(Stage::Run, Forged { word, value }));
            }
        };
        Ok(Next::Interrupt(interrupt))
    }

    fn death(&mut self) -> Interrupt {
        match self.worker.bury() {
            Death::Killed(Signal::SYS) => Interrupt::Trap(Trap::new(TrapKind::ForbiddenCall)),
            death => Interrupt::Died(death),
        }
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<Waited, Forged> {
        let Some(pidfd) = self.worker.pidfd() else {
            return Ok(Waited::Dead);
        };
        self.turn.wait(pidfd, deadline)
    }

    fn forged(&mut self, stage: Stage, forged: Forged) -> Error {
        tracing::warn!(worker = self.worker.id(), %forged, "killed");
        match self.worker.kill() {
            Ok(()) => Error {
                stage,
                blame: Blame::Forged(forged),
            },
            Err(errno) => Error::kernel(stage, nr::PIDFD_SEND_SIGNAL.name(), errno),
        }
    }

    /// The registers of a guest that is stopped in a trap or a page fault, in the order of
    /// [`REGISTER_NAMES`](crate::abi::REGISTER_NAMES); `None` unless the last
    /// [`run`](Self::run) returned one that the worker reported.
    ///
    /// A hostile guest can write them: show them, walk a stack with checked reads, but do not
    /// decide on them what is safe.
    #[must_use]
    pub fn registers(&self) -> Option<[u64; REGISTER_NAMES.len()]> {
        let trapped = matches!(self.at, At::Trap | At::Fault(_))
            && self.worker.is_ours()
            && self.worker.pidfd().is_some();
        trapped.then(|| self.turn.registers())
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Instance")
            .field("process_id", &self.process_id())
            .field("state", &self.turn.record())
            .finish_non_exhaustive()
    }
}
