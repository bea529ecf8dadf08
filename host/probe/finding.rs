//! What became of a trial, and what an operator can do about it.

use std::fmt;

use linux_raw::Errno;
use linux_raw::signal::Signal;

use super::feature::Need;
use super::surroundings::Manager;
use super::table::Feature;
use crate::advice::NOT_DUMPABLE;

/// Whose filter it may be where nobody has left a trace.
const SOMEBODY: &str =
    "the seccomp profile around this process (of a container, a service manager or a sandbox)";

/// One feature and what became of its trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which feature.
    pub feature: Feature,
    /// Whether it is there, and if not, why.
    pub support: Support,
    /// A number that the trial brought along; [`Finding::detail`] says what it means.
    pub value: Option<u64>,
    /// Who manages this process, whom the advice is about.
    pub manager: Option<Manager>,
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
    /// A security module that confines this process.
    Confined {
        /// Its name.
        module: &'static str,
        /// The profile or the context that this process runs under.
        label: String,
    },
    /// The root folder of this process is none that a mount namespace begins with: the kernel makes
    /// no user namespace there.
    Chroot,
    /// This process is not dumpable: its files in `/proc` are root's.
    NotDumpable,
    /// A limit of this process'.
    Limit {
        /// Its name, such as `RLIMIT_NOFILE`.
        name: &'static str,
        /// What it is.
        value: u64,
        /// What the kernel answered.
        errno: Errno,
    },
    /// It was not tried: the kernel refused the process for that with this errno.
    NoProcess(Errno),
    /// The trial was killed; by SIGSYS that is a seccomp filter.
    Killed(Signal),
    /// The trial did not end in time.
    TimedOut,
    /// It was not tried, since it rests on this feature, which is missing.
    Lacks(Feature),
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

    /// Whether the trial says nothing about the kernel: something was short at that moment, or the
    /// trial was disturbed.
    pub(crate) fn is_inconclusive(&self) -> bool {
        match &self.support {
            Support::Absent(errno) => matches!(
                *errno,
                // The last one: somebody else has taken the trial's end.
                Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE | Errno::ECHILD
            ),
            Support::Forbidden(
                Obstacle::Limit { .. } | Obstacle::TimedOut | Obstacle::NoProcess(_),
            ) => true,
            Support::Forbidden(Obstacle::Killed(signal)) => *signal != Signal::SYS,
            Support::Present | Support::Forbidden(_) => false,
        }
    }

    /// What an operator can do: one sentence, and nothing for a feature that is there.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        let name = self.feature.name();
        let need = self.feature.need();
        match &self.support {
            Support::Present => None,
            Support::Absent(Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE) => Some(
                "Too many processes, descriptors or too little memory: raise the limits.".into(),
            ),
            Support::Absent(Errno::ECHILD) => {
                Some("Probe again while nobody else waits for the children of this process.".into())
            }
            Support::Absent(_) => Some(self.feature.advice().into()),
            // Nobody is asked to allow what nothing uses.
            Support::Forbidden(_) if need == Need::Unused && !self.is_inconclusive() => {
                Some(self.feature.advice().into())
            }
            Support::Forbidden(Obstacle::Sysctl {
                name,
                value,
                wanted,
            }) => {
                let or_not = if need == Need::May {
                    ", or leave it"
                } else {
                    ""
                };
                Some(format!(
                    "Set the sysctl {name}, which is {value}, to {wanted}{or_not}."
                ))
            }
            Support::Forbidden(Obstacle::Filter(_) | Obstacle::Killed(Signal::SYS)) => {
                let knob = self.manager.map_or(SOMEBODY, Manager::filter_knob);
                // Not every chroot shows.
                let is_either = self.feature == Feature::UserNamespace
                    && self.support == Support::Forbidden(Obstacle::Filter(Errno::EPERM));
                let too = if is_either {
                    "; a chroot refuses it too"
                } else {
                    ""
                };
                Some(format!("Allow {} in {knob}{too}.", self.feature.calls()))
            }
            Support::Forbidden(Obstacle::NoProcess(Errno::EPERM | Errno::ENOSYS)) => Some(
                "Let this process make others and wait for them: allow clone and waitid in the \
                     filter around it."
                    .into(),
            ),
            Support::Forbidden(Obstacle::NoProcess(_)) => Some(
                "Let this process make others: raise RLIMIT_NPROC, RLIMIT_NOFILE, \
                 kernel.threads-max, or memory and pids.max of its cgroup."
                    .into(),
            ),
            Support::Forbidden(Obstacle::Confined { module, .. }) => Some(match self.manager {
                Some(manager) => {
                    let knob = manager.label_knob();
                    format!(
                        "Allow {name} in {module}'s policy for this process, or give another: {knob}."
                    )
                }
                None => format!("Allow {name} in {module}'s policy for this process."),
            }),
            Support::Forbidden(Obstacle::Chroot) => {
                Some("Use pivot_root or a container instead of chroot for this process.".into())
            }
            Support::Forbidden(Obstacle::NotDumpable) => Some(format!("{NOT_DUMPABLE}.")),
            Support::Forbidden(Obstacle::Limit { name, value, .. }) => {
                Some(format!("Raise the limit {name}, which is {value}."))
            }
            Support::Forbidden(Obstacle::Killed(_) | Obstacle::TimedOut) => {
                Some("Probe again; if it happens again, look into the kernel's log.".into())
            }
            Support::Forbidden(Obstacle::Lacks(base)) => Some(format!(
                "Make {} work first, on which it rests.",
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
            Self::NoProcess(errno) => write!(out, "no process to try it in: {errno}"),
            Self::Killed(Signal::SYS) => out.write_str("a seccomp filter kills for it"),
            Self::Killed(signal) => write!(out, "the trial was killed by {signal}"),
            Self::TimedOut => out.write_str("the trial did not end"),
            Self::Confined { module, label } => write!(out, "{module}, as {label}"),
            Self::Chroot => out.write_str("a chroot"),
            Self::NotDumpable => out.write_str("this process, which is not dumpable"),
            Self::Limit { name, value, .. } => write!(out, "{name}={value}"),
            Self::Lacks(feature) => write!(out, "the lack of {}", feature.name()),
        }
    }
}
