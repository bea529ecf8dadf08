//! What the embedder's configuration means to a worker: who it is, and how it locks down.
//!
//! It is settled once, when the engine is made, from what the host is then.

use std::sync::atomic::Ordering::Relaxed;

use linux_raw::cred::{self, Capability};
use linux_raw::fd::OwnedFd;
use linux_raw::io::{self, OpenFlags};
use linux_raw::process::{CloneBy, Pid, getpid};
use linux_raw::scheduling;
use vmctx::host_page::CPU_WORDS;
use vmctx::{HostPage, Layer, LayerSet, Options, Tier};

use crate::config::{CPUS_MAX, Config};
use crate::error::{Error, KernelResult, Misuse, Stage};
use crate::identity::Identity;
use crate::ports::proves_to_have_none;
use crate::ways::Ways;

/// What every worker of an engine is told.
pub(crate) struct Wishes {
    tier: Tier,
    identity: Identity,
    options: Options,
    nice: i32,
    cpus: [u64; CPU_WORDS],
    /// How many workers and their hosts can be on CPUs at the same time.
    pairs: usize,
    /// `/proc/self/oom_score_adj`: an operator may change it while the host runs.
    oom_score: OwnedFd,
    /// What the kernel may lack and they do without.
    without: LayerSet,
    #[cfg(cellwall_layer_switch)]
    left_out: LayerSet,
}

impl Wishes {
    pub(crate) fn new(config: &Config, ways: &Ways) -> Result<Self, Error> {
        let mut options = Options::empty();
        options.set(Options::REPORT_CALLS, config.report_forbidden_calls);
        options.set(Options::KEEP_SPECULATION, config.keep_speculation);
        options.set(Options::CORE_SCHEDULING, config.core_scheduling);
        options.set(Options::NO_TIMESTAMP_COUNTER, !config.timestamp_counter);
        options.set(Options::OLD_CLONE, ways.clones_by() == CloneBy::Clone);
        options.set(Options::NO_PORTS, proves_to_have_none());
        let weaker = config.tier == Tier::WithoutNamespaces;
        options.set(Options::WITHOUT_NAMESPACES, weaker);
        let identity = Identity::of(config)?;
        // Where a worker has a user namespace of its own, its owner, who is the host, may kill it.
        if identity.is_another && weaker && !may_kill_others()? {
            return Err(Error::misuse(Stage::Engine, Misuse::CannotKill));
        }
        options.set(Options::DROP_GROUPS, identity.is_another);
        let everywhere = cpus_of_the_process()?;
        let cpus = match &config.cpus {
            Some(numbers) if numbers.is_empty() => {
                return Err(Error::misuse(Stage::Engine, Misuse::NoCpu));
            }
            Some(numbers) => cpu_words(numbers)?,
            None => everywhere,
        };
        let any = cpus.iter().zip(everywhere).map(|(one, other)| one | other);
        Ok(Self {
            tier: config.tier,
            identity,
            options,
            nice: match config.nice {
                Some(nice) => nice,
                None => scheduling::nice().at(Stage::Engine, "getpriority")?.max(0),
            },
            cpus,
            pairs: count(cpus).min(count(any) / 2),
            oom_score: io::open(
                c"/proc/self/oom_score_adj",
                OpenFlags::RDONLY | OpenFlags::CLOEXEC,
            )
            .at(Stage::Engine, "open /proc/self/oom_score_adj")?,
            without: ways.without(),
            #[cfg(cellwall_layer_switch)]
            left_out: config.left_out,
        })
    }

    /// How many workers and their hosts can be on CPUs at the same time. 0: there is only one CPU.
    pub(crate) fn pairs(&self) -> usize {
        self.pairs
    }

    /// Whether the OOM killer spares the host, now: its workers must not inherit that.
    pub(crate) fn host_is_spared(&self) -> Result<bool, Error> {
        let mut text = [0];
        io::pread(&self.oom_score, &mut text, 0).at(Stage::Start, "pread64")?;
        Ok(text == *b"-")
    }

    pub(crate) fn tier(&self) -> Tier {
        self.tier
    }

    #[cfg(cellwall_layer_switch)]
    pub(crate) fn left_out(&self) -> LayerSet {
        self.left_out
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether a forbidden system call is reported as a trap.
    pub(crate) fn reports_calls(&self) -> bool {
        self.options.contains(Options::REPORT_CALLS)
    }

    /// Whether a layer was asked for that is only put up on request.
    pub(crate) fn asks_for(&self, layer: Layer) -> bool {
        let option = match layer {
            Layer::CoreScheduling => Options::CORE_SCHEDULING,
            Layer::TimestampCounter => Options::NO_TIMESTAMP_COUNTER,
            _ => return false,
        };
        self.options.contains(option)
    }

    /// The layers that the host puts up itself, once a worker has started.
    pub(crate) fn layers_by_host(&self) -> LayerSet {
        let shared = LayerSet::NONE.with(Layer::SharedWords);
        let namespaces = [
            Layer::UserNamespace,
            Layer::MountNamespace,
            Layer::PidNamespace,
            Layer::NetworkNamespace,
            Layer::IpcNamespace,
            Layer::UtsNamespace,
            Layer::CgroupNamespace,
        ];
        namespaces
            .into_iter()
            .filter(|layer| layer.is_in(self.tier))
            .filter(|layer| !self.is_left_out(*layer))
            .fold(shared, LayerSet::with)
    }

    /// Whether the layer tests want to see what happens without this one.
    #[cfg(cellwall_layer_switch)]
    fn is_left_out(&self, layer: Layer) -> bool {
        self.left_out.has(layer)
    }

    /// Nobody leaves out anything.
    #[cfg(not(cellwall_layer_switch))]
    #[expect(clippy::unused_self, reason = "the layer tests have one that uses it")]
    const fn is_left_out(&self, _: Layer) -> bool {
        false
    }

    /// Writes what the worker is to know into its host page.
    pub(crate) fn write(&self, page: &HostPage) {
        // In a user namespace of its own it is that namespace's user 0, who is mapped to ours.
        let is_inside =
            self.tier != Tier::WithoutNamespaces && !self.is_left_out(Layer::UserNamespace);
        let inner = |id| if is_inside { 0 } else { id };
        #[cfg(cellwall_layer_switch)]
        page.left_out.store(self.left_out.raw(), Relaxed);
        page.without.store(self.without.raw(), Relaxed);
        page.options.store(self.options.bits(), Relaxed);
        page.nice.store(self.nice.cast_unsigned(), Relaxed);
        page.uid.store(inner(self.identity.uid), Relaxed);
        page.gid.store(inner(self.identity.gid), Relaxed);
        for (word, cpus) in page.cpus.iter().zip(self.cpus) {
            word.store(cpus, Relaxed);
        }
    }
}

/// Whether this thread may kill processes of another user's.
fn may_kill_others() -> Result<bool, Error> {
    let own = cred::capget().at(Stage::Engine, "capget")?;
    Ok(own.effective & Capability::KILL.bit() != 0)
}

fn cpu_words(numbers: &[usize]) -> Result<[u64; CPU_WORDS], Error> {
    let mut words = [0; CPU_WORDS];
    for &number in numbers {
        let Some(word) = words.get_mut(number / 64) else {
            let misuse = Misuse::NoSuchCpu {
                number,
                max: CPUS_MAX,
            };
            return Err(Error::misuse(Stage::Engine, misuse));
        };
        *word |= 1 << (number % 64);
    }
    Ok(words)
}

/// How many CPUs a mask names.
fn count(mask: impl IntoIterator<Item = u64>) -> usize {
    mask.into_iter()
        .map(|word| word.count_ones() as usize)
        .sum()
}

/// Those of the first thread: the one that makes the engine may be bound to a CPU of its own.
fn cpus_of_the_process() -> Result<[u64; CPU_WORDS], Error> {
    let process: Pid = getpid().at(Stage::Engine, "getpid")?;
    let mut words = [0; CPU_WORDS];
    scheduling::get_affinity(Some(process), &mut words).at(Stage::Engine, "sched_getaffinity")?;
    Ok(words)
}
