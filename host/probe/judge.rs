//! Who is to blame for a trial that failed: a limit, a sysctl, a filter or a policy around us, or
//! the kernel itself.

use linux_raw::Errno;

use super::attempt::{Failure, Found};
use super::surroundings::Surroundings;
use super::sysctl::{self, NAMESPACES, Sysctl};
use super::table::Feature;
use super::version::Version;
use super::{Finding, Obstacle, Support};

/// What is known to judge by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Judge {
    /// The kernel's version, where its release tells.
    version: Option<Version>,
    around: Surroundings,
    /// The sysctls that exist of those that can forbid something, with their values.
    sysctls: Vec<(&'static Sysctl, String)>,
}

impl Judge {
    /// Reads what more there is to know.
    pub(super) fn new(release: &str, around: Surroundings) -> Self {
        Self {
            version: Version::of_release(release),
            around,
            sysctls: sysctl::read_all(),
        }
    }

    pub(super) fn surroundings(self) -> Surroundings {
        self.around
    }

    /// What it means that a feature was not tried.
    pub(super) fn lacking(&self, feature: Feature, base: Feature) -> Finding {
        self.finding(feature, Support::Forbidden(Obstacle::Lacks(base)), None)
    }

    /// What a trial's result means.
    pub(super) fn judge(&self, feature: Feature, result: Found) -> Finding {
        match result {
            Ok(value) => self.finding(feature, Support::Present, value),
            Err(Failure::Lacking(errno, value)) => {
                let support = self.refused(feature, errno);
                self.finding(feature, support, Some(value))
            }
            Err(Failure::Refused(errno)) => {
                let support = self.refused(feature, errno);
                self.finding(feature, support, None)
            }
            Err(Failure::Killed(signal)) => {
                self.finding(feature, Support::Forbidden(Obstacle::Killed(signal)), None)
            }
            Err(Failure::Untried(errno)) => self.finding(
                feature,
                Support::Forbidden(Obstacle::NoProcess(errno)),
                None,
            ),
            Err(Failure::TimedOut) => {
                self.finding(feature, Support::Forbidden(Obstacle::TimedOut), None)
            }
        }
    }

    fn finding(&self, feature: Feature, support: Support, value: Option<u64>) -> Finding {
        Finding {
            feature,
            support,
            value,
            manager: self.around.manager,
        }
    }

    /// Who has refused: what is surest first.
    fn refused(&self, feature: Feature, errno: Errno) -> Support {
        let obstacle = self
            .limit(feature, errno)
            .or_else(|| self.standing(feature, errno))
            .or_else(|| self.sysctl(feature, errno))
            .or_else(|| self.filter(feature, errno))
            .or_else(|| self.confinement(feature, errno));
        obstacle.map_or(Support::Absent(errno), Support::Forbidden)
    }

    /// The limit that this errno is about. `EAGAIN` is not told: `RLIMIT_NPROC`, or a cgroup's.
    fn limit(&self, feature: Feature, errno: Errno) -> Option<Obstacle> {
        let name = match errno {
            Errno::EMFILE => "RLIMIT_NOFILE",
            Errno::EFBIG => "RLIMIT_FSIZE",
            // Registered buffers are locked memory, and before Linux 5.12 rings are.
            Errno::ENOMEM if feature == Feature::IoUring => "RLIMIT_MEMLOCK",
            Errno::ENOMEM => "RLIMIT_AS",
            _ => return None,
        };
        let value = self.around.limit(name)?;
        Some(Obstacle::Limit { name, value, errno })
    }

    fn sysctl(&self, feature: Feature, errno: Errno) -> Option<Obstacle> {
        let confined = self.around.confining().is_some();
        let (sysctl, value) = sysctl::blamed(&self.sysctls, feature, errno, confined)?;
        Some(Obstacle::Sysctl {
            name: sysctl.name,
            value: value.clone(),
            wanted: sysctl.wanted,
        })
    }

    /// What this process itself is. `user_namespaces(7)`: `EPERM` for a caller in a chroot;
    /// `proc_pid(5)`: files of a process that is not dumpable are root's.
    fn standing(&self, feature: Feature, errno: Errno) -> Option<Obstacle> {
        match (feature, errno) {
            (Feature::UserNamespace, Errno::EPERM) if self.around.in_chroot => {
                Some(Obstacle::Chroot)
            }
            (Feature::IdMaps, Errno::EACCES) if self.around.dumpable == Some(false) => {
                Some(Obstacle::NotDumpable)
            }
            _ => None,
        }
    }

    /// Filters answer EPERM, or play an old kernel with ENOSYS: then the version gives them away.
    fn filter(&self, feature: Feature, errno: Errno) -> Option<Obstacle> {
        // Where a process has no say in it, that is how the trial puts it: no call has failed.
        if matches!(feature, Feature::StoreBypass | Feature::IndirectBranch) {
            return None;
        }
        let is_its_way = match errno {
            Errno::EPERM => true,
            Errno::ENOSYS => self
                .version
                .is_some_and(|version| version >= feature.since()),
            _ => false,
        };
        (self.around.seccomp_filters > 0 && is_its_way).then_some(Obstacle::Filter(errno))
    }

    /// What security modules have a say in, and how they answer.
    fn confinement(&self, feature: Feature, errno: Errno) -> Option<Obstacle> {
        let is_mediated = NAMESPACES.contains(&feature)
            || matches!(
                feature,
                Feature::ExecuteMemfd
                    | Feature::IoUring
                    | Feature::Userfaultfd
                    | Feature::UserfaultfdKernel
                    | Feature::Ptrace
            );
        let (module, label) = self.around.confining()?;
        (is_mediated && matches!(errno, Errno::EACCES | Errno::EPERM)).then(|| Obstacle::Confined {
            module,
            label: label.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use linux_raw::Errno;
    use linux_raw::signal::Signal;

    use super::{Judge, Obstacle, Support};
    use crate::probe::attempt::Failure;
    use crate::probe::{Feature, Surroundings, Version, sysctl};

    fn around(filtered: bool, sysctls: &[(&'static str, &str)]) -> Judge {
        let known = |(name, value): &(&'static str, &str)| -> Vec<_> {
            let known = sysctl::named(name).map(|sysctl| (sysctl, (*value).to_owned()));
            known.collect()
        };
        Judge {
            version: Some(Version::new(6, 1)),
            around: Surroundings {
                seccomp_filters: u32::from(filtered),
                ..Surroundings::default()
            },
            sysctls: sysctls.iter().flat_map(known).collect(),
        }
    }

    fn amid(around: Surroundings) -> Judge {
        Judge {
            version: Some(Version::new(5, 10)),
            around,
            sysctls: Vec::new(),
        }
    }

    fn support(judge: &Judge, feature: Feature, errno: Errno) -> Support {
        judge.judge(feature, Err(Failure::Refused(errno))).support
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
    fn of_several_limits_the_smallest_is_blamed() {
        let limits = |mounts| {
            around(
                false,
                &[
                    ("user.max_mnt_namespaces", "96365"),
                    ("fs.mount-max", mounts),
                    ("user.max_user_namespaces", "2147483647"),
                ],
            )
        };
        let root = |mounts| support(&limits(mounts), Feature::EmptyRoot, Errno::ENOSPC).to_string();
        assert_eq!(root("40"), "forbidden: fs.mount-max=40");
        assert_eq!(root("100000"), "forbidden: user.max_mnt_namespaces=96365");
        let few = around(
            false,
            &[
                ("user.max_net_namespaces", "96365"),
                ("user.max_user_namespaces", "1"),
            ],
        );
        let net = support(&few, Feature::NetworkNamespace, Errno::ENOSPC);
        assert_eq!(net.to_string(), "forbidden: user.max_user_namespaces=1");
    }

    #[test]
    fn what_was_not_tried_is_not_absent() {
        let untried = Err(Failure::Untried(Errno::EAGAIN));
        let found = around(false, &[]).judge(Feature::Mseal, untried);
        assert_eq!(
            found.support,
            Support::Forbidden(Obstacle::NoProcess(Errno::EAGAIN))
        );
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

    #[test]
    fn no_filter_is_blamed_for_what_a_process_has_no_say_in() {
        let absent = Support::Absent(Errno::EPERM);
        let filtered = around(true, &[]);
        assert_eq!(
            support(&filtered, Feature::StoreBypass, Errno::EPERM),
            absent
        );
    }

    #[test]
    fn a_chroot_has_no_user_namespaces() {
        let chroot = amid(Surroundings {
            in_chroot: true,
            seccomp_filters: 1,
            ..Surroundings::default()
        });
        let found = support(&chroot, Feature::UserNamespace, Errno::EPERM);
        assert_eq!(found, Support::Forbidden(Obstacle::Chroot));
        let filter = Support::Forbidden(Obstacle::Filter(Errno::EPERM));
        assert_eq!(support(&chroot, Feature::IoUring, Errno::EPERM), filter);
    }

    /// Ubuntu has it at 1. It is not to blame for the `EPERM` of a filter or a chroot, nor for what
    /// a profile forbids: it is about processes that have none.
    #[test]
    fn apparmors_sysctl_is_blamed_for_its_own_refusals() {
        let name = "kernel.apparmor_restrict_unprivileged_userns";
        let mut ubuntu = around(false, &[(name, "1")]);
        let sysctl = format!("forbidden: {name}=1");
        let found = |judge: &Judge, feature, errno| support(judge, feature, errno).to_string();
        let user = Feature::UserNamespace;
        assert_eq!(found(&ubuntu, user, Errno::EACCES), sysctl);
        assert_eq!(found(&ubuntu, Feature::IdMaps, Errno::EPERM), sysctl);
        let root = Feature::EmptyRoot;
        assert_eq!(found(&ubuntu, root, Errno::EACCES), sysctl);
        ubuntu.around.dumpable = Some(false);
        let process = "forbidden: this process, which is not dumpable";
        assert_eq!(found(&ubuntu, Feature::IdMaps, Errno::EACCES), process);
        assert_eq!(found(&ubuntu, user, Errno::EACCES), sysctl);
        ubuntu.around.seccomp_filters = 1;
        let filter = "forbidden: a seccomp filter answers EPERM (1)";
        assert_eq!(found(&ubuntu, user, Errno::EPERM), filter);
        ubuntu.around.label = Some("mine (enforce)".into());
        let profile = "forbidden: AppArmor, as mine (enforce)";
        assert_eq!(found(&ubuntu, user, Errno::EACCES), profile);
        ubuntu.around.in_chroot = true;
        assert_eq!(found(&ubuntu, user, Errno::EPERM), "forbidden: a chroot");
        // Debian's answers EPERM too, and would do so after the chroot is gone: one by one.
        let mut debian = around(false, &[("kernel.unprivileged_userns_clone", "0")]);
        debian.around.in_chroot = true;
        assert_eq!(found(&debian, user, Errno::EPERM), "forbidden: a chroot");
    }

    #[test]
    fn a_policy_is_blamed_for_what_it_decides() {
        let confined = amid(Surroundings {
            label: Some("docker-default (enforce)".into()),
            ..Surroundings::default()
        });
        let found = support(&confined, Feature::EmptyRoot, Errno::EACCES);
        assert_eq!(
            found.to_string(),
            "forbidden: AppArmor, as docker-default (enforce)"
        );
        let absent = Support::Absent(Errno::EACCES);
        assert_eq!(support(&confined, Feature::Cgroup, Errno::EACCES), absent);
        let old = Support::Absent(Errno::EINVAL);
        assert_eq!(support(&confined, Feature::EmptyRoot, Errno::EINVAL), old);
    }

    #[test]
    fn limits_are_named_where_the_errno_tells() {
        let cramped = amid(Surroundings {
            limits: vec![("RLIMIT_NOFILE", 4), ("RLIMIT_MEMLOCK", 8192)],
            ..Surroundings::default()
        });
        let found = |feature, errno| support(&cramped, feature, errno).to_string();
        assert_eq!(
            found(Feature::Memfd, Errno::EMFILE),
            "forbidden: RLIMIT_NOFILE=4"
        );
        assert_eq!(
            found(Feature::IoUring, Errno::ENOMEM),
            "forbidden: RLIMIT_MEMLOCK=8192"
        );
        assert_eq!(found(Feature::Memfd, Errno::ENOMEM), "absent: ENOMEM (12)");
        assert_eq!(
            found(Feature::UserNamespace, Errno::EAGAIN),
            "absent: EAGAIN (11)"
        );
    }

    #[test]
    fn what_is_there_in_part_says_what_is_missing() {
        let old = around(false, &[]);
        let lacking = Err(Failure::Lacking(Errno::EINVAL, 0b1));
        let found = old.judge(Feature::Userfaultfd, lacking);
        assert_eq!(found.support, Support::Absent(Errno::EINVAL));
        assert_eq!(found.value, Some(1));
    }
}
