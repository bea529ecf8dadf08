//! From a module to a worker that is locked down: all that happens before a guest runs.

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::{Duration, Instant};

use linux_raw::Errno;
use linux_raw::fd::OwnedFd;
use linux_raw::nr::{self, Nr};
use linux_raw::{pidfd, socket};
use vmctx::{Forged, Options, Step};

use crate::engine::Engine;
use crate::error::{Blame, Error, KernelResult as _, Stage};
use crate::interrupt::Death;
use crate::layers::Layers;
use crate::memory::Memory;
use crate::module::Module;
use crate::profile::Watch;
use crate::spawn::Start;
use crate::turn::{Pages, Turn, Waited};
use crate::worker::Worker;

/// A worker that waits for its first order, and what it shares with the host.
pub(crate) struct Started {
    // Dropped in this order: the worker is killed before its memory is unmapped.
    pub(crate) worker: Worker,
    pub(crate) turn: Turn,
    pub(crate) memory: Memory,
    pub(crate) module: Module,
    pub(crate) layers: Layers,
}

/// Starts a worker for `module`; `watch` looks at its steps meanwhile.
pub(crate) fn start(
    engine: &Engine,
    module: &Module,
    mut watch: Option<&mut Watch>,
) -> Result<Started, Error> {
    let _span = tracing::debug_span!("instantiate").entered();
    let patience = engine.patience();
    let (pages, ends) = Pages::new(engine.lineage())?;
    let (spin, yields) = (patience.spin_iterations, patience.yields);
    pages.describe(module, engine.wishes(), spin, yields);
    if engine.wishes().host_is_spared()? {
        pages.ask_for(Options::RAISE_OOM_SCORE);
    }
    let (memory, memory_ends) = Memory::new(engine, module)?;
    let (socket, workers_socket) = if module.is_paged() {
        pages.ask_for(Options::PAGED);
        let (ours, workers) = socket::socketpair_seqpacket().at(Stage::Start, "socketpair")?;
        (Some(ours), Some(workers))
    } else {
        (None, None)
    };
    let timeout = engine.config().start_timeout;
    let start = Start {
        ends,
        memory: memory_ends,
        paging: workers_socket,
        module: module.clone(),
        timeout,
    };
    let gone = || Error {
        stage: Stage::Start,
        blame: Blame::KeeperGone,
    };
    let reaper = engine.keeper().reaper().ok_or_else(gone)?;
    let pending = engine.keeper().start(start)?;
    let process = match &mut watch {
        Some(watch) => watch.until_executed(pages.guest(), pending),
        None => pending.wait(),
    };
    let mut started = Started {
        worker: Worker::new(process?, reaper),
        turn: Turn::new(pages, patience),
        memory,
        module: module.clone(),
        layers: Layers::default(),
    };
    if let Some(watch) = watch {
        watch.until_ready(started.turn.pages().guest(), timeout);
    }
    started.wait_for_lockdown(timeout)?;
    started.check_layers(engine)?;
    if started.turn.pages().guest().segment_bases.load(Relaxed) != 0 {
        started.turn.pages().ask_for(Options::SEGMENT_BASES);
    }
    if let Some(socket) = socket {
        started.begin_paging(&socket)?;
    }
    Ok(started)
}

impl Started {
    /// Waits for the first sign of life: the worker is locked down, or says which step failed.
    fn wait_for_lockdown(&mut self, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now().checked_add(timeout);
        let waited = match self.worker.pidfd() {
            Some(pidfd) => self.turn.wait(pidfd, deadline),
            None => Ok(Waited::Dead),
        };
        match waited {
            Ok(Waited::Turn(_)) => self.can_be_killed(),
            Ok(Waited::Deadline) => {
                self.kill()?;
                let milliseconds = timeout.as_millis();
                let what = "lock itself down";
                Err(Error {
                    stage: self.stage(Death::Unknown),
                    blame: Blame::Timeout { what, milliseconds },
                })
            }
            Ok(Waited::Dead) => Err(self.failed_lockdown()),
            Err(forged) => Err(self.forged(forged)),
        }
    }

    fn kill(&mut self) -> Result<(), Error> {
        let killed = self.worker.kill();
        killed.at(Stage::Start, nr::PIDFD_SEND_SIGNAL.name())
    }

    /// A worker that we may not kill would outlive its deadline and us: the kernel asks for the
    /// same right before it kills the child of a thread that ended.
    fn can_be_killed(&self) -> Result<(), Error> {
        let Some(pidfd) = self.worker.pidfd() else {
            return Ok(());
        };
        match pidfd::pidfd_send_signal(pidfd, None) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            refused => refused.at(Stage::Start, nr::PIDFD_SEND_SIGNAL.name()),
        }
    }

    /// The step that the worker said it was taking, or else ended with. No guest has run: the words
    /// are honest.
    fn stage(&self, death: Death) -> Stage {
        // Acquire pairs with the zygote's Release in `last_words::begin` and `die`.
        let step = match (self.turn.pages().guest().step.load(Acquire), death) {
            // There was no page yet to say it in.
            (0, Death::Exited(status)) => status.cast_unsigned(),
            (said, _) => said,
        };
        let step = u8::try_from(step).ok().and_then(Step::from_number);
        step.map_or(Stage::Start, Stage::Lockdown)
    }

    fn failed_lockdown(&mut self) -> Error {
        let death = self.worker.bury();
        let stage = self.stage(death);
        let page = self.turn.pages().guest();
        let errno = page.errno.load(Relaxed);
        let errno = u16::try_from(errno).ok().and_then(Errno::from_raw);
        let call = Nr::from_raw(page.call.load(Relaxed));
        let blame = match (stage, errno) {
            (Stage::Lockdown(_), Some(errno)) => Blame::Kernel {
                call: call.name(),
                errno,
            },
            _ => {
                let words: Vec<u8> = page.last_words.bytes().collect();
                Blame::Died(format!("{death} {}", String::from_utf8_lossy(&words)))
            }
        };
        Error { stage, blame }
    }

    fn forged(&mut self, forged: Forged) -> Error {
        tracing::warn!(worker = self.worker.id(), %forged, "killed");
        self.kill().err().unwrap_or(Error {
            stage: Stage::Start,
            blame: Blame::Forged(forged),
        })
    }

    /// Takes over the worker's page table. A worker that is killed meanwhile has none any more.
    fn begin_paging(&mut self, socket: &OwnedFd) -> Result<(), Error> {
        match self.memory.begin_paging(socket) {
            Err(_) if self.worker.is_ending() => Err(self.failed_lockdown()),
            begun => begun,
        }
    }

    /// Reads which layers are up. Every must of the tier is among them, or no guest runs; and what
    /// one worker has, all have.
    fn check_layers(&mut self, engine: &Engine) -> Result<(), Error> {
        let wishes = engine.wishes();
        let page = self.turn.pages().guest();
        self.layers = Layers::read(page, wishes.layers_by_host());
        let missing = self.layers.first_missing(wishes);
        // What is up then, the layer tests look at themselves.
        #[cfg(cellwall_layer_switch)]
        let missing = missing.filter(|layer| !wishes.left_out().has(*layer));
        if missing.is_none() && engine.agree_on(self.layers) {
            return Ok(());
        }
        self.kill()?;
        Err(Error {
            stage: Stage::Start,
            blame: Blame::LayerMissing(missing),
        })
    }
}
