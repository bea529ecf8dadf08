//! The layers of the wall: one line of data each, with the reason, for everybody who needs them.
//!
//! The zygote's steps put most of them up and report which are in force; host, audit, tests and
//! `docs/threat-model.md` read this table.

use static_assertions::const_assert;

/// What becomes of a start when a layer is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerNeed {
    /// No guest runs without it.
    Must,
    /// A kernel or CPU may lack it: then the layer is listed as absent. One that is there and
    /// fails stops the start.
    May,
    /// Off unless the embedder asks for it; then a must.
    OnRequest,
}

impl LayerNeed {
    /// As tables say it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Must => "must",
            Self::May => "where the kernel has it",
            Self::OnRequest => "on request",
        }
    }
}

/// What the layers of a wall rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Tier {
    /// Every layer of the table.
    #[default]
    Full,
    /// For a container that forbids user namespaces: no namespace and no root of its own. The
    /// system call filter, Landlock and the limits carry the wall alone.
    WithoutNamespaces,
}

impl Tier {
    /// As tables say it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::WithoutNamespaces => "without-namespaces",
        }
    }
}

macro_rules! layers {
    ($($layer:ident, $need:ident, $tiers:ident, $since:literal, $name:literal;
       $what:literal; $stops:literal; $not:literal;)*) => {
        /// A layer of the wall.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Layer { $(#[doc = $what] $layer,)* }

        impl Layer {
            /// Every layer, in the order of the tables.
            pub const ALL: &[Self] = &[$(Self::$layer,)*];

            /// Its name, for people and as a key for machines.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$layer => $name,)* }
            }

            /// Whether a start goes on without it.
            #[must_use]
            pub const fn need(self) -> LayerNeed {
                match self { $(Self::$layer => LayerNeed::$need,)* }
            }

            /// The first kernel that has it as it is used.
            #[must_use]
            pub const fn since(self) -> &'static str {
                match self { $(Self::$layer => $since,)* }
            }

            /// What it is.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $(Self::$layer => $what,)* }
            }

            /// What it stops.
            #[must_use]
            pub const fn stops(self) -> &'static str {
                match self { $(Self::$layer => $stops,)* }
            }

            /// What it does not stop.
            #[must_use]
            pub const fn does_not_stop(self) -> &'static str {
                match self { $(Self::$layer => $not,)* }
            }

            /// Whether this tier has it.
            #[must_use]
            pub const fn is_in(self, tier: Tier) -> bool {
                match self {
                    $(Self::$layer => matches!((Reach::$tiers, tier),
                        (Reach::Every, _) | (Reach::Full, Tier::Full)),)*
                }
            }
        }
    };
}

/// In which tiers a layer is.
#[derive(Clone, Copy)]
enum Reach {
    Every,
    Full,
}

layers! {
    SystemCalls, Must, Every, "4.14", "system-calls";
    "A seccomp filter, the architecture checked first, that kills the process by default. Left are `futex` WAIT and WAKE, untimed, on one address compared in full; `sched_yield`; `exit_group`";
    "opening, mapping, signalling, creating: every other call by `syscall`, `int 0x80`, `sysenter`, x32 numbers or the vsyscall page";
    "bugs in the entry path and in these three calls; `uretprobe` and `uprobe`, which no filter sees and the kernel itself refuses";

    UserNamespace, Must, Full, "3.8", "user-namespace";
    "A user namespace with one user and one group";
    "power over anything outside, even for a worker that was root inside";
    "what its user may do outside as that user; the host's user may trace the worker";

    MountNamespace, Must, Full, "3.8", "mount-namespace";
    "A mount namespace of its own";
    "changing what the host has mounted, together with the user namespace, which keeps shared mounts from passing changes back";
    "seeing files: the empty root does that";

    PidNamespace, Must, Full, "3.8", "pid-namespace";
    "A pid namespace with the nursery and its workers; with Config::direct, with one process";
    "signalling or tracing any process outside of it by its number";
    "the same among workers of one nursery, should the filter fail; reading of other processes in the host's /proc, as long as that is in sight: the empty root ends it";

    NetworkNamespace, Must, Full, "3.8", "network-namespace";
    "A network namespace with nothing but a loopback device that is down";
    "IP networks, the host's loopback and abstract sockets";
    "sockets that are files, of which none is in sight, and families without namespaces, such as AF_VSOCK";

    IpcNamespace, Must, Full, "3.8", "ipc-namespace";
    "An IPC namespace of its own";
    "System V and POSIX queues, semaphores and shared memory of others";
    "";

    UtsNamespace, Must, Full, "3.8", "uts-namespace";
    "A host-name namespace of its own";
    "changing the host's name";
    "knowing the name that was copied at the start";

    CgroupNamespace, Must, Full, "4.6", "cgroup-namespace";
    "A cgroup namespace of its own";
    "seeing where in the host's cgroups the worker is";
    "use of what the cgroup may use";

    EmptyRoot, Must, Full, "5.2", "empty-root";
    "An empty, read-only tmpfs as root; the old root detached";
    "seeing or making any file by name";
    "files behind open descriptors";

    UserId, Must, Every, "3.8", "user-id";
    "Never kernel user 0: a root host's workers are user and group 65534, without supplementary groups, or who `Config::uid` says";
    "owning root's files should every other layer fail";
    "what the host's own user owns, where the host is an ordinary user: its workers are that user";

    NoNewPrivileges, Must, Every, "3.5", "no-new-privileges";
    "no_new_privs";
    "gaining privileges by an exec";
    "";

    Capabilities, Must, Every, "2.6.26", "capabilities";
    "No capability in the effective, permitted, inheritable and ambient sets, and no I/O port";
    "everything that takes a privilege, inside the namespaces too";
    "what an ordinary user may do";

    BoundingSet, Must, Full, "2.6.25", "bounding-set";
    "An empty bounding set";
    "gaining any capability by an exec";
    "";

    Securebits, Must, Full, "4.3", "securebits";
    "NOROOT, NO_SETUID_FIXUP, no ambient capabilities, KEEP_CAPS off, each locked";
    "capabilities that come with user 0";
    "";

    NotDumpable, Must, Every, "2.4", "not-dumpable";
    "PR_SET_DUMPABLE 0";
    "core dumps of guest memory; being traced or read by others of the same user, but the owner of its user namespace";
    "root, and the host's user";

    WriteXorExecute, Must, Every, "4.17", "write-xor-execute";
    "No mapping is writable and executable; code is mapped from descriptors that are open read-only and then closed: the module's file, which is sealed, and the instance's own, which the host alone writes";
    "making or changing code at run time";
    "use of the code that is there; a write through /proc/self/mem to the zygote's own text, should a file be opened";

    DenyWriteExecute, May, Every, "6.3", "deny-write-execute";
    "PR_SET_MDWE: memory that is not executable never becomes so";
    "the same, should a call that maps memory get through";
    "code that is written through a file, and executed through another mapping of it: no descriptor can be had (limits)";

    Mseal, May, Every, "6.10", "mseal";
    "Every mapping is sealed";
    "unmapping, moving or protecting anew what is mapped, should such a call get through";
    "new mappings beside the sealed ones; what writes past protections";

    KernelMappings, Must, Every, "2.6", "kernel-mappings";
    "What the kernel maps for a new process is unmapped: stack, vdso, vvar, and the rest of the address space";
    "code and kernel data at places that we did not choose; the vsyscall page is not executable or kills";
    "reading the clock by the CPU's own counter";

    Descriptors, Must, Every, "5.9", "descriptors";
    "No descriptor is open";
    "use of anything that the host had open";
    "";

    LandlockFiles, Must, Every, "5.13", "landlock-files";
    "A Landlock domain that allows no access to files that the kernel's Landlock knows";
    "opening, making, removing, linking, executing any file or directory";
    "calls that Landlock does not govern, such as stat and chdir; files that are in no tree, such as a memfd behind /proc/self/fd";

    LandlockNetwork, May, Every, "6.7", "landlock-network";
    "The same for binding and connecting of TCP sockets";
    "TCP, and UDP since Landlock's version 10, should the filter and the namespace fail";
    "other protocols, multipath TCP among them";

    LandlockScopes, May, Every, "6.12", "landlock-scopes";
    "The same for abstract sockets and signals to processes outside of the domain";
    "signals to the host and to workers of other engines, and its abstract sockets";
    "signals among workers of one nursery";

    Limits, Must, Every, "2.6.36", "limits";
    "Core size, file size, processes, descriptors, locked memory, new memory, message queues, pending signals, real-time priority and nice: 0, for good";
    "taking any of these, should the filter fail";
    "CPU time, and memory inside the module's regions; processes of a worker that is kernel user 0, which none is (user-id)";

    Signals, Must, Every, "2.6", "signals";
    "Every disposition reset, no signal blocked or pending, handlers of faults, of the host's eviction and of its interruption on a stack of their own, no timer";
    "use of what the host ignores, blocks or has running";
    "";

    Standing, Must, Every, "2.6.36", "standing";
    "A session, name, nice value and CPUs that are not the host's (a session for a nursery and its workers), normal scheduling, an oom_score_adj of at least 0, and no page merging";
    "running with the priority of a real-time host, outliving it when memory is short, its terminal, learning by merged pages what is in others' memory";
    "an idle host's workers are idle too; nobody may leave a higher nice value";

    HostDeath, Must, Every, "5.4", "host-death";
    "SIGKILL when the thread ends that started it, and a look at the host's pidfd; for a worker that a nursery has cloned, when the nursery ends, which has both";
    "outliving the host";
    "a guest that could make prctl: the filter allows none; before Linux 6.9, a start in the instant in which the host dies; a host that gave up the right to kill it";

    SharedWords, Must, Every, "5.1", "shared-words";
    "The host page is mapped read-only, from a descriptor that is open read-only, and its file is sealed against all writing but by the host's mapping; sizes are sealed; the host keeps its own record of the turn and checks every word";
    "forging orders; pulling memory away under the host; confusing the host by states, lengths and addresses";
    "lies in arguments and values: they are the embedder's to judge";

    StoreBypass, May, Every, "4.17", "no-store-bypass";
    "Speculative store bypass is disabled for good, unless `Config` says otherwise";
    "reading memory of this process that a store was about to replace";
    "other kinds of speculation";

    IndirectBranch, May, Every, "4.20", "no-indirect-branch";
    "Indirect-branch speculation is disabled for good, unless `Config` says otherwise";
    "steering indirect branches of others by trained predictors, and being steered";
    "other kinds of speculation";

    CoreScheduling, OnRequest, Every, "5.14", "core-scheduling";
    "A core-scheduling cookie of its own";
    "sharing a core with anybody else at the same time";
    "channels through what cores share";

    TimestampCounter, OnRequest, Every, "2.6.26", "no-timestamp-counter";
    "`rdtsc` traps";
    "reading time precisely by the CPU's counter";
    "clocks made of a loop or of the host's answers";
}

/// A set of layers, as the worker reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LayerSet(u64);

impl LayerSet {
    /// No layer.
    pub const NONE: Self = Self(0);

    /// Every layer that a kernel may lack: those that a host can say to do without.
    pub const MAY: Self = {
        let mut set = Self::NONE;
        let mut rest = Layer::ALL;
        while let [layer, others @ ..] = rest {
            if matches!(layer.need(), LayerNeed::May) {
                set = set.with(*layer);
            }
            rest = others;
        }
        set
    };

    /// The bits as they were read. Bits of no layer mean nothing.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The bits: one for each layer, at its place in [`Layer::ALL`].
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// With this layer too.
    #[must_use]
    pub const fn with(self, layer: Layer) -> Self {
        Self(self.0 | 1 << layer as u8)
    }

    /// Whether the layer is in it.
    #[must_use]
    pub const fn has(self, layer: Layer) -> bool {
        self.0 & 1 << layer as u8 != 0
    }

    /// Whether all of it, bits of no layer included, is in another one too.
    #[must_use]
    pub const fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }
}

// One bit each in a word, and one errno each in the guest page.
const_assert!(Layer::ALL.len() <= crate::guest_page::ABSENCES_MAX);
const_assert!(crate::guest_page::ABSENCES_MAX <= u64::BITS as usize);

#[cfg(test)]
mod tests {
    use super::{Layer, LayerNeed, LayerSet, Tier};

    #[test]
    fn names_are_keys_and_every_layer_says_what_it_stops() {
        for (index, layer) in Layer::ALL.iter().enumerate() {
            assert_eq!(*layer as usize, index);
            let same = |other: &&Layer| other.name() == layer.name();
            assert_eq!(Layer::ALL.iter().filter(same).count(), 1, "{layer:?}");
            assert!(!layer.what().is_empty() && !layer.stops().is_empty());
        }
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let set = LayerSet::NONE.with(Layer::Mseal).with(Layer::SystemCalls);
        for layer in Layer::ALL {
            let wanted = [Layer::Mseal, Layer::SystemCalls].contains(layer);
            assert_eq!(set.has(*layer), wanted);
        }
    }

    #[test]
    fn what_a_kernel_may_lack_is_no_must() {
        for layer in Layer::ALL {
            assert_eq!(LayerSet::MAY.has(*layer), layer.need() == LayerNeed::May);
            let alone = LayerSet::NONE.with(*layer);
            assert_eq!(alone.is_within(LayerSet::MAY), LayerSet::MAY.has(*layer));
        }
        assert!(LayerSet::NONE.is_within(LayerSet::MAY));
        assert!(!LayerSet::from_raw(1 << 63).is_within(LayerSet::MAY));
    }

    #[test]
    fn the_weaker_tier_is_a_part_of_the_full_one() {
        for layer in Layer::ALL {
            assert!(layer.is_in(Tier::Full));
        }
        let weaker = Tier::WithoutNamespaces;
        assert!(!Layer::PidNamespace.is_in(weaker) && Layer::LandlockFiles.is_in(weaker));
        assert_eq!(Layer::LandlockFiles.need(), LayerNeed::Must);
    }
}
