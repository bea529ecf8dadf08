#![expect(unsafe_code, reason = "shares a page with a child")]
//! One trial in a child, and its result back through a shared page.

use std::mem::size_of;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use linux_raw::Errno;
use linux_raw::fd::BorrowedFd;
use linux_raw::mm::{self, Backing, MapFlags, Placement, Prot};
use linux_raw::process::{CloneArgs, CloneBy, CloneFlags};
use linux_raw::signal::Signal;

use crate::copy::{self, End};
use crate::interrupt::Death;

/// How long a trial may take, and how long a child of its own: less, so that the trial notices.
const TRIAL_TIME: Duration = Duration::from_secs(4);
const INNER_TIME: Duration = Duration::from_secs(2);

/// What a trial found out, if that is more than success, or why it failed.
pub(super) type Found = Result<Option<u64>, Failure>;

/// Why a trial failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The kernel refused with this errno.
    Refused(Errno),
    /// A part of it is there, which the number says; the kernel refuses the whole with this errno.
    Lacking(Errno, u64),
    /// The kernel refused the process that was to try it, with this errno.
    Untried(Errno),
    /// This signal killed it.
    Killed(Signal),
    /// It did not end in time.
    TimedOut,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Refused(errno)
    }
}

/// Runs `trial` in a child. It must not allocate, take a lock or panic.
pub(super) fn attempt(trial: &dyn Fn() -> Found) -> Found {
    let sheet = Sheet::new().map_err(Failure::Untried)?;
    let life = || {
        sheet.words().fill_in(trial());
        0
    };
    // This one call is not the child's: a filter that kills for `clone3` would kill us.
    let args = CloneArgs {
        by: CloneBy::Clone,
        ..CloneArgs::default()
    };
    let end = copy::run(args, TRIAL_TIME, &life).map_err(Failure::Untried)?;
    match end {
        End::Died(death) => sheet.words().result().unwrap_or(Err(failure(death))),
        End::TimedOut => Err(Failure::TimedOut),
    }
}

/// How often a trial is made, and how long after the last, where a limit on namespaces is reached:
/// those of the trials before it go a moment after their processes.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// The result of a trial that does not meet what is left of another.
pub(super) fn patiently(attempt: impl Fn() -> Found) -> Found {
    for _ in 1..TRIES {
        match attempt() {
            Err(Failure::Refused(Errno::ENOSPC)) => thread::sleep(PAUSE),
            found => return found,
        }
    }
    attempt()
}

/// Runs `life` in a child of a trial, in the new namespaces that `flags` name. Its errno comes
/// back as the child's exit status, which has room for all of them.
pub(super) fn in_child(
    flags: CloneFlags,
    life: &dyn Fn() -> Result<(), Errno>,
) -> Result<(), Failure> {
    in_child_of(flags, None, life)
}

/// The same for a child that is born in a cgroup.
pub(super) fn in_child_of(
    flags: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    life: &dyn Fn() -> Result<(), Errno>,
) -> Result<(), Failure> {
    let args = CloneArgs {
        flags,
        cgroup,
        ..CloneArgs::default()
    };
    let status = || match life() {
        Ok(()) => 0,
        Err(errno) => u8::try_from(errno.raw()).unwrap_or(u8::MAX),
    };
    match copy::run(args, INNER_TIME, &status)? {
        End::Died(Death::Exited(0)) => Ok(()),
        End::Died(death) => Err(failure(death)),
        End::TimedOut => Err(Failure::TimedOut),
    }
}

fn failure(death: Death) -> Failure {
    match death {
        Death::Exited(status) => {
            let errno = u16::try_from(status).ok().and_then(Errno::from_raw);
            Failure::Refused(errno.unwrap_or(Errno::ECHILD))
        }
        Death::Killed(signal) => Failure::Killed(signal),
        Death::Unknown | Death::Unresponsive => Failure::Refused(Errno::ECHILD),
    }
}

/// A page that a child shares, unmapped on drop.
struct Sheet(NonNull<Words>);

/// What is written on it. All zero, as the kernel maps it, is "nothing yet".
#[repr(C)]
struct Words {
    kind: AtomicU32,
    number: AtomicU32,
    value: AtomicU64,
}

/// The values of [`Words::kind`].
const WORKS: u32 = 1;
const WORKS_WITH_VALUE: u32 = 2;
const REFUSED: u32 = 3;
const KILLED: u32 = 4;
const TIMED_OUT: u32 = 5;
const LACKING: u32 = 6;

impl Sheet {
    fn new() -> Result<Self, Errno> {
        let prot = Prot::READ | Prot::WRITE;
        let bytes = size_of::<Words>();
        // SAFETY: the kernel chooses a free place, so nothing of ours is replaced.
        let page = unsafe {
            mm::mmap(
                Placement::Anywhere,
                bytes,
                prot,
                Backing::SharedAnonymous,
                MapFlags::empty(),
            )
        }?;
        Ok(Self(page.cast()))
    }

    fn words(&self) -> &Words {
        // SAFETY: the mapping lives as long as `self`, is page-aligned and large enough, and is
        // used through atomics alone, here and in the child.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Sheet {
    fn drop(&mut self) {
        // SAFETY: the page is ours, and no reference outlives `self`.
        let result = unsafe { mm::munmap(self.0.addr().get(), size_of::<Words>()) };
        debug_assert!(result.is_ok(), "munmap of an own mapping: {result:?}");
    }
}

impl Words {
    fn fill_in(&self, result: Found) {
        let (kind, number) = match result {
            Ok(None) => (WORKS, 0),
            Ok(Some(value)) => {
                self.value.store(value, Ordering::Relaxed);
                (WORKS_WITH_VALUE, 0)
            }
            Err(Failure::Refused(errno) | Failure::Untried(errno)) => (REFUSED, errno.raw().into()),
            Err(Failure::Lacking(errno, value)) => {
                self.value.store(value, Ordering::Relaxed);
                (LACKING, errno.raw().into())
            }
            Err(Failure::Killed(signal)) => (KILLED, signal.raw()),
            Err(Failure::TimedOut) => (TIMED_OUT, 0),
        };
        self.number.store(number, Ordering::Relaxed);
        // Release pairs with the Acquire of `result`: who sees the kind also sees the rest.
        self.kind.store(kind, Ordering::Release);
    }

    /// What the child wrote, if it came to that.
    fn result(&self) -> Option<Found> {
        let kind = self.kind.load(Ordering::Acquire);
        let number = self.number.load(Ordering::Relaxed);
        let value = self.value.load(Ordering::Relaxed);
        let errno = || Errno::from_raw(u16::try_from(number).ok()?);
        Some(match kind {
            WORKS => Ok(None),
            WORKS_WITH_VALUE => Ok(Some(value)),
            REFUSED => Err(Failure::Refused(errno()?)),
            LACKING => Err(Failure::Lacking(errno()?, value)),
            KILLED => Err(Failure::Killed(Signal::from_raw(number)?)),
            TIMED_OUT => Err(Failure::TimedOut),
            _ => return None,
        })
    }
}
