//! Which flags and operations of a call the kernel knows, where that differs.

use linux_raw::fd::CloseRangeFlags;
use linux_raw::seccomp::{KILL_PROCESS, TRAP, USER_NOTIF};
use linux_raw::sys::{general, ptrace};
use linux_raw::uring::op::Op;
use linux_raw::uring::{Probe, Transfer};

use crate::probe::raw;

/// Something that a finding's value has a bit for, and what the kernel calls it.
pub(in crate::probe) type Named = (u64, &'static str);

/// The flags of `seccomp`, by their own bits. The last one goes with a listener only.
pub(in crate::probe) const SECCOMP_FLAGS: [Named; 6] = [
    (ptrace::SECCOMP_FILTER_FLAG_TSYNC as u64, "tsync"),
    (ptrace::SECCOMP_FILTER_FLAG_LOG as u64, "log"),
    (ptrace::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u64, "spec-allow"),
    (NEW_LISTENER, "new-listener"),
    (
        ptrace::SECCOMP_FILTER_FLAG_TSYNC_ESRCH as u64,
        "tsync-esrch",
    ),
    (WAIT_KILLABLE, "wait-killable-recv"),
];
const NEW_LISTENER: u64 = ptrace::SECCOMP_FILTER_FLAG_NEW_LISTENER as u64;
const WAIT_KILLABLE: u64 = ptrace::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u64;

/// A filter's answers, by bits above those of the flags.
pub(in crate::probe) const SECCOMP_ACTIONS: [Named; 3] = [
    (1 << 32, "kill-process"),
    (1 << 33, "trap"),
    (1 << 34, "user-notif"),
];
const ACTION_NUMBERS: [u32; 3] = [KILL_PROCESS, TRAP, USER_NOTIF];

pub(super) fn of_seccomp() -> u64 {
    let mut mask = known(SECCOMP_FLAGS, |flag| {
        let with = if flag == WAIT_KILLABLE {
            NEW_LISTENER
        } else {
            0
        };
        raw::seccomp_knows_flags(flag | with)
    });
    for ((action, _), number) in SECCOMP_ACTIONS.into_iter().zip(ACTION_NUMBERS) {
        if raw::seccomp_knows_action(number) {
            mask |= action;
        }
    }
    mask
}

/// The flags of `memfd_create` that say whether a file can be executed, by their own bits.
pub(in crate::probe) const MEMFD_FLAGS: [Named; 2] = [
    (general::MFD_EXEC as u64, "exec"),
    (general::MFD_NOEXEC_SEAL as u64, "noexec-seal"),
];

pub(super) fn of_memfd() -> u64 {
    known(MEMFD_FLAGS, raw::memfd_create_knows_flag)
}

/// The flags of `close_range`, by their own bits.
pub(in crate::probe) const CLOSE_RANGE_FLAGS: [Named; 2] = [
    (CloseRangeFlags::UNSHARE.bits() as u64, "unshare"),
    (CloseRangeFlags::CLOEXEC.bits() as u64, "cloexec"),
];

pub(super) fn of_close_range() -> u64 {
    known(CLOSE_RANGE_FLAGS, raw::close_range_knows_flag)
}

/// The bits of those flags that are known.
fn known<const N: usize>(flags: [Named; N], is_known: fn(u64) -> bool) -> u64 {
    let known = flags.into_iter().filter(|(flag, _)| is_known(*flag));
    known.fold(0, |mask, (flag, _)| mask | flag)
}

/// The operations of rings that are needed, by bits above the byte of [`highest_operation`].
pub(in crate::probe) fn needed_operations() -> impl Iterator<Item = (u64, Op)> {
    let bit = |(place, op)| (0x100_u64 << place, op);
    Transfer::NEEDED_OPS.into_iter().enumerate().map(bit)
}

/// The highest operation of rings that the kernel knows.
pub(in crate::probe) const fn highest_operation(value: u64) -> u64 {
    value & 0xff
}

pub(super) fn of_rings(known: &Probe) -> u64 {
    let highest = (0..=known.last()).rfind(|number| known.supports_number(*number));
    let needed = needed_operations().filter(|(_, op)| known.supports(*op));
    needed.fold(highest.unwrap_or(0).into(), |value, (bit, _)| value | bit)
}
