//! The sysctls that forbid something.

use std::fs;

use linux_raw::Errno;

use super::table::Feature;

/// The values at which a sysctl forbids.
#[derive(Debug, PartialEq, Eq)]
enum Values {
    Any,
    Zero,
    /// This one and larger ones.
    From(i64),
}

impl Values {
    fn contain(&self, value: i64) -> bool {
        match self {
            Self::Any => true,
            Self::Zero => value == 0,
            Self::From(least) => value >= *least,
        }
    }
}

/// A sysctl that makes a feature fail in its own way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sysctl {
    pub(super) name: &'static str,
    features: &'static [Feature],
    errnos: &'static [Errno],
    /// Where it forbids.
    at: Values,
    /// What to set it to.
    pub(super) wanted: &'static str,
}

/// What namespaces are about.
pub(super) const NAMESPACES: &[Feature] = &[
    Feature::UserNamespace,
    Feature::IdMaps,
    Feature::MountNamespace,
    Feature::EmptyRoot,
    Feature::PidNamespace,
    Feature::NetworkNamespace,
    Feature::IpcNamespace,
    Feature::UtsNamespace,
    Feature::CgroupNamespace,
];

/// A limit on namespaces: any value may have been reached, and that is all that ENOSPC means.
const fn limit(name: &'static str, features: &'static [Feature]) -> Sysctl {
    Sysctl {
        name,
        features,
        errnos: &[Errno::ENOSPC, Errno::EUSERS],
        at: Values::Any,
        wanted: "a larger number",
    }
}

/// Every sysctl that we know to forbid something.
static SYSCTLS: [Sysctl; 13] = [
    Sysctl {
        name: "kernel.io_uring_disabled",
        features: &[Feature::IoUring],
        errnos: &[Errno::EPERM],
        at: Values::From(1),
        wanted: "0",
    },
    Sysctl {
        name: "vm.memfd_noexec",
        features: &[Feature::ExecuteMemfd],
        errnos: &[Errno::EACCES],
        at: Values::From(2),
        wanted: "0 or 1",
    },
    // Debian's and Ubuntu's own.
    Sysctl {
        name: "kernel.unprivileged_userns_clone",
        features: NAMESPACES,
        errnos: &[Errno::EPERM],
        at: Values::Zero,
        wanted: "1",
    },
    // Ubuntu's: the namespace can be made, and is worth nothing inside.
    Sysctl {
        name: "kernel.apparmor_restrict_unprivileged_userns",
        features: NAMESPACES,
        errnos: &[Errno::EPERM, Errno::EACCES],
        at: Values::From(1),
        wanted: "0",
    },
    // At 3 it stays so until the next boot.
    Sysctl {
        name: "kernel.yama.ptrace_scope",
        features: &[Feature::Ptrace],
        errnos: &[Errno::EPERM],
        at: Values::From(1),
        wanted: "0",
    },
    Sysctl {
        name: "vm.unprivileged_userfaultfd",
        features: &[Feature::UserfaultfdKernel],
        errnos: &[Errno::EPERM],
        at: Values::Zero,
        wanted: "1",
    },
    limit(
        "user.max_mnt_namespaces",
        &[Feature::MountNamespace, Feature::EmptyRoot],
    ),
    limit("user.max_pid_namespaces", &[Feature::PidNamespace]),
    limit("user.max_net_namespaces", &[Feature::NetworkNamespace]),
    limit("user.max_ipc_namespaces", &[Feature::IpcNamespace]),
    limit("user.max_uts_namespaces", &[Feature::UtsNamespace]),
    limit("user.max_cgroup_namespaces", &[Feature::CgroupNamespace]),
    limit("user.max_user_namespaces", &[Feature::UserNamespace]),
];

impl Sysctl {
    /// Whether it has made the trial of a feature fail with this errno.
    pub(super) fn forbids(&self, feature: Feature, errno: Errno, value: &str) -> bool {
        let fits = self.features.contains(&feature) && self.errnos.contains(&errno);
        fits && value.parse().is_ok_and(|value| self.at.contain(value))
    }
}

/// Those that exist, with their values.
pub(super) fn read_all() -> Vec<(&'static Sysctl, String)> {
    let read = |sysctl: &'static Sysctl| {
        let path = format!("/proc/sys/{}", sysctl.name.replace('.', "/"));
        let value = fs::read_to_string(path).ok()?;
        Some((sysctl, value.trim().to_owned()))
    };
    SYSCTLS.iter().filter_map(read).collect()
}

/// The sysctl of this name.
#[cfg(test)]
pub(super) fn named(name: &str) -> Option<&'static Sysctl> {
    SYSCTLS.iter().find(|sysctl| sysctl.name == name)
}
