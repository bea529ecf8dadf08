//! One guest in one worker.

mod end;
mod fault;
mod gas;
mod memory;
mod renew;
mod run;

use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Duration;

use vmctx::HOSTCALL_ARGS;
use vmctx::guest_page::REGISTER_NAMES;

use self::fault::Answers;
use crate::bell::{Bell, InterruptHandle};
use crate::engine::Engine;
use crate::error::{Error, Misuse, Stage};
use crate::interrupt::Trap;
use crate::layers::Layers;
use crate::module::Module;
use crate::start::Started;
use crate::turn::is_dead;

/// A guest behind the wall, in a process of its own.
///
/// Who drops it waits for nothing: the engine's thread kills the worker, if it has not ended, and
/// gives back what it had, a moment later; or the pool keeps it.
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
    /// Taken back by the engine when this is dropped.
    started: ManuallyDrop<Box<Started>>,
    order: Option<Order>,
    entry: Entry,
    /// Where the guest is stopped.
    at: At,
    pager: Answers,
    deadline: Option<Duration>,
    /// How often to look at the gas of a guest that runs.
    gas_interval: Option<Duration>,
    /// Taken down when this is dropped.
    bell: Arc<Bell>,
    // The engine's thread must outlive the worker.
    engine: Engine,
}

/// What the next `run` tells the worker.
#[derive(Clone, Copy)]
enum Order {
    /// To enter the guest as `entry` says.
    Enter,
    /// To go on after a hostcall, with the answer.
    Resume(u64),
    /// To go on where the guest was, after a fault with the instruction that made it.
    Retry,
}

/// Where and how a guest is entered.
struct Entry {
    address: u64,
    stack: u64,
    args: [u64; HOSTCALL_ARGS],
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
    /// By the host, at any instruction.
    Anywhere,
    /// In its own call of the address for guests without gas.
    OutOfGas,
}

impl Instance {
    pub(crate) fn new(engine: &Engine, started: Box<Started>) -> Self {
        Self {
            started: ManuallyDrop::new(started),
            order: None,
            entry: Entry {
                address: 0,
                stack: 0,
                args: [0; HOSTCALL_ARGS],
            },
            at: At::Rest,
            pager: Answers::Caller,
            deadline: None,
            gas_interval: None,
            bell: Bell::new(engine.lineage()),
            engine: engine.clone(),
        }
    }

    /// Which layers of the wall are around this instance, as its worker reported before a guest
    /// ran in it.
    pub fn layers(&self) -> Layers {
        self.started.layers
    }

    /// The module that this is an instance of.
    #[must_use]
    pub fn module(&self) -> &Module {
        &self.started.module
    }

    /// The worker's process number, for people and their tools (`ps`, `perf`). It may be used
    /// again by another process once the instance is over.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.started.worker.id()
    }

    /// Whether the worker lives, by a look that does not wait. One that is dead says why when it is
    /// next told to do something, and [`run`](Self::run).
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.started
            .worker
            .pidfd()
            .is_some_and(|worker| !is_dead(worker))
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
        self.entry = Entry {
            address: entry,
            stack: self.started.module.stack_top(),
            args: all,
        };
        self.order = Some(Order::Enter);
        Ok(())
    }

    /// Answers the hostcall that the last [`run`](Self::run) returned; the next one goes on.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoHostcall`] if there is none to answer.
    #[inline]
    pub fn answer(&mut self, answer: u64) -> Result<(), Error> {
        if !matches!(self.at, At::Hostcall) || self.started.worker.pidfd().is_none() {
            return Err(Error::misuse(Stage::Run, Misuse::NoHostcall));
        }
        self.order = Some(Order::Resume(answer));
        Ok(())
    }

    /// How long each following [`run`](Self::run) may take, hostcalls excluded. `None`, the
    /// default, is no limit: a guest that loops for ever keeps `run` for ever.
    ///
    /// At the deadline the guest is stopped and `run` returns [`Interrupt::Deadline`]; the next
    /// `run` goes on where the guest was, and has as long again. The time begins once the first
    /// spin of `run` is over, or where others spin first
    /// ([`Config::waiting`](crate::Config::waiting)).
    ///
    /// [`Interrupt::Deadline`]: crate::Interrupt::Deadline
    pub fn set_deadline(&mut self, deadline: impl Into<Option<Duration>>) {
        self.deadline = deadline.into();
    }

    /// What interrupts the guest, from any thread. The first handle of an instance takes a
    /// descriptor until the instance is dropped.
    ///
    /// ```
    /// use cellwall::{Config, Engine, Interrupt, Module};
    ///
    /// let engine = Engine::new(&Config::default())?;
    /// let endless = [0xeb, 0xfe]; // jmp $
    /// let module = Module::builder().code(&endless).stack(0x10_0000, 0x1_0000).build(&engine)?;
    /// let mut instance = engine.instantiate(&module)?;
    /// instance.call(module.entry(), &[])?;
    /// let handle = instance.interrupt_handle();
    /// let other = std::thread::spawn(move || handle.interrupt());
    /// assert_eq!(instance.run()?, Interrupt::Interrupted);
    /// # other.join().unwrap();
    /// # Ok::<(), cellwall::Error>(())
    /// ```
    #[must_use]
    pub fn interrupt_handle(&self) -> InterruptHandle {
        self.bell
            .handle(self.started.worker.pidfd(), || self.started.turn.doorbell())
    }

    fn check_usable(&self, stage: Stage) -> Result<(), Error> {
        self.check_ours(stage)?;
        if self.started.worker.pidfd().is_none() {
            return Err(Error::misuse(stage, Misuse::Over));
        }
        Ok(())
    }

    /// A forked child has the handle and none of the memory behind it.
    fn check_ours(&self, stage: Stage) -> Result<(), Error> {
        if self.started.worker.is_ours() {
            Ok(())
        } else {
            Err(Error::misuse(stage, Misuse::Forked))
        }
    }

    /// The registers of a guest that is stopped in a trap or a page fault or by an interruption, in
    /// the order of [`REGISTER_NAMES`](crate::abi::REGISTER_NAMES); `None` unless the worker
    /// reported such a stop, and nothing has gone on since.
    ///
    /// A hostile guest can write them: show them, walk a stack with checked reads, but do not
    /// decide on them what is safe.
    #[must_use]
    pub fn registers(&self) -> Option<[u64; REGISTER_NAMES.len()]> {
        let trapped = matches!(self.at, At::Trap | At::Fault(_) | At::Anywhere)
            && self.started.worker.is_ours()
            && self.started.worker.pidfd().is_some();
        trapped.then(|| self.started.turn.registers())
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Instance")
            .field("process_id", &self.process_id())
            .field("state", &self.started.turn.record())
            .finish_non_exhaustive()
    }
}
