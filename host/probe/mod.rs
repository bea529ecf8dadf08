//! What this kernel offers: found by trying, never by its version.
//!
//! Each trial runs in a child process, so that none has an effect on this one, and a filter that
//! kills for a call kills only the child. [`Engine::new`](crate::Engine::new) does not wait for
//! any of this: it learns from its own steps. The full trial is for operators, tests and the
//! explanation of a start that failed.
//!
//! | file | idea |
//! |---|---|
//! | `table`, `feature` | what is looked for: need, reason, first kernel, layers, advice |
//! | `trials` | how each is tried |
//! | `attempt`, `child` | running a trial in a process of its own |
//! | `detail` | what a trial says beyond success |
//! | `judge` | who is to blame for a failed one |
//! | `raw` | calls that have no wrapper of their own yet |

mod attempt;
mod child;
mod detail;
mod feature;
mod judge;
mod program;
mod raw;
mod table;
#[cfg(test)]
mod tests;
mod trials;
mod version;

use std::fmt;

use linux_raw::Errno;
use linux_raw::signal::Signal;
use vmctx::Tier;

pub use self::feature::Need;
use self::judge::Surroundings;
pub use self::table::Feature;
pub use self::version::Version;

/// A kernel and what it lets this process do.
///
/// A plain value: tests forge it with [`Kernel::with_everything`] and [`Kernel::with`].
///
/// ```
/// use cellwall::{Errno, Feature, Kernel, Support, Tier};
///
/// let old = Kernel::with_everything("6.1.0").with(Feature::Mseal, Support::Absent(Errno::ENOSYS));
/// assert!(old.can_run(Tier::Full));
/// let bare = old.with(Feature::UserNamespace, Support::Absent(Errno::EINVAL));
/// assert!(!bare.can_run(Tier::Full));
/// assert!(bare.can_run(Tier::WithoutNamespaces));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    release: String,
    /// One for each of [`Feature::ALL`], in that order.
    findings: Vec<Finding>,
}

/// One feature and what became of its trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which feature.
    pub feature: Feature,
    /// Whether it is there, and if not, why.
    pub support: Support,
    /// A number that the trial brought along; [`Finding::detail`] says what it means.
    pub value: Option<u64>,
}

/// Whether a feature is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    /// It was tried, and it works.
    Present,
    /// The kernel refused it with this errno, and nothing is known that forbids it.
    Absent(Errno),
    /// Something that an operator controls forbids it.
    Forbidden(Obstacle),
}

/// What forbids a feature.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// A sysctl with this value.
    Sysctl {
        /// Its dotted name.
        name: &'static str,
        /// What it is set to.
        value: String,
        /// What it should be set to.
        wanted: &'static str,
    },
    /// A seccomp filter around this process, which made the call fail.
    Filter(Errno),
    /// The trial was killed; by SIGSYS that is a seccomp filter.
    Killed(Signal),
    /// The trial did not end in time.
    TimedOut,
    /// It was not tried, since it rests on this feature, which is missing.
    Lacks(Feature),
}

impl Kernel {
    /// Tries every feature. Takes some 10 ms; more where this process has a lot of memory, since
    /// each trial runs in a copy of it.
    ///
    /// Changes nothing in this process, and leaves no process behind.
    #[must_use]
    pub fn probe() -> Self {
        let release = raw::release();
        let around = Surroundings::look(&release);
        let mut findings = Vec::<Finding>::new();
        for &feature in Feature::ALL {
            let is_missing = |finding: &&Finding| {
                Some(finding.feature) == feature.rests_on() && !finding.is_present()
            };
            findings.push(match findings.iter().find(is_missing) {
                Some(base) => Finding {
                    feature,
                    support: Support::Forbidden(Obstacle::Lacks(base.feature)),
                    value: None,
                },
                None => around.judge(feature, trials::of(feature)),
            });
        }
        Self { release, findings }
    }

    /// A kernel that has every feature: where tests start from.
    #[must_use]
    pub fn with_everything(release: impl Into<String>) -> Self {
        let present = |&feature| Finding {
            feature,
            support: Support::Present,
            value: None,
        };
        Self {
            release: release.into(),
            findings: Feature::ALL.iter().map(present).collect(),
        }
    }

    /// The same kernel, but for this feature.
    #[must_use]
    pub fn with(mut self, feature: Feature, support: Support) -> Self {
        for finding in self
            .findings
            .iter_mut()
            .filter(|finding| finding.feature == feature)
        {
            *finding = Finding {
                feature,
                support: support.clone(),
                value: None,
            };
        }
        self
    }

    /// The kernel's release, as `uname -r` prints it.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// Everything that was found, in the order of [`Feature::ALL`].
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether the feature was tried and works.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.feature == feature && finding.is_present())
    }

    /// What must be there for a tier and is not.
    pub fn missing(&self, tier: Tier) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| {
            let feature = finding.feature;
            feature.need() == Need::Must && feature.is_for(tier) && !finding.is_present()
        })
    }

    /// Whether a sandbox of a tier can run: everything is there that must be.
    #[must_use]
    pub fn can_run(&self, tier: Tier) -> bool {
        self.missing(tier).next().is_none()
    }
}

impl Finding {
    /// Whether it was tried and works.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.support == Support::Present
    }

    /// Whether it is missing by itself, not only for the lack of what it rests on.
    #[must_use]
    pub fn is_cause(&self) -> bool {
        !matches!(
            self.support,
            Support::Present | Support::Forbidden(Obstacle::Lacks(_))
        )
    }

    /// What an operator can do: one sentence, and nothing for a feature that is there.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        let name = self.feature.name();
        match &self.support {
            Support::Present => None,
            Support::Absent(Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE) => Some(
                "Too many processes, descriptors or too little memory: raise the limits.".into(),
            ),
            Support::Absent(_) => Some(self.feature.advice().into()),
            Support::Forbidden(Obstacle::Sysctl {
                name,
                value,
                wanted,
            }) => Some(format!(
                "Set the sysctl {name}, which is {value}, to {wanted}."
            )),
            Support::Forbidden(Obstacle::Filter(_) | Obstacle::Killed(Signal::SYS)) => {
                Some(format!(
                    "Allow {name} in the seccomp profile around this process (of a container or a \
                 service manager)."
                ))
            }
            Support::Forbidden(Obstacle::Killed(_) | Obstacle::TimedOut) => {
                Some("Probe again; if it happens again, look into the kernel's log.".into())
            }
            Support::Forbidden(Obstacle::Lacks(base)) => Some(format!(
                "Make {} work first: {name} rests on it.",
                base.name()
            )),
        }
    }
}

impl fmt::Display for Support {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => out.write_str("present"),
            Self::Absent(errno) => write!(out, "absent: {errno}"),
            Self::Forbidden(obstacle) => write!(out, "forbidden: {obstacle}"),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl { name, value, .. } => write!(out, "{name}={value}"),
            Self::Filter(errno) => write!(out, "a seccomp filter answers {errno}"),
            Self::Killed(Signal::SYS) => out.write_str("a seccomp filter kills for it"),
            Self::Killed(signal) => write!(out, "the trial was killed by {signal}"),
            Self::TimedOut => out.write_str("the trial did not end"),
            Self::Lacks(feature) => write!(out, "the lack of {}", feature.name()),
        }
    }
}
