//! From a module to a worker that is locked down: all that happens before a guest runs.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::{Duration, Instant};

use linux_raw::Errno;
use linux_raw::fd::{self, OwnedFd};
use linux_raw::nr::{self, Nr};
use linux_raw::{pidfd, socket};
use vmctx::{Options, Step, slots};

use crate::advice;
use crate::core::Core;
use crate::deadline::{AWAKE, AWAKE_ALONE, stay_awake};
use crate::error::{Blame, Error, KernelResult as _, Stage};
use crate::interrupt::Death;
use crate::layers::Layers;
use crate::memfd;
use crate::memory::{Memory, MemoryFile};
use crate::metrics::Tally;
use crate::module::Module;
use crate::nursery::{Newborn, Nursery, Slot, Wanted};
use crate::process::Process;
use crate::profile::Watch;
use crate::spawn::Start;
use crate::turn::{Alone, Pages, Slab, Turn, Waited};
use crate::worker::Worker;

/// A worker that waits for its first order, and what it shares with the host.
pub(crate) struct Started {
    // One that is given up has no guest yet: its memory may go before it is dead.
    pub(crate) worker: Worker,
    pub(crate) turn: Turn,
    pub(crate) memory: Memory,
    pub(crate) module: Module,
    pub(crate) layers: Layers,
    /// A nursed worker's; it is nobody else's as long as somebody may look at its memory.
    pub(crate) slot: Option<Arc<Slot>>,
    pub(crate) tally: Tally,
}

/// What has been prepared for a worker before there is one.
struct Prepared {
    pages: Pages,
    memory: Memory,
    /// The worker's end of the instance's own code.
    code: Option<OwnedFd>,
}

impl Prepared {
    fn new(
        core: &Core,
        module: &Module,
        pages: Pages,
        file: &Arc<MemoryFile>,
    ) -> Result<Self, Error> {
        let patience = core.patience;
        let (spin, yields) = (patience.spin_iterations, patience.yields);
        pages.describe(module, &core.wishes, spin, yields);
        if module.is_paged() {
            pages.ask_for(Options::PAGED);
        }
        let (memory, code) = Memory::new(core, module, file)?;
        Ok(Self {
            pages,
            memory,
            code,
        })
    }

    fn started(self, core: &Core, module: &Module, process: Process) -> Result<Started, Error> {
        let reaper = core.reactor.reaper().clone();
        Ok(Started {
            worker: Worker::new(process, reaper),
            turn: Turn::new(self.pages, core.patience, &core.seats),
            memory: self.memory,
            module: module.clone(),
            layers: Layers::default(),
            slot: None,
            tally: Tally::default(),
        })
    }
}

/// Starts a worker for `module`; `watch` looks at its steps meanwhile.
pub(crate) fn start(
    core: &Core,
    module: &Module,
    watch: Option<&mut Watch>,
) -> Result<Started, Error> {
    let _span = tracing::debug_span!("start").entered();
    let begun = Instant::now();
    let started = match &core.nursery {
        Some(nursery) => start_nursed(core, module, nursery, watch),
        None => start_alone(core, module, watch),
    };
    match &started {
        Ok(_) => core.counters.spawns.since(begun),
        Err(_) => {
            core.counters.failed_spawns.fetch_add(1, Relaxed);
        }
    }
    started
}

/// By a clone of the nursery.
fn start_nursed(
    core: &Core,
    module: &Module,
    nursery: &Arc<Nursery>,
    watch: Option<&mut Watch>,
) -> Result<Started, Error> {
    let slot = nursery.slot()?;
    let mut prepared = Prepared::new(core, module, slot.pages(), slot.memory())?;
    let code = prepared.code.take();
    let wanted = Wanted {
        slot: &slot,
        module,
        code: code.as_ref(),
    };
    let (process, newborn) = nursery.spawn(&core.reactor, &core.wishes, &wanted)?;
    let mut newborn = Some(newborn);
    let mut started = prepared.started(core, module, process)?;
    started.slot = Some(Arc::clone(&slot));
    // Who watches the steps looks for all of them.
    if watch.is_none() && module.is_paged() {
        started.page_early(&mut newborn)?;
    }
    started.lock_down(core, watch, &mut newborn)?;
    if module.is_paged() {
        started.page_for(&mut newborn)?;
    }
    started.can_be_killed()?;
    Ok(started)
}

/// By a clone of the host, in namespaces of its own.
fn start_alone(
    core: &Core,
    module: &Module,
    mut watch: Option<&mut Watch>,
) -> Result<Started, Error> {
    let (slab, ends) = Slab::new(&core.lineage, 1, Stage::Start)?;
    let file = Arc::new(MemoryFile::new(&core.lineage)?);
    let mut prepared = Prepared::new(core, module, slab.pages(0), &file)?;
    if core.wishes.host_is_spared()? {
        prepared.pages.ask_for(Options::RAISE_OOM_SCORE);
    }
    let module_file =
        fd::dup_cloexec_min(module.fd(), 0).at(Stage::Start, "fcntl(F_DUPFD_CLOEXEC)")?;
    let mut start = Start::new(core.config.start_timeout)
        .with(slots::HOST_PAGE, ends.host_page)
        .with(slots::SHARED_PAGES, ends.shared_pages)
        .with(slots::MEMORY, memfd::another(file.fd(), Stage::Start)?)
        .with(slots::MODULE, module_file);
    if let Some(code) = prepared.code.take() {
        start = start.with(slots::CODE, code);
    }
    let mut socket = None;
    if module.is_paged() {
        let (ours, workers) = socket::socketpair_seqpacket().at(Stage::Start, "socketpair")?;
        start = start.with(slots::PAGING, workers);
        socket = Some(ours);
    }
    let pending = core.reactor.start(start)?;
    let process = match &mut watch {
        Some(watch) => watch.until_executed(prepared.pages.guest(), pending),
        None => pending.wait(),
    };
    let mut started = prepared.started(core, module, process?)?;
    started.lock_down(core, watch, &mut None)?;
    if let Some(socket) = socket {
        started.begin_paging(receive(&socket))?;
    }
    started.can_be_killed()?;
    Ok(started)
}

/// The descriptor that a worker has sent before it was ready. It is there, or the worker never sent
/// one.
fn receive(socket: &OwnedFd) -> Result<OwnedFd, Error> {
    let received = socket::try_recv_fd(socket, &mut [0]).at(Stage::Start, "recvmsg")?;
    received.fd.ok_or(Errno::EPROTO).at(Stage::Start, "recvmsg")
}

impl Started {
    /// Waits until the wall is up, and looks whether it is whole.
    ///
    /// The nursery tells nobody how a worker has ended before the newborn is dropped.
    fn lock_down(
        &mut self,
        core: &Core,
        watch: Option<&mut Watch>,
        newborn: &mut Option<Newborn<'_>>,
    ) -> Result<(), Error> {
        let timeout = core.config.start_timeout;
        if let Some(watch) = watch {
            watch.until_ready(self.turn.pages().guest(), timeout);
        }
        self.wait_for_lockdown(timeout, newborn)?;
        self.check_layers(core)?;
        let pages = self.turn.pages();
        if pages.guest().segment_bases.load(Relaxed) != 0 {
            pages.ask_for(Options::SEGMENT_BASES);
        }
        Ok(())
    }

    /// Waits for the first sign of life: the worker is locked down, or says which step failed.
    fn wait_for_lockdown(
        &mut self,
        timeout: Duration,
        newborn: &mut Option<Newborn<'_>>,
    ) -> Result<(), Error> {
        let deadline = Instant::now().checked_add(timeout);
        // Soon it will be: sleeping and being woken would take half as long again.
        let most = if self.slot.is_some() {
            AWAKE
        } else {
            AWAKE_ALONE
        };
        stay_awake(most, || self.turn.has_come_back());
        let waited = match self.worker.pidfd() {
            Some(pidfd) => self.turn.wait(&Alone(pidfd), deadline),
            None => Ok(Waited::Dead),
        };
        match waited {
            Ok(Waited::Turn(_)) => Ok(()),
            Ok(Waited::Deadline | Waited::Asked) => {
                self.kill()?;
                let milliseconds = timeout.as_millis();
                let what = "lock itself down";
                Err(Error {
                    stage: stage(self.turn.pages(), Death::Unknown),
                    blame: Blame::Timeout { what, milliseconds },
                })
            }
            Ok(Waited::Dead) => {
                drop(newborn.take());
                Err(self.failed_lockdown())
            }
            Err(forged) => Err(self.worker.forged(Stage::Start, forged)),
        }
    }

    fn kill(&mut self) -> Result<(), Error> {
        let killed = self.worker.kill();
        killed.at(Stage::Start, nr::PIDFD_SEND_SIGNAL.name())
    }

    /// A worker that we may not signal could be neither stopped nor ended, and would outlive us:
    /// the kernel asks for the same right before it kills the child of a thread that ended.
    fn can_be_killed(&self) -> Result<(), Error> {
        let Some(pidfd) = self.worker.pidfd() else {
            return Ok(());
        };
        match pidfd::pidfd_send_signal(pidfd, None) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            refused => refused.at(Stage::Start, nr::PIDFD_SEND_SIGNAL.name()),
        }
    }

    fn failed_lockdown(&mut self) -> Error {
        let death = self.worker.bury();
        failed(self.turn.pages(), death)
    }

    /// Takes over the page table of a nursed worker while that goes on locking itself down, if it
    /// soon says which descriptor it takes. It needs none after that one.
    fn page_early(&mut self, newborn: &mut Option<Newborn<'_>>) -> Result<(), Error> {
        let page = self.turn.pages().guest();
        // Acquire pairs with the Release of the zygote's `leave_in_nursery`.
        let has_said = || page.paging.load(Acquire) != 0;
        stay_awake(AWAKE, || has_said() || self.turn.has_come_back());
        if has_said() {
            self.page_for(newborn)?;
        }
        Ok(())
    }

    /// Takes over the page table of a nursed worker, unless that has been done.
    fn page_for(&mut self, newborn: &mut Option<Newborn<'_>>) -> Result<(), Error> {
        let Some(mut newborn) = newborn.take() else {
            return Ok(());
        };
        let faults = newborn.paging(self.turn.pages());
        drop(newborn);
        self.begin_paging(faults)
    }

    /// Takes over the worker's page table. A worker that is killed meanwhile has none any more.
    fn begin_paging(&mut self, faults: Result<OwnedFd, Error>) -> Result<(), Error> {
        match faults.and_then(|faults| self.memory.begin_paging(faults)) {
            Err(_) if self.worker.is_ending() => Err(self.failed_lockdown()),
            begun => begun,
        }
    }

    /// Reads which layers are up. Every must of the tier is among them, or no guest runs; and what
    /// one worker has, all have.
    fn check_layers(&mut self, core: &Core) -> Result<(), Error> {
        let (wishes, ways) = (&core.wishes, &core.ways);
        let page = self.turn.pages().guest();
        self.layers = Layers::read(page, wishes.layers_by_host(), ways);
        let missing = self.layers.first_missing(wishes);
        // What is up then, the layer tests look at themselves.
        #[cfg(cellwall_layer_switch)]
        let missing = missing.filter(|layer| !wishes.left_out().has(*layer));
        // What one worker lacks all lack, so the first is who notes it; but whoever was told what
        // there is says also of a later one which is gone.
        let is_news = core.layers.get().is_none() || ways.is_told();
        let lacking = match missing {
            None if is_news => ways.lack_layers_of(&self.layers),
            _ => Ok(()),
        };
        let agree = missing.is_none() && lacking.is_ok() && core.agree_on(self.layers);
        if agree {
            return Ok(());
        }
        self.kill()?;
        lacking?;
        Err(Error {
            stage: Stage::Start,
            blame: Blame::LayerMissing(missing),
        })
    }
}

/// The step that a process said it was taking, or else ended with. No guest has run: the words are
/// honest.
pub(crate) fn stage(pages: &Pages, death: Death) -> Stage {
    // Acquire pairs with the zygote's Release in `last_words::begin` and `die`.
    let step = match (pages.guest().step.load(Acquire), death) {
        // There was no page yet to say it in.
        (0, Death::Exited(status)) => status.cast_unsigned(),
        (said, _) => said,
    };
    let step = u8::try_from(step).ok().and_then(Step::from_number);
    step.map_or(Stage::Start, Stage::Lockdown)
}

/// Why a process has ended before it was locked down.
pub(crate) fn failed(pages: &Pages, death: Death) -> Error {
    let stage = stage(pages, death);
    let page = pages.guest();
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
            let words = String::from_utf8_lossy(&words);
            let advice = advice::about_death(death).map(|advice| format!(". {advice}"));
            let text = format!("{death} {words}");
            Blame::Died(text.trim_end().to_owned() + &advice.unwrap_or_default())
        }
    };
    Error { stage, blame }
}
