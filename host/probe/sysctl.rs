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
    /// Whether it leaves alone whom a security module confines.
    is_for_unconfined: bool,
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

/// What takes powers inside of a user namespace.
const INSIDE: &[Feature] = match NAMESPACES.split_first() {
    Some((Feature::UserNamespace, inside)) => inside,
    _ => panic!("the user namespace comes first"),
};

/// A limit on namespaces: any value may have been reached, and that is all that ENOSPC means.
const fn limit(name: &'static str, features: &'static [Feature]) -> Sysctl {
    Sysctl {
        name,
        features,
        errnos: &[Errno::ENOSPC, Errno::EUSERS],
        at: Values::Any,
        is_for_unconfined: false,
        wanted: "a larger number",
    }
}

/// Of a user namespace that is worth nothing.
const APPARMOR: Sysctl = Sysctl {
    name: "kernel.apparmor_restrict_unprivileged_userns",
    features: INSIDE,
    errnos: &[Errno::EPERM, Errno::EACCES],
    at: Values::From(1),
    is_for_unconfined: true,
    wanted: "0",
};

/// Every sysctl that we know to forbid something.
static SYSCTLS: [Sysctl; 15] = [
    Sysctl {
        name: "kernel.io_uring_disabled",
        features: &[Feature::IoUring],
        errnos: &[Errno::EPERM],
        at: Values::From(1),
        is_for_unconfined: false,
        wanted: "0",
    },
    Sysctl {
        name: "vm.memfd_noexec",
        features: &[Feature::ExecuteMemfd],
        errnos: &[Errno::EACCES],
        at: Values::From(2),
        is_for_unconfined: false,
        wanted: "0 or 1",
    },
    // Debian's and Ubuntu's own.
    Sysctl {
        name: "kernel.unprivileged_userns_clone",
        features: NAMESPACES,
        errnos: &[Errno::EPERM],
        at: Values::Zero,
        is_for_unconfined: false,
        wanted: "1",
    },
    // Ubuntu's: the namespace cannot be made, or it can be and is worth nothing inside.
    Sysctl {
        features: &[Feature::UserNamespace],
        errnos: &[Errno::EACCES],
        ..APPARMOR
    },
    APPARMOR,
    // At 3 it stays so until the next boot.
    Sysctl {
        name: "kernel.yama.ptrace_scope",
        features: &[Feature::Ptrace],
        errnos: &[Errno::EPERM],
        at: Values::From(1),
        is_for_unconfined: false,
        wanted: "0",
    },
    Sysctl {
        name: "vm.unprivileged_userfaultfd",
        features: &[Feature::UserfaultfdKernel],
        errnos: &[Errno::EPERM],
        at: Values::Zero,
        is_for_unconfined: false,
        wanted: "1",
    },
    // The file system that is to be the root is mounted in a namespace of its own before it moves.
    limit(
        "user.max_mnt_namespaces",
        &[Feature::MountNamespace, Feature::EmptyRoot],
    ),
    limit("fs.mount-max", &[Feature::EmptyRoot]),
    limit("user.max_pid_namespaces", &[Feature::PidNamespace]),
    limit("user.max_net_namespaces", &[Feature::NetworkNamespace]),
    limit("user.max_ipc_namespaces", &[Feature::IpcNamespace]),
    limit("user.max_uts_namespaces", &[Feature::UtsNamespace]),
    limit("user.max_cgroup_namespaces", &[Feature::CgroupNamespace]),
    // The trial of each makes one.
    limit("user.max_user_namespaces", NAMESPACES),
];

impl Sysctl {
    /// Whether it has made the trial of a feature fail with this errno.
    fn forbids(&self, feature: Feature, errno: Errno, value: &str) -> bool {
        let fits = self.features.contains(&feature) && self.errnos.contains(&errno);
        fits && value.parse().is_ok_and(|value| self.at.contain(value))
    }
}

/// The sysctl that has made the trial of a process fail that a security module confines, or not.
/// Of several limits the smallest is most likely reached.
pub(super) fn blamed<'a>(
    known: &'a [(&'static Sysctl, String)],
    feature: Feature,
    errno: Errno,
    confined: bool,
) -> Option<&'a (&'static Sysctl, String)> {
    let forbid = known.iter().filter(|(sysctl, value)| {
        sysctl.forbids(feature, errno, value) && !(confined && sysctl.is_for_unconfined)
    });
    forbid.min_by_key(|(sysctl, value)| match sysctl.at {
        Values::Any => value.parse().unwrap_or(i64::MAX),
        Values::Zero | Values::From(_) => 0,
    })
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

/// What is known of the sysctl of this name.
#[cfg(test)]
pub(super) fn named(name: &str) -> impl Iterator<Item = &'static Sysctl> {
    SYSCTLS.iter().filter(move |sysctl| sysctl.name == name)
}
