//! The features: which need, since when, resting on what, carrying which layers; what for, and what
//! to do without.

use vmctx::{Layer, Tier};

use super::feature::{Need, features};
use super::version::Version;

features! {
    /// `pidfd_open`, and waiting by such a descriptor.
    Pidfd: Must, Version::new(5, 4), on [], layers [HostDeath];
    "pidfd"; "killing and reaping workers, ending with the host";
    "Use Linux 5.4 or later.";

    /// A user namespace of one's own.
    UserNamespace: Must, Version::new(3, 8), on [], layers [UserNamespace, BoundingSet, Securebits];
    "user-namespace"; "workers without privileges over anything";
    "Allow user namespaces for this program: a kernel with CONFIG_USER_NS, no container, AppArmor \
     or SELinux policy against them, no chroot, and a user who has an id in its own user namespace.";

    /// Mapping one user and one group into it.
    IdMaps: Must, Version::new(3, 8), on [UserNamespace], layers [];
    "id-maps"; "executing in the user namespace";
    "Let this program write /proc/self/uid_map: mount /proc, and run as an ordinary user, or as \
     root with CAP_SETUID, CAP_SETGID and CAP_SETFCAP.";

    /// A mount namespace of one's own.
    MountNamespace: Must, Version::new(3, 8), on [UserNamespace], layers [MountNamespace];
    "mount-namespace"; "an empty root";
    "Allow mount namespaces for this program, which containers and AppArmor can forbid.";

    /// Mounting an empty file system there and making it the root.
    EmptyRoot: Must, Version::new(5, 2), on [MountNamespace], layers [EmptyRoot];
    "empty-root"; "no file in sight of a worker";
    "Allow fsopen, fsconfig, fsmount, move_mount, pivot_root and umount2 inside a user namespace, \
     and run from a root that is a mount point of its own.";

    /// A pid namespace of one's own.
    PidNamespace: Must, Version::new(3, 8), on [UserNamespace], layers [PidNamespace];
    "pid-namespace"; "no process in sight of a worker";
    "Use a kernel with CONFIG_PID_NS, and allow pid namespaces for this program.";

    /// A network namespace of one's own.
    NetworkNamespace: Must, Version::new(3, 8), on [UserNamespace], layers [NetworkNamespace];
    "network-namespace"; "no network";
    "Use a kernel with CONFIG_NET_NS, and allow network namespaces for this program.";

    /// An IPC namespace of one's own.
    IpcNamespace: Must, Version::new(3, 8), on [UserNamespace], layers [IpcNamespace];
    "ipc-namespace"; "no System V or POSIX queue of others";
    "Use a kernel with CONFIG_IPC_NS, and allow IPC namespaces for this program.";

    /// A host-name namespace of one's own.
    UtsNamespace: Must, Version::new(3, 8), on [UserNamespace], layers [UtsNamespace];
    "uts-namespace"; "no influence on the host's name";
    "Use a kernel with CONFIG_UTS_NS, and allow UTS namespaces for this program.";

    /// A cgroup namespace of one's own.
    CgroupNamespace: Must, Version::new(4, 6), on [UserNamespace], layers [CgroupNamespace];
    "cgroup-namespace"; "no cgroup in sight of a worker";
    "Use a kernel with CONFIG_CGROUPS, and allow cgroup namespaces for this program.";

    /// A filter on system calls that kills.
    SeccompFilter: Must, Version::new(4, 14), on [], layers [SystemCalls];
    "seccomp"; "killing a guest for a forbidden system call";
    "Use a kernel with CONFIG_SECCOMP_FILTER.";

    /// Memory files whose size and contents can be sealed.
    Memfd: Must, Version::new(3, 17), on [], layers [WriteXorExecute, SharedWords];
    "memfd"; "guest memory and code that nobody can change behind our back";
    "Use a kernel with CONFIG_MEMFD_CREATE.";

    /// Opening such a file again, read-only, through `/proc/self/fd`.
    ProcReopen: Must, Version::new(3, 17), on [Memfd],
    layers [WriteXorExecute, SharedWords];
    "proc"; "read-only descriptors of what workers may not write";
    "Mount /proc where this program runs.";

    /// Executing such a file.
    ExecuteMemfd: Must, Version::new(3, 19), on [ProcReopen], layers [];
    "memfd-exec"; "starting the zygote, which is no file on any disk";
    "Allow executing memory files: vm.memfd_noexec at most 1, and no security policy against it.";

    /// Closing all descriptors in one call.
    CloseRange: Must, Version::new(5, 9), on [], layers [Descriptors];
    "close_range"; "workers without descriptors";
    "Use Linux 5.9 or later.";

    /// Sleeping on a word.
    Futex: Must, Version::with_patch(2, 6, 0), on [], layers [];
    "futex"; "waiting for the other side's turn";
    "Use a kernel with CONFIG_FUTEX.";

    /// Making every CPU that runs a worker pass through the kernel.
    Membarrier: Must, Version::new(4, 16), on [], layers [];
    "membarrier"; "taking the thread away from a guest before a reset";
    "Use Linux 4.16 or later with CONFIG_MEMBARRIER, and a container runtime whose seccomp profile \
     allows membarrier.";

    /// I/O ports can be given up, or it is shown that there are none.
    IoPorts: Must, Version::new(5, 4), on [Pidfd], layers [Capabilities];
    "io-ports"; "workers that reach no device";
    "Let this process give up I/O ports by iopl and ioperm, which give none without CAP_SYS_RAWIO, \
     or let it trace a child by ptrace, by which it shows that it has none.";

    /// Rules on files, network and scopes that a process gives itself.
    Landlock: Must, Version::new(5, 13), on [], layers [LandlockFiles];
    "landlock"; "denying files, network and signals a second time";
    "Use a kernel with CONFIG_SECURITY_LANDLOCK and landlock in its lsm= list.";

    /// `clone3`, which can do more than `clone`.
    Clone3: May, Version::new(5, 5), on [], layers [];
    "clone3"; "starting workers; clone does it otherwise";
    "Use Linux 5.5 or later, and a container runtime whose seccomp profile knows clone3, or leave \
     it: clone serves as well.";

    /// Rings for reading and writing.
    IoUring: May, Version::new(5, 6), on [], layers [];
    "io_uring"; "waiting for workers to end and serving guests; plain calls do it otherwise";
    "Set kernel.io_uring_disabled to 0 on a kernel with CONFIG_IO_URING, or leave it: plain calls \
     serve as well.";

    /// Page faults answered by another process, without privileges.
    Userfaultfd: May, Version::new(5, 19), on [], layers [];
    "userfaultfd"; "dynamic paging, and changes of a guest's memory map";
    "Use Linux 5.19 or later with CONFIG_USERFAULTFD, and a container runtime whose seccomp profile \
     allows userfaultfd, or leave it: memory maps are then fixed when a worker starts.";

    /// Mappings that nobody can change any more.
    Mseal: May, Version::new(6, 10), on [], layers [Mseal];
    "mseal"; "fixing the worker's own mappings";
    "Use Linux 6.10 or later.";

    /// Memory that was writable never becomes executable.
    DenyWriteExecute: May, Version::new(6, 3), on [], layers [DenyWriteExecute];
    "mdwe"; "keeping writable memory from ever being executed";
    "Use Linux 6.3 or later.";

    /// Rules on TCP sockets.
    LandlockNetwork: May, Version::new(6, 7), on [Landlock], layers [LandlockNetwork];
    "landlock-network"; "denying TCP once more";
    "Use Linux 6.7 or later.";

    /// Rules on signals and abstract sockets.
    LandlockScopes: May, Version::new(6, 12), on [Landlock], layers [LandlockScopes];
    "landlock-scopes"; "denying signals and abstract sockets once more";
    "Use Linux 6.12 or later.";

    /// Keeping loads from passing older stores.
    StoreBypass: May, Version::new(4, 17), on [], layers [StoreBypass];
    "store-bypass"; "keeping a guest's loads from reading what a store is about to replace";
    "Nothing can be done here if the CPU does not do it or the hypervisor hides it; otherwise boot \
     with spec_store_bypass_disable=prctl.";

    /// Keeping trained predictors from steering indirect branches.
    IndirectBranch: May, Version::new(4, 20), on [], layers [IndirectBranch];
    "indirect-branch"; "keeping a guest from misleading the CPU's predictors";
    "Nothing can be done here if the CPU does not do it or the hypervisor hides it; otherwise boot \
     with spectre_v2_user=prctl.";

    /// `pidfd_open` of a thread.
    PidfdThread: May, Version::new(6, 9), on [Pidfd], layers [];
    "pidfd-thread"; "seeing the thread end that started a worker, even as its process ends";
    "Use Linux 6.9 or later, or leave it: the process' own descriptor serves as well.";

    /// Keeping others off the CPU core that a process runs on.
    CoreScheduling: OnRequest, Version::new(5, 14), on [], layers [CoreScheduling];
    "core-scheduling"; "Config::core_scheduling";
    "Use a kernel with CONFIG_SCHED_CORE on a CPU with several threads a core if it is wanted.";

    /// Taking the time-stamp counter away.
    TimestampCounter: OnRequest, Version::with_patch(2, 6, 26), on [], layers [TimestampCounter];
    "timestamp-counter"; "Config::timestamp_counter(false)";
    "Leave it allowed: here nothing can take it away.";

    /// Making a process in another cgroup, by `clone3`.
    ClonesIntoCgroup: OnRequest, Version::new(5, 7), on [Clone3], layers [];
    "clone-into-cgroup"; "Config::cgroup";
    "Use Linux 5.7 or later with CONFIG_CGROUPS, and a container runtime whose seccomp profile lets \
     clone3 through, if Config::cgroup is wanted.";

    /// A control group of one's own, and a process born in it.
    Cgroup: OnRequest, Version::new(5, 7), on [ClonesIntoCgroup], layers [];
    "cgroup"; "Config::cgroup with a group that this process makes itself";
    "Have a part of the tree of cgroups of version 2 delegated to this process' user (in systemd, \
     Delegate=yes), if Config::cgroup is wanted and nobody else makes the group.";

    /// Waiting for several words at once.
    FutexWaitv: Unused, Version::new(5, 16), on [], layers [];
    "futex_waitv"; "nothing: each turn waits for one word";
    "Leave it, or use Linux 5.16 or later.";

    /// Asking which pages of a process were written, or are there.
    PagemapScan: Unused, Version::new(6, 7), on [], layers [];
    "pagemap-scan"; "nothing: write protection finds written pages";
    "Leave it, or use Linux 6.7 or later with CONFIG_PROC_PAGE_MONITOR.";

    /// Attaching to a process that is no descendant.
    Ptrace: Unused, Version::new(3, 4), on [], layers [];
    "ptrace"; "nothing: it is for a debugger that looks into a guest (for io-ports a child lets \
               itself be traced, which is less)";
    "Leave it, or let processes of one user trace each other if a guest is to be debugged.";

    /// Page faults of the kernel too, answered by another process.
    UserfaultfdKernel: Unused, Version::new(4, 3), on [], layers [];
    "userfaultfd-kernel"; "nothing: faults of user code are enough";
    "Leave it: it would take CAP_SYS_PTRACE, or the right to open /dev/userfaultfd.";
}

impl Feature {
    /// Whether this tier uses it.
    #[must_use]
    pub const fn is_for(self, tier: Tier) -> bool {
        match tier {
            Tier::WithoutNamespaces => !matches!(
                self,
                Self::UserNamespace
                    | Self::IdMaps
                    | Self::MountNamespace
                    | Self::EmptyRoot
                    | Self::PidNamespace
                    | Self::NetworkNamespace
                    | Self::IpcNamespace
                    | Self::UtsNamespace
                    | Self::CgroupNamespace
            ),
            _ => true,
        }
    }
}
