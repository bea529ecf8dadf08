//! Shared resources of all instances: the zygote's image and the thread that keeps the workers.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use linux_raw::fd::OwnedFd;
use linux_raw::pidfd::{self, PidfdFlags};
use linux_raw::{Errno, arch, process};
use vmctx::PAGE_BYTES;
use vmctx::map::GUEST;

use crate::config::Config;
use crate::error::{Error, KernelResult, Misuse, Stage};
use crate::instance::Instance;
use crate::keeper::Keeper;
use crate::layers::Layers;
use crate::lineage::Lineage;
use crate::memfd;
use crate::memory::{self, EngineBudget};
use crate::module::Module;
use crate::spawn::Spawner;
use crate::start;
use crate::turn::Patience;
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
    config: Config,
    wishes: Wishes,
    patience: Patience,
    keeper: Keeper,
    lineage: Arc<Lineage>,
    budget: Arc<EngineBudget>,
    /// Whether the host decides what is in guest memory, by userfaultfd.
    paged: bool,
    /// What the first worker reported; every other one must report the same.
    layers: OnceLock<Layers>,
}

impl Engine {
    /// Puts the zygote into a sealed memfd and starts the engine's thread. No process yet.
    ///
    /// # Errors
    ///
    /// The kernel's, where it refuses a memfd, a pidfd or a thread. [`Misuse::RootWorker`] and
    /// [`Misuse::NoSuchCpu`] for a configuration that cannot be.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let wishes = Wishes::new(config)?;
        let zygote = zygote_memfd()?;
        let this = process::getpid().at(Stage::Engine, "getpid")?;
        let host = pidfd::pidfd_open(this, PidfdFlags::empty()).at(Stage::Engine, "pidfd_open")?;
        let lineage = Arc::new(Lineage::new()?);
        let spawner = Spawner::new(zygote, host, &wishes)?;
        let keeper = Keeper::new(spawner, Arc::clone(&lineage))?;
        let patience = Patience {
            spin_iterations: spin_iterations(config.spin),
            yields: config.yields,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                config: config.clone(),
                wishes,
                patience,
                keeper,
                lineage,
                budget: EngineBudget::new(config.engine_memory_limit),
                paged: !config.fixed_memory && can_page()?,
                layers: OnceLock::new(),
            }),
        })
    }

    /// Starts a worker for `module` and waits until it is locked down. No guest code has run.
    ///
    /// # Errors
    ///
    /// Names the step of the start that failed, the errno, and what to do about it. The engine
    /// starts one worker at a time; a start takes at most twice [`Config::start_timeout`], once it
    /// is its turn, and some seconds more where the kernel is slow to end a killed process.
    /// [`Misuse::MemoryLimit`](crate::Misuse::MemoryLimit) for a module of another engine's that is
    /// too large for this one; [`Misuse::Forked`](crate::Misuse::Forked).
    pub fn instantiate(&self, module: &Module) -> Result<Instance, Error> {
        self.check_start(module)?;
        Ok(Instance::new(self, start::start(self, module, None)?))
    }

    /// Whether a start makes sense at all.
    pub(crate) fn check_start(&self, module: &Module) -> Result<(), Error> {
        let refuse = |misuse| Err(Error::misuse(Stage::Start, misuse));
        // A module of the parent's is refused too: its contents are not mapped here.
        if !self.inner.lineage.is_ours() || !module.is_ours() {
            return refuse(Misuse::Forked);
        }
        let (bytes, limit) = (module.memory_bytes(), self.inner.config.memory_limit);
        if bytes > limit {
            return refuse(Misuse::MemoryLimit { bytes, limit });
        }
        if module.is_paged() && !self.inner.paged {
            return refuse(Misuse::FixedMap);
        }
        Ok(())
    }

    /// Which layers of the wall are around this engine's workers, and which the kernel lacks, as
    /// the first worker reported before a guest ran. Starts a worker if there has been none.
    ///
    /// # Errors
    ///
    /// Those of [`instantiate`](Self::instantiate).
    pub fn layers(&self) -> Result<Layers, Error> {
        if let Some(layers) = self.inner.layers.get() {
            return Ok(*layers);
        }
        let nothing = Module::builder().code(&TRAP).stack(NOWHERE, PAGE_BYTES);
        Ok(self.instantiate(&nothing.build(self)?)?.layers())
    }

    /// Whether the memory map of a running instance can be changed, and page faults be had: that
    /// takes userfaultfd as Linux 5.19 has it, without any privilege, and
    /// [`Config::fixed_memory`] off.
    #[must_use]
    pub fn can_change_maps(&self) -> bool {
        self.inner.paged
    }

    /// How many bytes of guest memory all instances hold now.
    #[must_use]
    pub fn memory_held(&self) -> u64 {
        self.inner.budget.used()
    }

    pub(crate) fn budget(&self) -> &Arc<EngineBudget> {
        &self.inner.budget
    }

    /// Keeps what a worker reported, and says if it is what the first one did.
    pub(crate) fn agree_on(&self, layers: Layers) -> bool {
        *self.inner.layers.get_or_init(|| layers) == layers
    }

    pub(crate) fn lineage(&self) -> &Arc<Lineage> {
        &self.inner.lineage
    }

    pub(crate) fn wishes(&self) -> &Wishes {
        &self.inner.wishes
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(crate) fn patience(&self) -> Patience {
        self.inner.patience
    }

    pub(crate) fn keeper(&self) -> &Keeper {
        &self.inner.keeper
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Engine")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

/// Whether the host is to decide what is in guest memory. A shortage is an error: an engine is not
/// less than its neighbour because it was made at a bad moment.
fn can_page() -> Result<bool, Error> {
    match memory::offered() {
        Ok(_) => Ok(true),
        Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) => {
            Err(Error::kernel(Stage::Engine, "userfaultfd", errno))
        }
        Err(_) => Ok(false),
    }
}

/// The image in a memfd that nobody can write.
fn zygote_memfd() -> Result<OwnedFd, Error> {
    let image = zygote_image::BYTES;
    let fd = memfd::executable(c"cellwall-zygote", image.len() as u64, Stage::Engine)?;
    memfd::write_all(&fd, image, 0, Stage::Engine)?;
    memfd::freeze(&fd, Stage::Engine)
}

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
