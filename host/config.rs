//! What an embedder may choose.

use std::time::Duration;

use vmctx::Tier;
use vmctx::host_page::CPU_WORDS;

/// Options of an [`Engine`](crate::Engine). The default is meant for production.
#[derive(Debug, Clone)]
#[must_use]
pub struct Config {
    pub(crate) start_timeout: Duration,
    pub(crate) memory_limit: u64,
    pub(crate) engine_memory_limit: u64,
    pub(crate) fixed_memory: bool,
    pub(crate) single_tenant: bool,
    pub(crate) spin: Duration,
    pub(crate) yields: u32,
    pub(crate) tier: Tier,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) nice: Option<i32>,
    pub(crate) cpus: Option<Vec<usize>>,
    pub(crate) report_forbidden_calls: bool,
    pub(crate) keep_speculation: bool,
    pub(crate) core_scheduling: bool,
    pub(crate) timestamp_counter: bool,
    #[cfg(cellwall_layer_switch)]
    pub(crate) left_out: vmctx::LayerSet,
}

const SPIN_MAX: Duration = Duration::from_millis(1);
const YIELDS_MAX: u32 = 1000;

/// One more than the highest CPU that [`Config::cpus`] can name.
pub(crate) const CPUS_MAX: usize = CPU_WORDS * 64;

impl Default for Config {
    fn default() -> Self {
        Self {
            start_timeout: Duration::from_secs(5),
            memory_limit: 1 << 30,
            engine_memory_limit: u64::MAX,
            fixed_memory: false,
            single_tenant: false,
            // Longer than an answer from a host that is awake, shorter than a wake-up.
            spin: Duration::from_micros(10),
            yields: 40,
            tier: Tier::Full,
            uid: None,
            gid: None,
            nice: None,
            cpus: None,
            report_forbidden_calls: false,
            keep_speculation: false,
            core_scheduling: false,
            timestamp_counter: true,
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

    /// How long a worker may take to start before it is killed. 5 s by default; a start takes
    /// about a millisecond.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
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
    /// by default.
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

    /// How long each side spins for the other before it yields its CPU. 10 µs by default, at most
    /// 1 ms: while it spins, a side looks at nothing else.
    pub fn spin(mut self, spin: Duration) -> Self {
        self.spin = spin.min(SPIN_MAX);
        self
    }

    /// How often each side yields its CPU before it sleeps. 40 by default, at most 1,000; the host
    /// also stops after 5 ms.
    pub fn yields(mut self, yields: u32) -> Self {
        self.yields = yields.min(YIELDS_MAX);
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
}

/// What was chosen, for tools that look whether the wall is as it was asked for.
impl Config {
    /// See [`tier`](Self::tier).
    #[must_use]
    pub fn chosen_tier(&self) -> Tier {
        self.tier
    }

    /// See [`uid`](Self::uid); `None` is the default.
    #[must_use]
    pub fn chosen_uid(&self) -> Option<u32> {
        self.uid
    }

    /// See [`gid`](Self::gid); `None` is the default.
    #[must_use]
    pub fn chosen_gid(&self) -> Option<u32> {
        self.gid
    }

    /// See [`nice`](Self::nice); `None` is the default.
    #[must_use]
    pub fn chosen_nice(&self) -> Option<i32> {
        self.nice
    }

    /// See [`cpus`](Self::cpus); `None` is the default.
    #[must_use]
    pub fn chosen_cpus(&self) -> Option<&[usize]> {
        self.cpus.as_deref()
    }

    /// See [`report_forbidden_calls`](Self::report_forbidden_calls).
    #[must_use]
    pub fn reports_forbidden_calls(&self) -> bool {
        self.report_forbidden_calls
    }

    /// See [`fixed_memory`](Self::fixed_memory).
    #[must_use]
    pub fn fixes_memory(&self) -> bool {
        self.fixed_memory
    }

    /// See [`single_tenant`](Self::single_tenant).
    #[must_use]
    pub fn is_single_tenant(&self) -> bool {
        self.single_tenant
    }

    /// See [`keep_speculation`](Self::keep_speculation).
    #[must_use]
    pub fn keeps_speculation(&self) -> bool {
        self.keep_speculation
    }

    /// See [`core_scheduling`](Self::core_scheduling).
    #[must_use]
    pub fn asks_for_core_scheduling(&self) -> bool {
        self.core_scheduling
    }

    /// See [`timestamp_counter`](Self::timestamp_counter).
    #[must_use]
    pub fn allows_timestamp_counter(&self) -> bool {
        self.timestamp_counter
    }
}
