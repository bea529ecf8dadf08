//! What an embedder may choose.

mod chosen;

use std::time::Duration;

use vmctx::Tier;
use vmctx::host_page::CPU_WORDS;

use crate::cgroup::Cgroup;
use crate::pool::PoolConfig;
use crate::probe::Kernel;

/// Options of an [`Engine`](crate::Engine). The default is meant for production.
#[derive(Debug, Clone)]
#[must_use]
pub struct Config {
    pub(crate) start_timeout: Duration,
    pub(crate) direct: bool,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) pool: Option<PoolConfig>,
    pub(crate) memory_limit: u64,
    pub(crate) engine_memory_limit: u64,
    pub(crate) fixed_memory: bool,
    pub(crate) single_tenant: bool,
    pub(crate) stop_timeout: Duration,
    pub(crate) waiting: Waiting,
    pub(crate) spin: Option<Duration>,
    pub(crate) yields: Option<u32>,
    pub(crate) tier: Tier,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) nice: Option<i32>,
    pub(crate) cpus: Option<Vec<usize>>,
    pub(crate) report_forbidden_calls: bool,
    pub(crate) keep_speculation: bool,
    pub(crate) core_scheduling: bool,
    pub(crate) timestamp_counter: bool,
    pub(crate) kernel: Option<Kernel>,
    #[cfg(cellwall_layer_switch)]
    pub(crate) left_out: vmctx::LayerSet,
}

/// How host and worker wait for each other, once each has given the turn away.
///
/// All of them spin only where host and worker are on two CPUs, and less where the answers take
/// longer. Where more instances of an engine want to spin than there are CPUs for, at two each,
/// they do so by turns of up to 3 ms, and a [`run`](crate::Instance::run) may sleep for up to 30 ms
/// before its guest comes. None of them chooses a CPU: [`Config::cpus`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Waiting {
    /// Spins for up to 100 µs: for guests whose answer is wanted at any price.
    Latency,
    /// Spins for up to 10 µs, which is longer than an answer takes from a side that is awake, and
    /// shorter than waking it up; yields up to 40 times, and eight times as often while a worker
    /// wakes up; sleeps then.
    #[default]
    Balanced,
    /// Does not spin, and yields four times before it sleeps: for hosts with many guests that wait
    /// longer than they run.
    Frugal,
}

impl Waiting {
    /// How long to spin, and how often to yield.
    pub(crate) fn bounds(self) -> (Duration, u32) {
        match self {
            Self::Latency => (Duration::from_micros(100), 40),
            Self::Balanced => (Duration::from_micros(10), 40),
            Self::Frugal => (Duration::ZERO, 4),
        }
    }
}

const SPIN_MAX: Duration = Duration::from_millis(1);
const YIELDS_MAX: u32 = 1000;

/// One more than the highest CPU that [`Config::cpus`] can name.
pub(crate) const CPUS_MAX: usize = CPU_WORDS * 64;

impl Default for Config {
    fn default() -> Self {
        Self {
            start_timeout: Duration::from_secs(5),
            direct: false,
            cgroup: None,
            pool: None,
            memory_limit: 1 << 30,
            engine_memory_limit: u64::MAX,
            fixed_memory: false,
            single_tenant: false,
            stop_timeout: Duration::from_secs(1),
            waiting: Waiting::Balanced,
            spin: None,
            yields: None,
            tier: Tier::Full,
            uid: None,
            gid: None,
            nice: None,
            cpus: None,
            report_forbidden_calls: false,
            keep_speculation: false,
            core_scheduling: false,
            timestamp_counter: true,
            kernel: None,
            #[cfg(cellwall_layer_switch)]
            left_out: vmctx::LayerSet::NONE,
        }
    }
}

impl Config {
    /// The default.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a worker, or the nursery, may take to start before it is killed. 5 s by default; a
    /// start takes about a millisecond at the most where a CPU is free.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Starts each worker by itself, in namespaces, an empty root and a Landlock domain of its own.
    /// Off by default: then one process, the nursery, takes these steps once and clones workers
    /// that share them. That is some ten times faster, and no worker reaches another by them as
    /// long as the rest of the wall stands.
    ///
    /// [`Tier::WithoutNamespaces`] has no nursery: its workers would outlive it.
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// Keeps workers for instances to come. By default the worker of an instance ends with it.
    ///
    /// A pool has a thread of its own, and gives a worker only to instances of the module that it
    /// was started for.
    pub fn pool(mut self, pool: PoolConfig) -> Self {
        self.pool = Some(pool);
        self
    }

    /// Has workers born in a control group: they are in it before they run, and what they take
    /// counts there. By default they are where the host is. Since Linux 5.7, with cgroup v2.
    ///
    /// The nursery is in it too, and all workers by it. The host needs what it takes to move a
    /// process there (cgroups(7), "Delegation"): for an ordinary user, the right to write
    /// `cgroup.procs` of the group and of the closest group around both.
    pub fn cgroup(mut self, cgroup: Cgroup) -> Self {
        self.cgroup = Some(cgroup);
        self
    }

    /// The most bytes of guest memory that an instance may hold: what its module asks for, and what
    /// is mapped later. 1 GiB by default. Memory is taken from the machine only when a guest first
    /// touches it, but what is mapped counts at once: a guest never finds that there is none left.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// The most bytes of guest memory that all instances of the engine may hold together. No limit
    /// by default. What the pool keeps counts, and gives way.
    pub fn engine_memory_limit(mut self, bytes: u64) -> Self {
        self.engine_memory_limit = bytes;
        self
    }

    /// Fixes each instance's memory map when its worker starts, as on a kernel before 5.19: without
    /// a userfaultfd, which is one thing less that the kernel does for a guest. Off by default.
    ///
    /// Then there is no dynamic paging, and changes of the map are refused with
    /// [`Misuse::FixedMap`](crate::Misuse::FixedMap). Everything else works.
    pub fn fixed_memory(mut self, fixed: bool) -> Self {
        self.fixed_memory = fixed;
        self
    }

    /// Says that each instance serves one tenant all its life: a reset or a restore puts its memory
    /// back and does no more. Off by default.
    ///
    /// By default they also take the thread away from a guest that only says that it has finished,
    /// and wipe what it has left in its worker, before the next one gets in. That costs a signal
    /// and an interrupt of the other CPU: some microseconds, and 30 on a virtual machine.
    pub fn single_tenant(mut self, single: bool) -> Self {
        self.single_tenant = single;
        self
    }

    /// How long a worker may take to stop its guest, at a deadline or when it is interrupted,
    /// before it is killed. 1 s by default: it takes some microseconds where a CPU is free, but a
    /// worker that many others keep from its CPU is no less honest.
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.stop_timeout = timeout;
        self
    }

    /// How host and worker wait for each other. [`Waiting::Balanced`] by default.
    ///
    /// ```
    /// use cellwall::{Config, Engine, Waiting};
    ///
    /// let engine = Engine::new(&Config::default().waiting(Waiting::Frugal))?;
    /// # Ok::<(), cellwall::Error>(())
    /// ```
    pub fn waiting(mut self, waiting: Waiting) -> Self {
        self.waiting = waiting;
        self
    }

    /// How long each side spins for the other at the most before it yields its CPU, whatever
    /// [`waiting`](Self::waiting) says; at most 1 ms: while it spins, a side looks at nothing else.
    pub fn spin(mut self, spin: Duration) -> Self {
        self.spin = Some(spin.min(SPIN_MAX));
        self
    }

    /// How often each side yields its CPU before it sleeps, whatever [`waiting`](Self::waiting)
    /// says; at most 1,000, and the host also stops after 5 ms.
    pub fn yields(mut self, yields: u32) -> Self {
        self.yields = Some(yields.min(YIELDS_MAX));
        self
    }

    /// What the wall rests on. [`Tier::Full`] by default; a weaker tier is never chosen for you.
    ///
    /// [`Tier::WithoutNamespaces`] is for containers that forbid user namespaces. It has the
    /// system call filter, Landlock and the limits, and neither namespaces nor a root of its own:
    /// `cellwall probe` and [`Engine::layers`](crate::Engine::layers) say what it lacks.
    pub fn tier(mut self, tier: Tier) -> Self {
        self.tier = tier;
        self
    }

    /// The user that workers are, as the host's user namespace names it.
    ///
    /// By default the host's own user, and 65534 (`nobody`) for a host that is root. Another user
    /// than the host's own takes `CAP_SETUID`; 0 is refused, whoever asks.
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// The group that workers are, as [`uid`](Self::uid). Another group than the host's own takes
    /// `CAP_SETGID`, and 0 is refused. A root host's workers have no supplementary groups.
    pub fn gid(mut self, gid: u32) -> Self {
        self.gid = Some(gid);
        self
    }

    /// The nice value of workers, brought into -20 to 19 (setpriority(2)). By default the host's,
    /// but at least 0. A value below the host's takes `RLIMIT_NICE`: root's privileges do not count
    /// inside a worker's user namespace.
    pub fn nice(mut self, nice: i32) -> Self {
        self.nice = Some(nice.clamp(-20, 19));
        self
    }

    /// The CPUs that workers may run on, by number, below 1,024. By default those of the host's
    /// first thread, whichever thread makes the engine.
    ///
    /// Where none of them is there for this process, a start fails (sched_setaffinity(2)).
    pub fn cpus(mut self, cpus: &[usize]) -> Self {
        self.cpus = Some(cpus.to_vec());
        self
    }

    /// Reports a forbidden system call as a trap with its number, after which the instance can be
    /// called again, instead of killing the worker. Off by default: it is for people who debug a
    /// code generator. Calls of other architectures still kill.
    pub fn report_forbidden_calls(mut self, report: bool) -> Self {
        self.report_forbidden_calls = report;
        self
    }

    /// Leaves speculative store bypass and indirect-branch speculation of workers as they are.
    /// Off by default: both are disabled for good where the CPU lets us, which makes some code
    /// slower.
    pub fn keep_speculation(mut self, keep: bool) -> Self {
        self.keep_speculation = keep;
        self
    }

    /// Gives each worker a core-scheduling cookie, so that nobody else runs on its core at the
    /// same time. Off by default. Since Linux 5.14, on a kernel with `CONFIG_SCHED_CORE` and a CPU
    /// with several threads a core; elsewhere a start fails.
    pub fn core_scheduling(mut self, cookie: bool) -> Self {
        self.core_scheduling = cookie;
        self
    }

    /// Whether guests may read the CPU's time-stamp counter. On by default; where it is off,
    /// `rdtsc` is a memory trap.
    pub fn timestamp_counter(mut self, allowed: bool) -> Self {
        self.timestamp_counter = allowed;
        self
    }

    /// Has the engine behave as on this kernel, from [`Kernel::probe`] or made up.
    ///
    /// By default it finds out by itself, step by step. With a value all is decided at once, and
    /// the value is taken at its word:
    ///
    /// - [`Engine::new`] refuses if the value lacks a must of the tier, or what the configuration
    ///   asks for: [`Blame::KernelLacks`] names all of it, and what to do.
    /// - What else it lacks is not used, even where the kernel has it, and
    ///   [`Engine::shortfalls`] says what is done instead ([`Feature::without`]). No value takes
    ///   away a must: workers report their layers before a guest runs. What would take a layer or
    ///   paging away must be the kernel's answer: where the trial itself ran out of processes,
    ///   descriptors, memory or time, [`Engine::new`] refuses likewise.
    /// - What it has must be there: where the kernel refuses it nothing falls back, and the engine
    ///   or a start fails with [`Blame::KernelDiffers`].
    ///
    /// Features are taken or left as a whole: details, such as the version of Landlock, are those
    /// of the kernel.
    ///
    /// ```
    /// use cellwall::{Config, Engine, Kernel};
    ///
    /// // Nothing that is there now is given up silently, should a later start not get it.
    /// let engine = Engine::new(&Config::default().kernel(Kernel::probe()))?;
    /// for shortfall in engine.shortfalls()? {
    ///     eprintln!("{shortfall}");
    /// }
    /// # Ok::<(), cellwall::Error>(())
    /// ```
    ///
    /// [`Engine::new`]: crate::Engine::new
    /// [`Engine::shortfalls`]: crate::Engine::shortfalls
    /// [`Feature::without`]: crate::Feature::without
    /// [`Blame::KernelLacks`]: crate::Blame::KernelLacks
    /// [`Blame::KernelDiffers`]: crate::Blame::KernelDiffers
    pub fn kernel(mut self, kernel: Kernel) -> Self {
        self.kernel = Some(kernel);
        self
    }
}
