//! Errors carry where and whose fault: the blame picks the reaction.
//!
//! A guest's misdeeds are [`Interrupt`](crate::Interrupt)s and not errors, but for one: a worker
//! that forges shared words is killed, and that is [`Blame::Forged`].

mod misuse;

use std::fmt;

use linux_raw::Errno;
use vmctx::{Forged, Layer, Step};

pub use self::misuse::{Misuse, RegionFault};
use crate::advice;
use crate::probe::{Feature, Finding};
use crate::ways;

/// What went wrong, where, and whose fault it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{stage}: {blame}{}", Advice(self))]
pub struct Error {
    /// Where.
    pub stage: Stage,
    /// Whose fault, and what.
    pub blame: Blame,
}

/// Where an error happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Creating an engine.
    Engine,
    /// Building a module.
    Module,
    /// Starting the nursery, or asking it for a worker.
    Nursery,
    /// Starting a worker, on the host's side.
    Start,
    /// Starting a worker: this step of its lock-down.
    Lockdown(Step),
    /// Running a guest.
    Run,
    /// Reading or writing guest memory.
    Memory,
}

/// Whose fault an error is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Blame {
    /// The caller asked for something that cannot be.
    #[error("{0}")]
    Caller(Misuse),
    /// The kernel refused a call.
    #[error("{call} failed with {errno}")]
    Kernel {
        /// The system call, or the step that made it.
        call: &'static str,
        /// What the kernel answered.
        errno: Errno,
    },
    /// A worker wrote what no honest worker writes. It has been killed.
    #[error("{0}; it has been killed")]
    Forged(Forged),
    /// A worker did not do in time what it does without a guest. It has been killed.
    #[error("the worker did not {what} within {milliseconds} ms; it has been killed")]
    Timeout {
        /// What it should have done.
        what: &'static str,
        /// How long it was waited for.
        milliseconds: u128,
    },
    /// A worker died before a guest ran in it.
    #[error("the worker ended early: {0}")]
    Died(String),
    /// A worker started without a layer of the wall that it must have, or with others than the
    /// engine's first worker. It has been killed.
    #[error("the wall is not whole: {}; the worker has been killed", lacking(*.0))]
    LayerMissing(Option<Layer>),
    /// The kernel of [`Config::kernel`](crate::Config::kernel) lacks these, each of which the
    /// engine must have, or would give up a layer or paging for though the trial says nothing about
    /// the kernel. Nothing was started.
    #[error("the kernel lacks {}", ways::explained(.0))]
    KernelLacks(Vec<Finding>),
    /// The kernel lacks what that of [`Config::kernel`](crate::Config::kernel) has. What had been
    /// started for it has been ended.
    #[error(
        "{} failed with {errno}, and Config::kernel says that it is there: give it what \
         Kernel::probe() finds here", feature.name()
    )]
    KernelDiffers {
        /// What is missing.
        feature: Feature,
        /// What the kernel answered.
        errno: Errno,
    },
    /// The nursery died, and with it all workers that it had cloned. The next start makes a new
    /// one.
    #[error("the nursery died")]
    NurseryDied,
    /// As many workers as the nursery can have: it has a descriptor for each (`RLIMIT_NOFILE`).
    #[error("the nursery has {0} workers, which is the most that it can have")]
    TooManyWorkers(u32),
    /// The engine's own thread is gone: the process is being torn down.
    #[error("the engine's thread is gone")]
    ReactorGone,
}

fn lacking(layer: Option<Layer>) -> String {
    layer.map_or("other layers are up than before".into(), |layer| {
        format!("{} is missing", layer.name())
    })
}

impl Error {
    pub(crate) fn kernel(stage: Stage, call: &'static str, errno: Errno) -> Self {
        Self {
            stage,
            blame: Blame::Kernel { call, errno },
        }
    }

    /// Whether the kernel answered with this errno.
    pub(crate) fn is_errno(&self, wanted: Errno) -> bool {
        matches!(self.blame, Blame::Kernel { errno, .. } if errno == wanted)
    }

    /// Whether descriptors are short, this process' own or the machine's.
    pub(crate) fn is_for_want_of_descriptors(&self) -> bool {
        self.is_errno(Errno::EMFILE) || self.is_errno(Errno::ENFILE)
    }

    pub(crate) fn misuse(stage: Stage, misuse: impl Into<Misuse>) -> Self {
        Self {
            stage,
            blame: Blame::Caller(misuse.into()),
        }
    }
}

/// The errno of a failed call of the standard library's, which is `EIO` where it gives none.
pub(crate) fn errno_of(error: &std::io::Error) -> Errno {
    let number = error
        .raw_os_error()
        .and_then(|number| u16::try_from(number).ok());
    number.and_then(Errno::from_raw).unwrap_or(Errno::EIO)
}

/// Names the call in the error of a system call.
pub(crate) trait KernelResult<T> {
    fn at(self, stage: Stage, call: &'static str) -> Result<T, Error>;
}

impl<T> KernelResult<T> for Result<T, Errno> {
    fn at(self, stage: Stage, call: &'static str) -> Result<T, Error> {
        self.map_err(|errno| Error::kernel(stage, call, errno))
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine => write!(out, "creating the engine"),
            Self::Module => write!(out, "building the module"),
            Self::Nursery => write!(out, "asking the nursery for a worker"),
            Self::Start => write!(out, "starting a worker"),
            Self::Lockdown(step) => {
                write!(out, "starting a worker, step \"{}\"", step.name())?;
                let layers: Vec<&str> = step.layers().iter().map(|layer| layer.name()).collect();
                match layers.as_slice() {
                    [] => Ok(()),
                    [layer] => write!(out, " of the layer {layer}"),
                    _ => write!(out, " of the layers {}", layers.join(", ")),
                }
            }
            Self::Run => write!(out, "running the guest"),
            Self::Memory => write!(out, "guest memory"),
        }
    }
}

/// Shows what an operator can do, where we know.
struct Advice<'a>(&'a Error);

impl fmt::Display for Advice<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Blame::Kernel { call, errno } = self.0.blame else {
            return Ok(());
        };
        match advice::about(self.0.stage, call, errno) {
            Some(advice) => write!(out, ". {advice}"),
            None => Ok(()),
        }
    }
}
