#![expect(unsafe_code, reason = "makes the calls on capabilities")]
//! Capabilities: dropping them all, for good.

use bitflags::bitflags;
use linux_raw_sys::general as sys;

use crate::arch;
use crate::errno::Errno;
use crate::nr;
use crate::prctl;

bitflags! {
    /// How the kernel treats user 0. Each has a lock that makes it final.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Securebits: u32 {
        /// User 0 gets no capabilities at an exec.
        const NOROOT = 1 << 0;
        /// `NOROOT` is final.
        const NOROOT_LOCKED = 1 << 1;
        /// Changing the user leaves capabilities alone.
        const NO_SETUID_FIXUP = 1 << 2;
        /// `NO_SETUID_FIXUP` is final.
        const NO_SETUID_FIXUP_LOCKED = 1 << 3;
        /// Keeps permitted capabilities when leaving user 0; an exec clears it.
        const KEEP_CAPS = 1 << 4;
        /// `KEEP_CAPS` is final.
        const KEEP_CAPS_LOCKED = 1 << 5;
        /// No ambient capability can be raised. Since Linux 4.3.
        const NO_CAP_AMBIENT_RAISE = 1 << 6;
        /// `NO_CAP_AMBIENT_RAISE` is final.
        const NO_CAP_AMBIENT_RAISE_LOCKED = 1 << 7;
    }
}

impl Securebits {
    /// Everything that takes privileges away, with every lock, `KEEP_CAPS` off for good included.
    pub const LOCKED_DOWN: Self = Self::all().difference(Self::KEEP_CAPS);
}

/// No capability, in either half of the sets.
const NO_CAPABILITIES: [sys::__user_cap_data_struct; 2] = [sys::__user_cap_data_struct {
    effective: 0,
    permitted: 0,
    inheritable: 0,
}; 2];

/// Drops every effective, permitted and inheritable capability of this thread, the ambient ones
/// with them.
///
/// Since Linux 2.6.26 with 64-bit sets.
///
/// # Errors
///
/// None, except from a filter.
pub fn capset_none() -> Result<(), Errno> {
    let mut header = sys::__user_cap_header_struct {
        version: sys::_LINUX_CAPABILITY_VERSION_3, // 64-bit sets
        pid: 0,
    };
    let data = NO_CAPABILITIES;
    // SAFETY: the header and two data structs are what version 3 wants; 0 is this thread.
    let answer =
        unsafe { arch::syscall2(nr::CAPSET, (&raw mut header).into(), data.as_ptr().into()) };
    answer.done()
}

/// Drops every capability from the bounding set, up to the last that the kernel knows.
///
/// One system call each, and one more that is told there is no such capability.
///
/// Since Linux 2.6.25.
///
/// # Errors
///
/// `EPERM` without `CAP_SETPCAP`, so this comes before [`capset_none`].
pub fn drop_bounding_set() -> Result<(), Errno> {
    // The sets have 64 bits, so no kernel knows more.
    for capability in 0..u64::BITS {
        match prctl::capbset_drop(capability) {
            Ok(()) => {}
            Err(Errno::EINVAL) => break, // past the last one
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
