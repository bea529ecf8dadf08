//! Who is to blame for a trial that failed: a limit, a sysctl, a filter or a policy around us, or
//! the kernel itself.

#[cfg(test)]
mod tests;

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
            Err(Failure::Untried(errno)) => self.untried(feature, errno),
            Err(Failure::TimedOut) => {
                self.finding(feature, Support::Forbidden(Obstacle::TimedOut), None)
            }
        }
    }

    /// What it means that there was no process to try it in.
    fn untried(&self, feature: Feature, errno: Errno) -> Finding {
        let has_no_pidfd = errno == Errno::ENOSYS && !self.should_have(Feature::Pidfd);
        match feature {
            Feature::Pidfd if has_no_pidfd => self.finding(feature, Support::Absent(errno), None),
            // Each trial's process is waited for by its descriptor.
            _ if has_no_pidfd => self.lacking(feature, Feature::Pidfd),
            _ => self.finding(
                feature,
                Support::Forbidden(Obstacle::NoProcess(errno)),
                None,
            ),
        }
    }

    /// Whether the kernel's version says that the feature is there.
    fn should_have(&self, feature: Feature) -> bool {
        self.version
            .is_some_and(|version| version >= feature.since())
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
            Errno::ENOSYS => self.should_have(feature),
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
