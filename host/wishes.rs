//! What the embedder's configuration means to a worker: who it is, and how it locks down.
//!
//! It is settled once, when the engine is made, from what the host is then.

use std::fs;
use std::sync::atomic::Ordering::Relaxed;

use linux_raw::fd::OwnedFd;
use linux_raw::io::{self, OpenFlags};
use linux_raw::process::{Pid, getegid, geteuid, getpid};
use linux_raw::scheduling;
use vmctx::host_page::{CPU_WORDS, KEEP_ID};
use vmctx::{HostPage, Layer, LayerSet, Options, Tier};

use crate::config::{CPUS_MAX, Config};
use crate::error::{Error, KernelResult, Misuse, Stage};

/// The user and group of a root host's workers: `nobody`, as every distribution has it.
const NOBODY: u32 = 65534;

/// What every worker of an engine is told.
pub(crate) struct Wishes {
    tier: Tier,
    identity: Identity,
    options: Options,
    nice: i32,
    cpus: [u64; CPU_WORDS],
    /// `/proc/self/oom_score_adj`: an operator may change it while the host runs.
    oom_score: OwnedFd,
    #[cfg(cellwall_layer_switch)]
    left_out: LayerSet,
}

/// Who a worker is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    /// The user, in the host's user namespace.
    pub(crate) uid: u32,
    /// The group.
    pub(crate) gid: u32,
    /// Whether that is somebody else than the host: then it takes the host's powers to become so.
    pub(crate) is_another: bool,
}

impl Wishes {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let mut options = Options::empty();
        options.set(Options::REPORT_CALLS, config.report_forbidden_calls);
        options.set(Options::KEEP_SPECULATION, config.keep_speculation);
        options.set(Options::CORE_SCHEDULING, config.core_scheduling);
        options.set(Options::NO_TIMESTAMP_COUNTER, !config.timestamp_counter);
        let weaker = config.tier == Tier::WithoutNamespaces;
        options.set(Options::WITHOUT_NAMESPACES, weaker);
        Ok(Self {
            tier: config.tier,
            identity: Identity::of(config)?,
            options,
            nice: match config.nice {
                Some(nice) => nice,
                None => scheduling::nice().at(Stage::Engine, "getpriority")?.max(0),
            },
            cpus: match &config.cpus {
                Some(numbers) => cpu_words(numbers)?,
                None => cpus_of_the_process()?,
            },
            oom_score: io::open(
                c"/proc/self/oom_score_adj",
                OpenFlags::RDONLY | OpenFlags::CLOEXEC,
            )
            .at(Stage::Engine, "open /proc/self/oom_score_adj")?,
            #[cfg(cellwall_layer_switch)]
            left_out: config.left_out,
        })
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
        // In a user namespace of its own it becomes that namespace's user 0, who is mapped to ours.
        let is_inside =
            self.tier != Tier::WithoutNamespaces && !self.is_left_out(Layer::UserNamespace);
        let inner = |id| match (self.identity.is_another, is_inside) {
            (false, _) => KEEP_ID,
            (true, false) => id,
            (true, true) => 0,
        };
        #[cfg(cellwall_layer_switch)]
        page.left_out.store(self.left_out.raw(), Relaxed);
        page.options.store(self.options.bits(), Relaxed);
        page.nice.store(self.nice.cast_unsigned(), Relaxed);
        page.uid.store(inner(self.identity.uid), Relaxed);
        page.gid.store(inner(self.identity.gid), Relaxed);
        for (word, cpus) in page.cpus.iter().zip(self.cpus) {
            word.store(cpus, Relaxed);
        }
    }
}

impl Identity {
    fn of(config: &Config) -> Result<Self, Error> {
        let (own_uid, own_gid) = (geteuid(), getegid());
        #[cfg(cellwall_layer_switch)]
        if config.left_out.has(Layer::UserId) {
            return Ok(Self {
                uid: own_uid,
                gid: own_gid,
                is_another: false,
            });
        }
        let becomes_nobody = own_uid == 0 && is_mapped(NOBODY)?;
        let default = |own| if becomes_nobody { NOBODY } else { own };
        let uid = config.uid.unwrap_or(default(own_uid));
        let gid = config.gid.unwrap_or(default(own_gid));
        let asked_for_root = [config.uid, config.gid].contains(&Some(0));
        if asked_for_root || (uid == 0 && is_first_root()?) {
            return Err(Error::misuse(Stage::Engine, Misuse::RootWorker));
        }
        Ok(Self {
            uid,
            gid,
            is_another: (uid, gid) != (own_uid, own_gid),
        })
    }
}

/// One line of `/proc/self/uid_map` (user_namespaces(7)): the first id here, the first id in the
/// parent namespace, how many.
fn uid_map() -> Result<Vec<[u32; 3]>, Error> {
    let path = "/proc/self/uid_map";
    let text = fs::read_to_string(path).map_err(|_| {
        Error::kernel(
            Stage::Engine,
            "read /proc/self/uid_map",
            linux_raw::Errno::ENOENT,
        )
    })?;
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map_while(|word| word.parse().ok());
        Some([numbers.next()?, numbers.next()?, numbers.next()?])
    };
    Ok(text.lines().filter_map(line).collect())
}

/// Whether a user exists in the host's own user namespace.
fn is_mapped(uid: u32) -> Result<bool, Error> {
    let holds =
        |[first, _, count]: &[u32; 3]| uid.checked_sub(*first).is_some_and(|at| at < *count);
    Ok(uid_map()?.iter().any(holds))
}

/// Whether user 0 of the host's user namespace is user 0 of the parent's too, as in the first one.
fn is_first_root() -> Result<bool, Error> {
    let maps_root = |[first, outside, _]: &[u32; 3]| *first == 0 && *outside == 0;
    Ok(uid_map()?.iter().any(maps_root))
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

/// Those of the first thread: the one that makes the engine may be bound to a CPU of its own.
fn cpus_of_the_process() -> Result<[u64; CPU_WORDS], Error> {
    let process: Pid = getpid().at(Stage::Engine, "getpid")?;
    let mut words = [0; CPU_WORDS];
    scheduling::get_affinity(Some(process), &mut words).at(Stage::Engine, "sched_getaffinity")?;
    Ok(words)
}
