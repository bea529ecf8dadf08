//! The features that are looked for: which need, what for, since when, and what to do without.

use vmctx::Tier;

use super::version::Version;

/// Whether a sandbox can do without a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// No sandbox runs without it.
    Must,
    /// It is used where the kernel has it.
    May,
    /// It is used if the embedder asks for it.
    OnRequest,
}

impl Need {
    /// `must`, `may` or `on request`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Must => "must",
            Self::May => "may",
            Self::OnRequest => "on request",
        }
    }
}

macro_rules! features {
    ($($(#[$doc:meta])* $feature:ident, $need:ident, $since:expr;
       $name:literal; $for:literal; $advice:literal;)*) => {
        /// A feature of the kernel that Cellwall uses.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Feature { $($(#[$doc])* $feature,)* }

        impl Feature {
            /// Every feature, musts first.
            pub const ALL: &[Self] = &[$(Self::$feature,)*];

            /// Its name, for people and as a key for machines.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$feature => $name,)* }
            }

            /// The feature of this name.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$feature),)* _ => None }
            }

            /// Whether a sandbox can do without.
            #[must_use]
            pub const fn need(self) -> Need {
                match self { $(Self::$feature => Need::$need,)* }
            }

            /// What it is needed for.
            #[must_use]
            pub const fn needed_for(self) -> &'static str {
                match self { $(Self::$feature => $for,)* }
            }

            /// The first kernel that has it as we use it.
            #[must_use]
            pub const fn since(self) -> Version {
                match self { $(Self::$feature => $since,)* }
            }

            /// What it rests on: without that it need not be tried. That feature comes earlier in
            /// [`Self::ALL`].
            #[must_use]
            pub const fn rests_on(self) -> Option<Self> {
                match self {
                    Self::IdMaps
                    | Self::MountNamespace
                    | Self::PidNamespace
                    | Self::NetworkNamespace
                    | Self::IpcNamespace
                    | Self::UtsNamespace
                    | Self::CgroupNamespace => Some(Self::UserNamespace),
                    Self::EmptyRoot => Some(Self::MountNamespace),
                    Self::ProcReopen => Some(Self::Memfd),
                    Self::ExecuteMemfd => Some(Self::ProcReopen),
                    _ => None,
                }
            }

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

            /// What to do where the kernel lacks it.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$feature => $advice,)* }
            }
        }
    };
}

features! {
    /// `pidfd_open`, and waiting by such a descriptor.
    Pidfd, Must, Version::new(5, 4);
    "pidfd"; "killing and reaping workers, ending with the host";
    "Use Linux 5.4 or later.";

    /// A user namespace of one's own.
    UserNamespace, Must, Version::new(3, 8);
    "user-namespace"; "workers without privileges over anything";
    "Allow user namespaces for this program: a kernel with CONFIG_USER_NS, and no container, \
     AppArmor or SELinux policy against them.";

    /// Mapping one user and one group into it.
    IdMaps, Must, Version::new(3, 8);
    "id-maps"; "executing in the user namespace";
    "Let this program write /proc/self/uid_map: mount /proc, and run as a user that is mapped in \
     its own user namespace.";

    /// A mount namespace of one's own.
    MountNamespace, Must, Version::new(3, 8);
    "mount-namespace"; "an empty root";
    "Allow mount namespaces for this program, which containers and AppArmor can forbid.";

    /// Mounting an empty file system there and making it the root.
    EmptyRoot, Must, Version::new(5, 2);
    "empty-root"; "no file in sight of a worker";
    "Allow fsopen, fsconfig, fsmount, move_mount, pivot_root and umount2 inside a user namespace, \
     and run from a root that is a mount point of its own.";

    /// A pid namespace of one's own.
    PidNamespace, Must, Version::new(3, 8);
    "pid-namespace"; "no process in sight of a worker";
    "Use a kernel with CONFIG_PID_NS, and allow pid namespaces for this program.";

    /// A network namespace of one's own.
    NetworkNamespace, Must, Version::new(3, 8);
    "network-namespace"; "no network";
    "Use a kernel with CONFIG_NET_NS, and allow network namespaces for this program.";

    /// An IPC namespace of one's own.
    IpcNamespace, Must, Version::new(3, 8);
    "ipc-namespace"; "no System V or POSIX queue of others";
    "Use a kernel with CONFIG_IPC_NS, and allow IPC namespaces for this program.";

    /// A host-name namespace of one's own.
    UtsNamespace, Must, Version::new(3, 8);
    "uts-namespace"; "no influence on the host's name";
    "Use a kernel with CONFIG_UTS_NS, and allow UTS namespaces for this program.";

    /// A cgroup namespace of one's own.
    CgroupNamespace, Must, Version::new(4, 6);
    "cgroup-namespace"; "no cgroup in sight of a worker";
    "Use a kernel with CONFIG_CGROUPS, and allow cgroup namespaces for this program.";

    /// A filter on system calls that kills.
    SeccompFilter, Must, Version::new(4, 14);
    "seccomp"; "killing a guest for a forbidden system call";
    "Use a kernel with CONFIG_SECCOMP_FILTER.";

    /// Memory files whose size and contents can be sealed.
    Memfd, Must, Version::new(3, 17);
    "memfd"; "guest memory and code that nobody can change behind our back";
    "Use a kernel with CONFIG_MEMFD_CREATE.";

    /// Opening such a file again, read-only, through `/proc/self/fd`.
    ProcReopen, Must, Version::with_patch(2, 6, 39);
    "proc"; "read-only descriptors of what workers may not write";
    "Mount /proc where this program runs.";

    /// Executing such a file.
    ExecuteMemfd, Must, Version::new(3, 19);
    "memfd-exec"; "starting the zygote, which is no file on any disk";
    "Allow executing memory files: vm.memfd_noexec at most 1, and no security policy against it.";

    /// Closing all descriptors in one call.
    CloseRange, Must, Version::new(5, 9);
    "close_range"; "workers without descriptors";
    "Use Linux 5.9 or later.";

    /// Sleeping on a word.
    Futex, Must, Version::with_patch(2, 6, 0);
    "futex"; "waiting for the other side's turn";
    "Use a kernel with CONFIG_FUTEX.";

    /// Making every CPU that runs a worker pass through the kernel.
    Membarrier, Must, Version::new(4, 16);
    "membarrier"; "taking the thread away from a guest before a reset";
    "Use Linux 4.16 or later with CONFIG_MEMBARRIER, and a container runtime whose seccomp profile \
     allows membarrier.";

    /// Rules on files, network and scopes that a process gives itself.
    Landlock, Must, Version::new(5, 13);
    "landlock"; "denying files, network and signals a second time";
    "Use a kernel with CONFIG_SECURITY_LANDLOCK and landlock in its lsm= list.";

    /// `clone3`, which can do more than `clone`.
    Clone3, May, Version::new(5, 5);
    "clone3"; "starting workers; clone does it otherwise";
    "Use Linux 5.5 or later, and a container runtime whose seccomp profile knows clone3, or leave \
     it: clone serves as well.";

    /// Rings for reading and writing.
    IoUring, May, Version::new(5, 6);
    "io_uring"; "waiting for workers to end and serving guests; plain calls do it otherwise";
    "Set kernel.io_uring_disabled to 0 on a kernel with CONFIG_IO_URING, or leave it: plain calls \
     serve as well.";

    /// Page faults answered by another process, without privileges.
    Userfaultfd, May, Version::new(5, 19);
    "userfaultfd"; "dynamic paging, and changes of a guest's memory map";
    "Use Linux 5.19 or later with CONFIG_USERFAULTFD, and a container runtime whose seccomp profile \
     allows userfaultfd, or leave it: memory maps are then fixed when a worker starts.";

    /// Mappings that nobody can change any more.
    Mseal, May, Version::new(6, 10);
    "mseal"; "fixing the worker's own mappings";
    "Use Linux 6.10 or later.";

    /// Memory that was writable never becomes executable.
    DenyWriteExecute, May, Version::new(6, 3);
    "mdwe"; "keeping writable memory from ever being executed";
    "Use Linux 6.3 or later.";

    /// Turning kinds of speculation off for a process.
    Speculation, May, Version::new(4, 17);
    "speculation"; "keeping a guest from misleading the CPU's predictors";
    "Nothing can be done here if the CPU needs none or the hypervisor hides it; otherwise boot \
     with spec_store_bypass_disable=prctl and spectre_v2_user=prctl.";

    /// Keeping others off the CPU core that a process runs on.
    CoreScheduling, OnRequest, Version::new(5, 14);
    "core-scheduling"; "Config::core_scheduling";
    "Use a kernel with CONFIG_SCHED_CORE on a CPU with several threads a core if it is wanted.";
}
