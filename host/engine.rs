//! What embedders hold of all that instances share: how it is made, and in which order it ends.

use std::fmt;
use std::mem;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use linux_raw::fd::OwnedFd;
use linux_raw::pidfd::{self, PidfdFlags};
use linux_raw::{Errno, arch, process};
use vmctx::PAGE_BYTES;
use vmctx::Tier;
use vmctx::map::GUEST;

use crate::cgroup::Cgroup;
use crate::config::Config;
use crate::core::Core;
use crate::error::{Error, KernelResult, Misuse, Stage};
use crate::instance::Instance;
use crate::layers::Layers;
use crate::lineage::Lineage;
use crate::memfd;
use crate::memory::{self, EngineBudget};
use crate::metrics::{Counters, Kill, Metrics};
use crate::module::Module;
use crate::nursery::Nursery;
use crate::pool::Pool;
use crate::probe::Feature;
use crate::reactor::Reactor;
use crate::spawn::Spawner;
use crate::start::{self, Started};
use crate::turn::{Patience, Seats};
use crate::ways::{Shortfall, Ways};
use crate::wishes::Wishes;
use crate::zygote_image;

/// A guest that is never entered, for a worker whose layers are asked for: `ud2`.
const TRAP: [u8; 2] = [0x0f, 0x0b];
/// Its stack.
const NOWHERE: u64 = GUEST.start;

/// Starts instances. Cheap to clone; the last clone, or the last instance, ends it.
///
/// ```
/// use cellwall::{Config, Engine};
///
/// let engine = Engine::new(&Config::default())?;
/// # Ok::<(), cellwall::Error>(())
/// ```
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    /// Ends before the rest: its thread makes and cleans workers.
    pool: Option<Pool>,
    core: Arc<Core>,
}

impl Engine {
    /// Puts the zygote into a sealed memfd and starts the engine's thread, and the pool's if there
    /// is to be one. No process yet, and nothing is tried: what the kernel lacks shows when it is
    /// needed, unless [`Config::kernel`] says it. Only behind a seccomp filter a child of a
    /// moment looks whether this thread reaches I/O ports, which no worker may.
    ///
    /// # Errors
    ///
    /// The kernel's, where it refuses a memfd, a pidfd, an eventfd or a thread, or the group of
    /// [`Config::cgroup`] and its limits. [`Misuse::RootWorker`], [`Misuse::NoSuchCpu`] and the
    /// like for a configuration that cannot be. With [`Config::kernel`]: [`Blame::KernelLacks`],
    /// [`Blame::KernelDiffers`].
    ///
    /// [`Blame::KernelLacks`]: crate::Blame::KernelLacks
    /// [`Blame::KernelDiffers`]: crate::Blame::KernelDiffers
    pub fn new(config: &Config) -> Result<Self, Error> {
        Self::with_ways(config, Ways::new(config)?)
    }

    pub(crate) fn with_ways(config: &Config, ways: Ways) -> Result<Self, Error> {
        let ways = Arc::new(ways);
        let wishes = Wishes::new(config, &ways)?;
        let zygote = zygote_memfd()?;
        let this = process::getpid().at(Stage::Engine, "getpid")?;
        let host = pidfd::pidfd_open(this, PidfdFlags::empty()).at(Stage::Engine, "pidfd_open")?;
        let lineage = Arc::new(Lineage::new()?);
        let cgroup = config.cgroup.as_ref().map(Cgroup::settle).transpose()?;
        let spawner = Spawner::new(zygote, host, cgroup, &wishes, &ways)?;
        let reactor = Reactor::new(spawner, Arc::clone(&lineage))?;
        // It takes a pid namespace to end a nursery's workers with it.
        let is_nursed = config.tier == Tier::Full && !config.direct;
        let nursery = is_nursed.then(|| Nursery::new(&lineage, config.start_timeout));
        let (spin, yields) = config.waiting.bounds();
        let yields = config.yields.unwrap_or(yields);
        let patience = Patience {
            spin_iterations: spin_iterations(config.spin.unwrap_or(spin)),
            yields,
            waking: yields.saturating_mul(YIELDS_WAKING),
        };
        let seats = Seats::new(wishes.pairs());
        let paged = !config.fixed_memory && can_page(&ways)?;
        let core = Arc::new(Core {
            config: config.clone(),
            wishes,
            ways,
            patience,
            seats,
            reactor,
            nursery,
            lineage,
            budget: EngineBudget::new(config.engine_memory_limit),
            paged,
            counters: Counters::default(),
            layers: OnceLock::new(),
        });
        let pool = config.pool.as_ref();
        let pool = pool.map(|pool| Pool::new(pool, &core)).transpose()?;
        Ok(Self {
            inner: Arc::new(Inner { pool, core }),
        })
    }

    /// Starts the engine's nursery and waits until it is locked down, so that the first instance
    /// need not wait for it. Does nothing where it is there already, and with
    /// [`Config::direct`].
    ///
    /// ```
    /// use cellwall::{Config, Engine};
    ///
    /// let engine = Engine::new(&Config::default())?;
    /// engine.warm_up()?;
    /// # Ok::<(), cellwall::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Names the step of the start that failed, the errno, and what to do about it.
    /// [`Misuse::Forked`](crate::Misuse::Forked).
    pub fn warm_up(&self) -> Result<(), Error> {
        let core = self.core();
        if !core.lineage.is_ours() {
            return Err(Error::misuse(Stage::Start, Misuse::Forked));
        }
        core.ways.still_hold()?;
        match &core.nursery {
            Some(nursery) => nursery.warm_up(&core.reactor, &core.wishes),
            None => Ok(()),
        }
    }

    /// Makes an instance of `module`, in a worker that is locked down: a new one, or one that the
    /// pool has kept. No guest code has run, or nothing is left of it.
    ///
    /// # Errors
    ///
    /// Names the step of the start that failed, the errno, and what to do about it.
    /// [`Misuse::PoolExhausted`] where there are as many workers as there may be. The engine
    /// starts one worker at a time; a start takes at most twice [`Config::start_timeout`], once it
    /// is its turn, and some seconds more where the kernel is slow to end a killed process.
    /// [`Misuse::MemoryLimit`](crate::Misuse::MemoryLimit) for a module of another engine's that is
    /// too large for this one; [`Misuse::Forked`](crate::Misuse::Forked).
    pub fn instantiate(&self, module: &Module) -> Result<Instance, Error> {
        let core = self.core();
        core.check_start(module)?;
        let started = match &self.inner.pool {
            Some(pool) => pool.take(core, module)?,
            None => Box::new(start::start(core, module, None)?),
        };
        Ok(Instance::new(self, started))
    }

    /// Takes back the worker of an instance that is dropped.
    pub(crate) fn take_back(&self, mut started: Box<Started>) {
        self.core().counters.add(mem::take(&mut started.tally));
        match &self.inner.pool {
            Some(pool) => pool.give(self.core(), started),
            None => self.core().discard(*started, Kill::Dropped, None),
        }
    }

    /// Which layers of the wall are around this engine's workers, and which the kernel lacks, as
    /// the first worker reported before a guest ran. Starts a worker if there has been none.
    ///
    /// # Errors
    ///
    /// Those of [`instantiate`](Self::instantiate).
    pub fn layers(&self) -> Result<Layers, Error> {
        if let Some(layers) = self.core().layers.get() {
            return Ok(*layers);
        }
        let nothing = Module::builder().code(&TRAP).stack(NOWHERE, PAGE_BYTES);
        Ok(self.instantiate(&nothing.build(self)?)?.layers())
    }

    /// What the kernel lacks of what this engine would use, and what is done instead: another way
    /// with the same wall, fewer layers, or less that guests can be given. Without
    /// [`Config::kernel`] that is what has shown so far; the first worker has met all of it, and is
    /// started here if there has been none.
    ///
    /// Each is also an event of `tracing`, once.
    ///
    /// ```
    /// use cellwall::{Config, Engine, Errno, Feature, Kernel, Support, Without};
    ///
    /// let kernel = Kernel::probe().with(Feature::IoUring, Support::Absent(Errno::ENOSYS));
    /// let engine = Engine::new(&Config::default().kernel(kernel))?;
    /// let shortfalls = engine.shortfalls()?;
    /// let ring = shortfalls.iter().find(|lacking| lacking.feature == Feature::IoUring);
    /// assert!(matches!(ring.unwrap().instead, Without::AnotherWay(_)));
    /// # Ok::<(), cellwall::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`instantiate`](Self::instantiate).
    pub fn shortfalls(&self) -> Result<Vec<Shortfall>, Error> {
        if !self.core().lineage.is_ours() {
            return Err(Error::misuse(Stage::Start, Misuse::Forked));
        }
        // Whoever makes the first worker notes what it lacks.
        let _ = self.layers()?;
        Ok(self.core().ways.shortfalls())
    }

    /// Whether the memory map of a running instance can be changed, and page faults be had: that
    /// takes userfaultfd as Linux 5.19 has it, without any privilege, and
    /// [`Config::fixed_memory`] off.
    #[must_use]
    pub fn can_change_maps(&self) -> bool {
        self.core().paged
    }

    /// What the engine has done so far.
    ///
    /// ```
    /// use cellwall::{Config, Engine};
    ///
    /// let engine = Engine::new(&Config::default())?;
    /// assert_eq!(engine.metrics().spawns.count(), 0);
    /// # Ok::<(), cellwall::Error>(())
    /// ```
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.core().counters.read()
    }

    /// How many bytes of guest memory all instances hold now, those that the pool keeps included.
    #[must_use]
    pub fn memory_held(&self) -> u64 {
        self.core().budget.used()
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    pub(crate) fn lineage(&self) -> &Arc<Lineage> {
        &self.core().lineage
    }

    pub(crate) fn config(&self) -> &Config {
        &self.core().config
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.core.lineage.is_ours() {
            return; // a forked child has none of what is ended here
        }
        if let Some(pool) = &mut self.pool {
            pool.close(&self.core);
        }
        if let Some(nursery) = &self.core.nursery {
            nursery.close(&self.core.reactor);
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Engine")
            .field("config", self.config())
            .finish_non_exhaustive()
    }
}

/// Whether the host is to decide what is in guest memory. A shortage is an error: an engine is not
/// less than its neighbour because it was made at a bad moment.
fn can_page(ways: &Ways) -> Result<bool, Error> {
    if !ways.may_use(Feature::Userfaultfd) {
        return Ok(false);
    }
    match memory::offered() {
        Ok(_) => Ok(true),
        Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) => {
            Err(Error::kernel(Stage::Engine, "userfaultfd", errno))
        }
        Err(errno) => {
            ways.lack(Stage::Engine, Feature::Userfaultfd, errno)?;
            Ok(false)
        }
    }
}

/// The image in a memfd that nobody can write.
fn zygote_memfd() -> Result<OwnedFd, Error> {
    let image = zygote_image::BYTES;
    let fd = memfd::executable(c"cellwall-zygote", image.len() as u64, Stage::Engine)?;
    memfd::write_all(&fd, image, 0, Stage::Engine)?;
    memfd::freeze(&fd, Stage::Engine)
}

/// How many times longer a host stays awake for a worker that it had to wake: by default for about
/// 100 us, within which an idle CPU has woken up.
const YIELDS_WAKING: u32 = 8;

/// How many rounds of a spin loop take as long as `spin`: `pause` takes 10 ns on some CPUs and
/// 60 on others.
fn spin_iterations(spin: Duration) -> u32 {
    const SAMPLE: u32 = 256;
    let sample = (0..3)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..SAMPLE {
                arch::pause();
            }
            start.elapsed()
        })
        .min()
        .unwrap_or_default();
    let rounds = spin.as_nanos().saturating_mul(SAMPLE.into()) / sample.as_nanos().max(1);
    // A clock that is too coarse for the sample would make it look like nothing: no CPU does a
    // round in less than a nanosecond.
    u32::try_from(rounds.min(spin.as_nanos())).unwrap_or(u32::MAX)
}
