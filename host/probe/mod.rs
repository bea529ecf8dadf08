//! What this kernel offers: found by trying, never by its version.
//!
//! Each trial runs in a child process, so that none has an effect on this one, and a filter that
//! kills for a call kills only the child; but for what it takes to look around (files of `/proc`
//! and `/sys` are read) and to have a child: `mmap`, `munmap`, `rt_sigprocmask`, `clone`, `waitid`,
//! `ppoll`, `pidfd_send_signal` and `close`. [`Engine::new`](crate::Engine::new) does not wait for
//! any of this: it learns from its own steps. The full trial is for operators, tests and the
//! explanation of a start that failed.
//!
//! | file | idea |
//! |---|---|
//! | `table`, `feature` | what is looked for: need, reason, first kernel, layers, advice |
//! | `trials` | how each is tried |
//! | `attempt` | running a trial in a process of its own |
//! | `detail` | what a trial says beyond success |
//! | `judge`, `sysctl` | who is to blame for a failed one |
//! | `surroundings` | filters, limits and policies around this process |
//! | `finding`, `calls` | what became of a trial, in words; what a filter should let through |
//! | `version` | kernel versions |
//! | `program` | the smallest program, which a trial executes |
//! | `raw` | calls that have no wrapper of their own, since nothing else makes them |

mod attempt;
mod calls;
mod detail;
mod feature;
mod finding;
mod judge;
mod program;
mod raw;
mod surroundings;
mod sysctl;
mod table;
#[cfg(test)]
mod tests;
mod trials;
mod version;

use vmctx::Tier;

pub use self::feature::Need;
pub use self::finding::{Finding, Obstacle, Support};
use self::judge::Judge;
pub use self::surroundings::{Manager, Surroundings};
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
    surroundings: Surroundings,
    /// One for each of [`Feature::ALL`], in that order.
    findings: Vec<Finding>,
}

impl Kernel {
    /// Tries every feature. Takes some 10 ms, and half a second more for each GiB of memory that
    /// this process has in small pages, since each trial runs in a copy of it.
    ///
    /// Changes nothing in this process, and leaves no process behind. Only where a pid namespace
    /// waits for its first process (`unshare(CLONE_NEWPID)`), a trial is that, and ends it.
    #[must_use]
    pub fn probe() -> Self {
        let release = surroundings::release();
        let judge = Judge::new(&release, Surroundings::look());
        let mut findings = Vec::<Finding>::new();
        for &feature in Feature::ALL {
            let is_missing = |finding: &&Finding| {
                Some(finding.feature) == feature.rests_on() && !finding.is_present()
            };
            findings.push(match findings.iter().find(is_missing) {
                Some(base) => judge.lacking(feature, base.feature),
                None => judge.judge(feature, attempt::patiently(|| trials::of(feature))),
            });
        }
        Self {
            release,
            surroundings: judge.surroundings(),
            findings,
        }
    }

    /// A kernel that has every feature: where tests start from.
    #[must_use]
    pub fn with_everything(release: impl Into<String>) -> Self {
        let present = |&feature| Finding {
            feature,
            support: Support::Present,
            value: None,
            manager: None,
        };
        Self {
            release: release.into(),
            surroundings: Surroundings::default(),
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
                manager: self.surroundings.manager,
            };
        }
        self
    }

    /// The same kernel, but with these surroundings. What was found stays as it is.
    #[must_use]
    pub fn amid(mut self, surroundings: Surroundings) -> Self {
        for finding in &mut self.findings {
            finding.manager = surroundings.manager;
        }
        self.surroundings = surroundings;
        self
    }

    /// What surrounds this process.
    #[must_use]
    pub fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// The kernel's release, as `uname -r` prints it; empty without `/proc`.
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
    ///
    /// An engine also makes calls that every kernel has, and that no feature is about. Whether a
    /// filter forbids one of those only a worker can show, as `cellwall probe` has it do.
    #[must_use]
    pub fn can_run(&self, tier: Tier) -> bool {
        self.missing(tier).next().is_none()
    }
}
