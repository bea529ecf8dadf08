//! Who is to blame for a trial that failed: a sysctl, a filter around us, or the kernel itself.

use std::fs;

use linux_raw::Errno;

use super::attempt::Failure;
use super::table::Feature;
use super::version::Version;
use super::{Finding, Obstacle, Support};

/// What around this process can forbid things.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// The kernel's version, where its release tells.
    version: Option<Version>,
    /// Whether a seccomp filter is in force.
    filtered: bool,
    /// Those of [`SYSCTLS`] that exist, with their values.
    sysctls: Vec<(&'static str, String)>,
}

/// A sysctl that makes a feature fail in its own way.
struct Sysctl {
    name: &'static str,
    features: &'static [Feature],
    errnos: &'static [Errno],
    /// Whether it forbids at this value.
    forbids: fn(i64) -> bool,
    /// What to set it to.
    wanted: &'static str,
}

const NAMESPACES: &[Feature] = &[
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
        forbids: |_| true,
        wanted: "a larger number",
    }
}

/// Every sysctl that we know to forbid something.
const SYSCTLS: [Sysctl; 13] = [
    Sysctl {
        name: "kernel.io_uring_disabled",
        features: &[Feature::IoUring],
        errnos: &[Errno::EPERM],
        forbids: |value| value != 0,
        wanted: "0",
    },
    Sysctl {
        name: "vm.memfd_noexec",
        features: &[Feature::ExecuteMemfd],
        errnos: &[Errno::EACCES],
        forbids: |value| value >= 2,
        wanted: "0 or 1",
    },
    // Debian's and Ubuntu's own.
    Sysctl {
        name: "kernel.unprivileged_userns_clone",
        features: NAMESPACES,
        errnos: &[Errno::EPERM],
        forbids: |value| value == 0,
        wanted: "1",
    },
    // Ubuntu's: the namespace can be made, and is worth nothing inside.
    Sysctl {
        name: "kernel.apparmor_restrict_unprivileged_userns",
        features: NAMESPACES,
        errnos: &[Errno::EPERM, Errno::EACCES],
        forbids: |value| value != 0,
        wanted: "0",
    },
    // At 3 it stays so until the next boot.
    Sysctl {
        name: "kernel.yama.ptrace_scope",
        features: &[Feature::Ptrace],
        errnos: &[Errno::EPERM],
        forbids: |value| value != 0,
        wanted: "0",
    },
    Sysctl {
        name: "vm.unprivileged_userfaultfd",
        features: &[Feature::UserfaultfdKernel],
        errnos: &[Errno::EPERM],
        forbids: |value| value == 0,
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

impl Surroundings {
    /// Reads `/proc`, as far as it is there.
    pub(super) fn look(release: &str) -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let seccomp = status
            .lines()
            .find_map(|line| line.strip_prefix("Seccomp:"));
        let sysctls = SYSCTLS.iter().filter_map(|sysctl| {
            let path = format!("/proc/sys/{}", sysctl.name.replace('.', "/"));
            Some((
                sysctl.name,
                fs::read_to_string(path).ok()?.trim().to_owned(),
            ))
        });
        Self {
            version: Version::of_release(release),
            filtered: seccomp.is_some_and(|mode| mode.trim() != "0"),
            sysctls: sysctls.collect(),
        }
    }

    /// What a trial's result means.
    pub(super) fn judge(&self, feature: Feature, result: Result<Option<u64>, Failure>) -> Finding {
        let (support, value) = match result {
            Ok(value) => (Support::Present, value),
            Err(failure) => (self.reason(feature, failure), None),
        };
        Finding {
            feature,
            support,
            value,
        }
    }

    fn reason(&self, feature: Feature, failure: Failure) -> Support {
        let obstacle = match failure {
            Failure::Refused(errno) => match self.forbidding(feature, errno) {
                Some(obstacle) => obstacle,
                None => return Support::Absent(errno),
            },
            Failure::Killed(signal) => Obstacle::Killed(signal),
            Failure::TimedOut => Obstacle::TimedOut,
        };
        Support::Forbidden(obstacle)
    }

    fn forbidding(&self, feature: Feature, errno: Errno) -> Option<Obstacle> {
        let sysctl = SYSCTLS.iter().find_map(|sysctl| {
            let (_, value) = self.sysctls.iter().find(|(name, _)| *name == sysctl.name)?;
            let fits = sysctl.features.contains(&feature) && sysctl.errnos.contains(&errno);
            let forbids = fits && (sysctl.forbids)(value.parse().ok()?);
            forbids.then(|| Obstacle::Sysctl {
                name: sysctl.name,
                value: value.clone(),
                wanted: sysctl.wanted,
            })
        });
        sysctl.or_else(|| {
            self.is_filters_work(feature, errno)
                .then_some(Obstacle::Filter(errno))
        })
    }

    /// Filters answer EPERM, or play an old kernel with ENOSYS: then the version gives them away.
    fn is_filters_work(&self, feature: Feature, errno: Errno) -> bool {
        // Where a process has no say in it, that is how the trial puts it: no call has failed.
        if matches!(feature, Feature::StoreBypass | Feature::IndirectBranch) {
            return false;
        }
        let new_enough = self
            .version
            .is_some_and(|version| version >= feature.since());
        self.filtered && (errno == Errno::EPERM || errno == Errno::ENOSYS && new_enough)
    }
}

#[cfg(test)]
mod tests {
    use linux_raw::Errno;
    use linux_raw::signal::Signal;

    use super::{Obstacle, Support, Surroundings};
    use crate::probe::attempt::Failure;
    use crate::probe::{Feature, Version};

    fn around(filtered: bool, sysctls: &[(&'static str, &str)]) -> Surroundings {
        Surroundings {
            version: Some(Version::new(6, 1)),
            filtered,
            sysctls: sysctls
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
        }
    }

    fn support(around: &Surroundings, feature: Feature, errno: Errno) -> Support {
        around.judge(feature, Err(Failure::Refused(errno))).support
    }

    #[test]
    fn sysctls_are_named_where_they_forbid() {
        let ring = |value| around(false, &[("kernel.io_uring_disabled", value)]);
        let forbidden = support(&ring("2"), Feature::IoUring, Errno::EPERM);
        assert_eq!(
            forbidden.to_string(),
            "forbidden: kernel.io_uring_disabled=2"
        );
        let absent = Support::Absent(Errno::EPERM);
        assert_eq!(support(&ring("0"), Feature::IoUring, Errno::EPERM), absent);
        assert_eq!(support(&ring("2"), Feature::Landlock, Errno::EPERM), absent);
        let none = support(&ring("2"), Feature::IoUring, Errno::ENOSYS);
        assert_eq!(none, Support::Absent(Errno::ENOSYS));
    }

    #[test]
    fn each_namespace_has_a_limit_of_its_own() {
        let limits = around(
            false,
            &[
                ("user.max_user_namespaces", "9"),
                ("user.max_net_namespaces", "0"),
            ],
        );
        let net = support(&limits, Feature::NetworkNamespace, Errno::ENOSPC);
        assert_eq!(net.to_string(), "forbidden: user.max_net_namespaces=0");
        let user = support(&limits, Feature::UserNamespace, Errno::ENOSPC);
        assert_eq!(user.to_string(), "forbidden: user.max_user_namespaces=9");
    }

    #[test]
    fn a_filter_is_blamed_for_what_the_kernel_should_have() {
        let docker = around(true, &[]);
        let filter = |errno| Support::Forbidden(Obstacle::Filter(errno));
        assert_eq!(
            support(&docker, Feature::Clone3, Errno::ENOSYS),
            filter(Errno::ENOSYS)
        );
        assert_eq!(
            support(&docker, Feature::UserNamespace, Errno::EPERM),
            filter(Errno::EPERM)
        );
        // 6.1 has no mseal: that is the kernel's age.
        let absent = Support::Absent(Errno::ENOSYS);
        assert_eq!(support(&docker, Feature::Mseal, Errno::ENOSYS), absent);
        assert_eq!(
            support(&around(false, &[]), Feature::Clone3, Errno::ENOSYS),
            absent
        );
    }

    #[test]
    fn a_killed_trial_says_so() {
        let killed = around(true, &[]).judge(Feature::Futex, Err(Failure::Killed(Signal::SYS)));
        assert_eq!(
            killed.support.to_string(),
            "forbidden: a seccomp filter kills for it"
        );
    }
}
