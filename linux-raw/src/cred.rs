#![expect(unsafe_code, reason = "makes the calls on credentials")]
//! Who a thread is and what it may do: users, groups, capabilities.
//!
//! All of it belongs to the calling thread alone, not to the process as libc has it.
//!
//! Beware of memory that is shared ([`CloneFlags::VM`](crate::process::CloneFlags::VM)): when a
//! change alters the effective or file-system user or group, or adds a permitted capability, the
//! kernel also sets the *dumpable* flag of the memory to `fs.suid_dumpable`, commonly off, and
//! clears the parent-death signal (`commit_creds` in `kernel/cred.c`). In a child that shares its
//! parent's memory that is the parent's flag too.

use bitflags::bitflags;
use linux_raw_sys::general as sys;

use crate::arch;
use crate::arg::Arg;
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

/// A capability by its number (capabilities(7)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Capability(u32);

impl Capability {
    /// Changing groups, and writing them into a user namespace's map.
    pub const SETGID: Self = Self(sys::CAP_SETGID);
    /// Signalling processes of others.
    pub const KILL: Self = Self(sys::CAP_KILL);
    /// Changing users, and writing them into a user namespace's map.
    pub const SETUID: Self = Self(sys::CAP_SETUID);
    /// Changing the bounding set, securebits, and what is inheritable.
    pub const SETPCAP: Self = Self(sys::CAP_SETPCAP);
    /// Mounting, namespaces and a great deal more.
    pub const SYS_ADMIN: Self = Self(sys::CAP_SYS_ADMIN);

    /// The capability with this number, which the kernel may not know.
    #[must_use]
    pub const fn from_raw(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Its bit in a set of [`Capabilities`]; none if the number is past 63.
    #[must_use]
    pub const fn bit(self) -> u64 {
        match 1u64.checked_shl(self.0) {
            Some(bit) => bit,
            None => 0,
        }
    }
}

/// A thread's capabilities; bit `n` is capability `n`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capabilities {
    /// What counts.
    pub effective: u64,
    /// What can be made effective.
    pub permitted: u64,
    /// What an exec may keep.
    pub inheritable: u64,
}

/// Both halves of the sets, the low one first.
type Halves = [sys::__user_cap_data_struct; 2];

/// No capability, in either half of the sets.
const NO_CAPABILITIES: Halves = [sys::__user_cap_data_struct {
    effective: 0,
    permitted: 0,
    inheritable: 0,
}; 2];

/// Says that it is about this thread, in 64-bit sets.
const fn this_thread() -> sys::__user_cap_header_struct {
    sys::__user_cap_header_struct {
        version: sys::_LINUX_CAPABILITY_VERSION_3,
        pid: 0,
    }
}

/// This thread's sets as the kernel has them.
fn get_halves() -> Result<Halves, Errno> {
    let mut header = this_thread();
    let mut data = NO_CAPABILITIES;
    // SAFETY: the kernel writes two data structs for version 3, which is what there is room for.
    let answer = unsafe {
        arch::syscall2(
            nr::CAPGET,
            (&raw mut header).into(),
            data.as_mut_ptr().into(),
        )
    };
    answer.done().map(|()| data)
}

/// Sets this thread's sets.
fn set_halves(data: &Halves) -> Result<(), Errno> {
    let mut header = this_thread();
    // SAFETY: the header and two data structs are what version 3 wants.
    let answer =
        unsafe { arch::syscall2(nr::CAPSET, (&raw mut header).into(), data.as_ptr().into()) };
    answer.done()
}

/// The two halves of a set as one.
fn whole(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the other half is another word"
)]
fn low_half(set: u64) -> u32 {
    set as u32
}

/// This thread's capabilities.
///
/// Since Linux 2.6.26 with 64-bit sets.
///
/// # Errors
///
/// None, except from a filter.
pub fn capget() -> Result<Capabilities, Errno> {
    let [low, high] = get_halves()?;
    Ok(Capabilities {
        effective: whole(low.effective, high.effective),
        permitted: whole(low.permitted, high.permitted),
        inheritable: whole(low.inheritable, high.inheritable),
    })
}

/// Drops every effective, permitted and inheritable capability of this thread, the ambient ones
/// with them.
///
/// Since Linux 2.6.26 with 64-bit sets.
///
/// # Errors
///
/// None, except from a filter.
pub fn capset_none() -> Result<(), Errno> {
    set_halves(&NO_CAPABILITIES)
}

/// Makes the capabilities of a mask ([`Capability::bit`]) inheritable, in addition to those that
/// are, and leaves the effective and the permitted ones as they are: `held` is what [`capget`]
/// says.
///
/// Since Linux 2.6.26 with 64-bit sets.
///
/// # Errors
///
/// `EPERM` for one that is not in the bounding set, or without `CAP_SETPCAP` for one that is not
/// permitted.
pub fn capset_inheritable(held: Capabilities, mask: u64) -> Result<(), Errno> {
    let half = |set: [u64; 3]| {
        let [effective, permitted, inheritable] = set.map(low_half);
        sys::__user_cap_data_struct {
            effective,
            permitted,
            inheritable,
        }
    };
    let sets = [held.effective, held.permitted, held.inheritable | mask];
    set_halves(&[half(sets), half(sets.map(|set| set >> 32))])
}

/// Drops every capability from the bounding set, up to the last that the kernel knows.
///
/// One system call each, and two more: one is told that there is no such capability, the other
/// asks whether that is true.
///
/// Since Linux 2.6.25.
///
/// # Errors
///
/// `EPERM` without `CAP_SETPCAP`, so this comes before [`capset_none`]. `EINVAL` if the kernel was
/// said to lack a capability that it has, or to have none at all, as a filter may; part of the set
/// is left then.
pub fn drop_bounding_set() -> Result<(), Errno> {
    // The sets have 64 bits, so no kernel knows more.
    for number in 0..u64::BITS {
        let capability = Capability(number);
        match prctl::capbset_drop(capability) {
            Ok(()) => {}
            Err(Errno::EINVAL) if number > 0 => return confirm_unknown(capability),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Makes sure that the kernel knows no such capability: `EINVAL` if it does.
fn confirm_unknown(capability: Capability) -> Result<(), Errno> {
    match prctl::capability_in_bounding_set(capability) {
        Err(Errno::EINVAL) => Ok(()),
        Ok(_) => Err(Errno::EINVAL),
        Err(errno) => Err(errno),
    }
}

/// Leaves every supplementary group.
///
/// Since Linux 1.0.
///
/// # Errors
///
/// `EPERM` without `CAP_SETGID`, or in a user namespace that has no map of groups yet or forbids
/// the call.
pub fn setgroups_none() -> Result<(), Errno> {
    // SAFETY: a list of no length is not read.
    unsafe { arch::syscall2(nr::SETGROUPS, Arg::NULL, Arg::NULL) }.done()
}

/// Makes all three users of this thread one: real, effective and saved; the file-system user
/// follows.
///
/// Leaving user 0 drops capabilities, unless [`Securebits`] say otherwise.
///
/// Since Linux 2.1.44.
///
/// # Errors
///
/// `EINVAL` for a user without a number in this user namespace, `EPERM` without `CAP_SETUID` for
/// one that is none of the three, `EAGAIN` when the kernel is out of memory for it.
pub fn setresuid(user: u32) -> Result<(), Errno> {
    // SAFETY: nothing is passed but numbers.
    unsafe { arch::syscall3(nr::SETRESUID, user.into(), user.into(), user.into()) }.done()
}

/// Makes all three groups of this thread one: real, effective and saved; the file-system group
/// follows. The supplementary ones stay.
///
/// Since Linux 2.1.44.
///
/// # Errors
///
/// `EINVAL` for a group without a number in this user namespace, `EPERM` without `CAP_SETGID` for
/// one that is none of the three.
pub fn setresgid(group: u32) -> Result<(), Errno> {
    // SAFETY: nothing is passed but numbers.
    unsafe { arch::syscall3(nr::SETRESGID, group.into(), group.into(), group.into()) }.done()
}

/// The three ids of a kind that a thread has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Ids {
    /// Whom it was started by.
    pub real: u32,
    /// Who it is.
    pub effective: u32,
    /// Whom it may become again.
    pub saved: u32,
}

impl Ids {
    /// Whether all three are this one.
    #[must_use]
    pub const fn are_all(self, id: u32) -> bool {
        self.real == id && self.effective == id && self.saved == id
    }
}

/// Asks for three ids by a call that writes them.
fn get_ids(call: nr::Nr) -> Result<Ids, Errno> {
    let mut ids = Ids {
        real: u32::MAX,
        effective: u32::MAX,
        saved: u32::MAX,
    };
    // SAFETY: used below only with calls that write one number to each of three places.
    let answer = unsafe {
        arch::syscall3(
            call,
            (&raw mut ids.real).into(),
            (&raw mut ids.effective).into(),
            (&raw mut ids.saved).into(),
        )
    };
    answer.done().map(|()| ids)
}

/// The three users of this thread.
///
/// Since Linux 2.1.44.
///
/// # Errors
///
/// None, except from a filter.
pub fn getresuid() -> Result<Ids, Errno> {
    get_ids(nr::GETRESUID)
}

/// The three groups of this thread.
///
/// Since Linux 2.1.44.
///
/// # Errors
///
/// None, except from a filter.
pub fn getresgid() -> Result<Ids, Errno> {
    get_ids(nr::GETRESGID)
}
