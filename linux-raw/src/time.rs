#![expect(unsafe_code, reason = "reads the clock")]
//! Time, as the kernel counts it.

use core::time::Duration;

use linux_raw_sys::general as sys;

use crate::arch;
use crate::nr;

/// Nanoseconds in a second.
const NANOS: u64 = 1_000_000_000;

/// Seconds and nanoseconds (`struct __kernel_timespec`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(C)]
pub struct Timespec {
    /// Whole seconds.
    pub seconds: i64,
    /// The rest, 0 to 999,999,999.
    pub nanos: i64,
}

same_layout!(Timespec, sys::__kernel_timespec: seconds = tv_sec, nanos = tv_nsec);

impl Timespec {
    /// So many nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self {
            seconds: (nanos / NANOS).cast_signed(),
            nanos: (nanos % NANOS).cast_signed(),
        }
    }

    /// So many milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self {
            seconds: (millis / 1000).cast_signed(),
            nanos: (millis % 1000 * 1_000_000).cast_signed(),
        }
    }

    /// The nanoseconds in all, as many as fit; 0 if negative.
    #[must_use]
    pub fn as_nanos(self) -> u64 {
        let seconds = u64::try_from(self.seconds).unwrap_or_default();
        let nanos = u64::try_from(self.nanos).unwrap_or_default();
        seconds.saturating_mul(NANOS).saturating_add(nanos)
    }
}

impl From<Duration> for Timespec {
    /// The longest time the kernel knows, for durations beyond it.
    fn from(duration: Duration) -> Self {
        Self {
            seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
            nanos: duration.subsec_nanos().into(),
        }
    }
}

/// The time since an unspecified start, which never goes back, and stops while the machine sleeps.
/// Read by the system call (`clock_gettime`): there is no vDSO in a sandbox.
///
/// Since Linux 2.6. Zero under a filter that answers for the call, which cannot fail otherwise.
#[must_use]
pub fn monotonic() -> Duration {
    let mut now = Timespec::default();
    // SAFETY: the kernel writes one timespec there.
    let answer = unsafe {
        arch::syscall2(
            nr::CLOCK_GETTIME,
            sys::CLOCK_MONOTONIC.into(),
            (&raw mut now).into(),
        )
    };
    answer
        .done()
        .map_or(Duration::ZERO, |()| Duration::from_nanos(now.as_nanos()))
}

#[cfg(test)]
mod tests {
    use super::{Timespec, monotonic};
    use core::time::Duration;

    #[test]
    fn conversions() {
        let time = Timespec::from_nanos(1_500_000_001);
        assert_eq!((time.seconds, time.nanos), (1, 500_000_001));
        assert_eq!(Timespec::from_millis(1500).as_nanos(), 1_500_000_000);
        assert_eq!(Timespec::from(Duration::from_micros(3)).as_nanos(), 3000);
        assert_eq!(Timespec::from(Duration::MAX).seconds, i64::MAX);
    }

    #[test]
    fn the_clock_runs() {
        let before = monotonic();
        std::thread::sleep(Duration::from_millis(2));
        assert!(monotonic() - before >= Duration::from_millis(2));
    }
}
