//! The system calls that a filter has to let through for a feature.

use super::table::Feature;

/// What an empty root takes once there is a mount namespace.
macro_rules! mounting {
    () => {
        "fsopen, fsconfig, fsmount, move_mount, fchdir, pivot_root and umount2"
    };
}

impl Feature {
    /// As a profile names them: what comes next is told at once, or the operator allows one call
    /// only to hear of the next.
    pub(super) const fn calls(self) -> &'static str {
        match self {
            Self::UserNamespace
            | Self::MountNamespace
            | Self::PidNamespace
            | Self::NetworkNamespace
            | Self::IpcNamespace
            | Self::UtsNamespace
            | Self::CgroupNamespace => concat!("clone with the flags CLONE_NEW*, ", mounting!()),
            Self::EmptyRoot => mounting!(),
            Self::IdMaps | Self::ProcReopen => "openat and write",
            Self::Pidfd => "pidfd_open, pidfd_send_signal and waitid",
            Self::SeccompFilter => "seccomp and prctl",
            Self::Memfd => "memfd_create and fcntl",
            Self::ExecuteMemfd => "execveat",
            Self::CloseRange => "close_range",
            Self::Futex => "futex",
            Self::IoPorts => "iopl and ioperm, or ptrace",
            Self::Membarrier => "membarrier",
            Self::Landlock | Self::LandlockNetwork | Self::LandlockScopes => {
                "landlock_create_ruleset, landlock_restrict_self and prctl"
            }
            Self::Clone3 | Self::ClonesIntoCgroup => "clone3",
            Self::IoUring => "io_uring_setup, io_uring_enter, io_uring_register and madvise",
            Self::Userfaultfd | Self::UserfaultfdKernel => "userfaultfd and ioctl",
            Self::Mseal => "mseal",
            Self::DenyWriteExecute
            | Self::StoreBypass
            | Self::IndirectBranch
            | Self::CoreScheduling
            | Self::TimestampCounter => "prctl",
            Self::PidfdThread => "pidfd_open",
            Self::Cgroup => "clone3, mkdir and rmdir",
            Self::FutexWaitv => "futex_waitv",
            Self::PagemapScan => "ioctl",
            Self::Ptrace => "ptrace",
        }
    }
}
