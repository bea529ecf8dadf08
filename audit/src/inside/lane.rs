//! Running attempts: each thread has an engine of its own and goes on in a worker that survived.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cellwall::{Config, Engine, Error, Instance, Module, Template};

use super::kit::{BLOCK, DATA, Kit};
use super::outcome::Outcome;
use crate::late::{is_late, retried};

/// For attempts that end by themselves: longer than any load makes them wait.
pub(super) const PATIENT: Duration = Duration::from_secs(10);
/// For those that would not.
pub(super) const SHORT: Duration = Duration::from_millis(20);

/// Until a guest that hides is killed.
const IMPATIENT: Duration = Duration::from_millis(30);

/// Where `rax` is among the registers of a trap.
const RAX: usize = 13;

/// How many lanes a thread's CPU can serve: a lane mostly waits for a worker that starts or dies.
const LANES: usize = 4;

/// What all lanes of a group share.
pub(super) struct Stage {
    pub(super) config: Config,
    pub(super) threads: usize,
    pub(super) kit: Kit,
    /// The contents of the guests' memory.
    pub(super) props: Vec<u8>,
    pub(super) facts: super::props::Facts,
    /// The numbers of all workers of the group.
    pub(super) workers: Mutex<BTreeSet<u32>>,
}

/// One call of a guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt<'a> {
    pub(super) entry: u64,
    pub(super) args: [u64; 3],
    /// Words for the guest at [`BLOCK`].
    pub(super) block: &'a [u64],
    pub(super) deadline: Duration,
}

/// One that has all the time that a guest may need.
pub(super) fn attempt<'a>(
    lane: &Lane<'_>,
    program: &str,
    args: [u64; 3],
    block: &'a [u64],
) -> Attempt<'a> {
    Attempt {
        entry: lane.stage.kit.entry(program),
        args,
        block,
        deadline: PATIENT,
    }
}

impl Attempt<'_> {
    fn block_bytes(&self) -> Vec<u8> {
        self.block
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect()
    }
}

/// One engine, and the instance that the next attempt goes on in.
pub(super) struct Lane<'a> {
    pub(super) stage: &'a Stage,
    engine: Engine,
    module: Module,
    instance: Option<Instance>,
}

impl<'a> Lane<'a> {
    pub(super) fn new(stage: &'a Stage) -> Result<Self, Error> {
        Self::with(stage, &stage.config)
    }

    /// One whose engine is none of the stage's.
    pub(super) fn with(stage: &'a Stage, config: &Config) -> Result<Self, Error> {
        let engine = retried(|| Engine::new(config))?;
        let module = stage.kit.module(&engine)?;
        Ok(Self {
            stage,
            engine,
            module,
            instance: None,
        })
    }

    /// The instance, a new one if there is none that can go on.
    pub(super) fn instance(&mut self) -> Result<&mut Instance, Error> {
        let instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.another(&self.module)?,
        };
        Ok(self.instance.insert(instance))
    }

    /// Whether the host decides what is in guest memory.
    pub(super) fn is_paged(&self) -> bool {
        self.engine.can_change_maps()
    }

    /// Calls whatever is at an address, with memory as it is.
    pub(super) fn enter(&mut self, entry: u64, args: [u64; 3]) -> Result<Outcome, Error> {
        self.instance()?.call(entry, &args)?;
        self.go_on(PATIENT)
    }

    /// An instance that nobody else runs.
    pub(super) fn another(&self, module: &Module) -> Result<Instance, Error> {
        let instance = retried(|| self.engine.instantiate(module))?;
        let workers = self.stage.workers.lock();
        let mut workers = workers.unwrap_or_else(PoisonError::into_inner);
        workers.insert(instance.process_id());
        Ok(instance)
    }

    /// A template of the engine's.
    pub(super) fn template(&self, contents: &[u8]) -> Result<Template, Error> {
        Template::new(&self.engine, contents)
    }

    /// Lets go of the instance: the next attempt gets a new worker.
    pub(super) fn renew(&mut self) {
        self.instance = None;
    }

    /// Calls the guest and waits for what comes of it.
    pub(super) fn run(&mut self, attempt: &Attempt<'_>) -> Result<Outcome, Error> {
        let props = &self.stage.props;
        let block = attempt.block_bytes();
        let instance = match self.instance() {
            Ok(instance) => instance,
            // Nothing was tried.
            Err(error) if is_late(&error) => {
                return Ok(Outcome {
                    result: Err(error),
                    rax: None,
                });
            }
            Err(error) => return Err(error),
        };
        instance.write(DATA, props)?;
        instance.write(BLOCK, &block)?;
        instance.call(attempt.entry, &attempt.args)?;
        self.go_on(attempt.deadline)
    }

    /// The same with all other memory as it is. The instance is kept though its guest be stopped.
    pub(super) fn begin(&mut self, attempt: &Attempt<'_>) -> Result<Outcome, Error> {
        let instance = self.instance()?;
        instance.write(BLOCK, &attempt.block_bytes())?;
        instance.call(attempt.entry, &attempt.args)?;
        self.stop_again(attempt.deadline)
    }

    /// Answers a hostcall.
    pub(super) fn answer(&mut self, answer: u64, deadline: Duration) -> Result<Outcome, Error> {
        self.instance()?.answer(answer)?;
        self.go_on(deadline)
    }

    /// Another instance of the same module, which becomes the one that attempts go on in.
    pub(super) fn exchange(&mut self, other: &mut Instance) -> Result<(), Error> {
        std::mem::swap(self.instance()?, other);
        Ok(())
    }

    /// Lets a guest that has been stopped go on, and keeps its instance if it is stopped again.
    pub(super) fn stop_again(&mut self, deadline: Duration) -> Result<Outcome, Error> {
        let instance = self.instance()?;
        instance.set_deadline(deadline);
        let result = instance.run();
        let rax = instance.registers().map(|registers| registers[RAX]);
        Ok(Outcome { result, rax })
    }

    fn go_on(&mut self, deadline: Duration) -> Result<Outcome, Error> {
        let outcome = self.stop_again(deadline)?;
        let is_alive = self.instance.as_ref().is_some_and(Instance::is_alive);
        if outcome.is_over(is_alive) {
            self.renew();
        }
        Ok(outcome)
    }

    /// Copies memory of the worker's own out: through a guest, since only it can read there.
    pub(super) fn copy_out(&mut self, from: u64, into: &mut [u8]) -> Result<Outcome, Error> {
        let args = [super::kit::COPIES, from, into.len() as u64];
        let entry = self.stage.kit.entry("copy");
        let outcome = self.run(&Attempt {
            entry,
            args,
            block: &[],
            deadline: PATIENT,
        })?;
        if outcome.finished().is_some() {
            self.instance()?.read_into(super::kit::COPIES, into)?;
        }
        Ok(outcome)
    }
}

/// Does `count` pieces of work in [`LANES`] lanes for each of the stage's threads, no more than
/// there are pieces. The results are in order.
pub(super) fn share<T: Send>(
    stage: &Stage,
    count: usize,
    work: impl Fn(&mut Lane<'_>, usize) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    share_with(stage, &stage.config, count, work)
}

/// The same for guests that may well hide in the zygote's code, where none is stopped: who does is
/// killed without the patience that honest guests on a busy machine need.
pub(super) fn share_hiding<T: Send>(
    stage: &Stage,
    count: usize,
    work: impl Fn(&mut Lane<'_>, usize) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let config = stage.config.clone().stop_timeout(IMPATIENT);
    share_with(stage, &config, count, work)
}

fn share_with<T: Send>(
    stage: &Stage,
    config: &Config,
    count: usize,
    work: impl Fn(&mut Lane<'_>, usize) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let next = AtomicUsize::new(0);
    let lane = || -> Result<Vec<(usize, T)>, Error> {
        let mut lane = Lane::with(stage, config)?;
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(done);
            }
            match work(&mut lane, index) {
                Ok(result) => done.push((index, result)),
                Err(error) => {
                    // The others need not go on.
                    next.store(count, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
    };
    let lanes = (stage.threads * LANES).clamp(1, count.max(1));
    let ended: Vec<Result<Vec<(usize, T)>, Error>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    });
    let mut all = Vec::with_capacity(count);
    for lane in ended {
        all.extend(lane?);
    }
    all.sort_by_key(|result| result.0);
    Ok(all.into_iter().map(|result| result.1).collect())
}
