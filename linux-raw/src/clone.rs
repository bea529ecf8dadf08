#![expect(unsafe_code, reason = "clones processes")]
//! Making children: what they share, what they run on, how they are watched.
//!
//! By `clone3`, and where that is `ENOSYS` by the old `clone`: the filters of container engines
//! look at flags, which they cannot see in `clone3`, and answer so to make everybody fall back.
//! [`CloneArgs::by`] can insist on one of the two.

use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;

use bitflags::bitflags;
use linux_raw_sys::general as sys;

use crate::arch;
use crate::arg::{Arg, Ret};
use crate::called::{Called as _, Failed};
use crate::errno::Errno;
use crate::fd::{BorrowedFd, OwnedFd, RawFd};
use crate::nr::{self, Nr};
use crate::process::Pid;
use crate::signal::Signal;

bitflags! {
    /// What a child shares, what is new for it, and how it is watched.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct CloneFlags: u64 {
        /// Shares memory.
        const VM = sys::CLONE_VM as u64;
        /// Shares the table of descriptors: what either side opens or closes, both do, until one
        /// leaves the table ([`CloseRangeFlags::UNSHARE`](crate::fd::CloseRangeFlags), an exec).
        const FILES = sys::CLONE_FILES as u64;
        /// Answers with a descriptor of the child. Since Linux 5.2.
        const PIDFD = sys::CLONE_PIDFD as u64;
        /// The parent stops until the child execs or ends.
        const VFORK = sys::CLONE_VFORK as u64;
        /// New mount namespace.
        const NEWNS = sys::CLONE_NEWNS as u64;
        /// New cgroup namespace. Since Linux 4.6.
        const NEWCGROUP = sys::CLONE_NEWCGROUP as u64;
        /// New host-name namespace.
        const NEWUTS = sys::CLONE_NEWUTS as u64;
        /// New IPC namespace.
        const NEWIPC = sys::CLONE_NEWIPC as u64;
        /// New user namespace.
        const NEWUSER = sys::CLONE_NEWUSER as u64;
        /// New pid namespace.
        const NEWPID = sys::CLONE_NEWPID as u64;
        /// New network namespace.
        const NEWNET = sys::CLONE_NEWNET as u64;
        /// Handlers that are set become the default. Since Linux 5.5.
        ///
        /// **Left out** where `clone3` is `ENOSYS`, since `clone` does not have it: whoever relies
        /// on it must have all signals blocked around the call.
        const CLEAR_SIGHAND = sys::CLONE_CLEAR_SIGHAND;
    }
}

/// Memory for a child to run on.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    /// The lowest address.
    pub base: NonNull<u8>,
    /// Bytes; the child starts at the far end, rounded down to 16.
    pub bytes: usize,
}

/// Which call makes a child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CloneBy {
    /// `clone3`, and `clone` where that is `ENOSYS` and `clone` has all of the flags.
    #[default]
    Either,
    /// `clone3` alone. Since Linux 5.3.
    Clone3,
    /// `clone` alone, as if there were no other.
    Clone,
}

/// How to clone, beyond the stack.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneArgs<'call> {
    /// What is shared and what is new.
    pub flags: CloneFlags,
    /// What the parent gets when the child ends; `None` is nothing, and such a child is waited for
    /// only with [`WaitFlags::ALL`](crate::pidfd::WaitFlags::ALL).
    pub exit_signal: Option<Signal>,
    /// A word that the kernel sets to zero, waking one futex waiter, when the child leaves this
    /// memory by exec or exit (`CLONE_CHILD_CLEARTID`). Set it to something else before.
    pub cleared: Option<&'call AtomicU32>,
    /// The cgroup of version 2 that the child starts in, by its folder opened for reading or by
    /// `O_PATH`; `None` is the parent's. Since Linux 5.7, and never by the old `clone`.
    pub cgroup: Option<BorrowedFd<'call>>,
    /// By which call.
    pub by: CloneBy,
}

/// A child that was made.
#[derive(Debug)]
pub struct Cloned {
    /// Its number.
    pub pid: Pid,
    /// Its descriptor, with [`CloneFlags::PIDFD`], if the kernel has stored one.
    pub pidfd: Option<OwnedFd>,
    /// The call that made it: `clone3` or `clone`.
    pub call: Nr,
}

/// Clones a child that shares this memory and calls `entry(data)` on a stack of its own.
///
/// With [`CloneFlags::VFORK`] it answers when the child has exec'd or ended; without, the parent
/// runs on, and can wait with a deadline on [`CloneArgs::cleared`].
///
/// Since Linux 5.3 (`clone3`), or 5.2 (`clone`). Two system calls where `clone3` is `ENOSYS`.
///
/// # Errors
///
/// Which of the two calls answered last, and what: `EAGAIN` at a limit of processes, `ENOSPC` at
/// one of namespaces, `EPERM` without the privilege for a namespace, `EINVAL` for flags that do not
/// go together, or that `clone` does not have where [`CloneArgs::by`] insists on it, `ENOSYS` where
/// a filter or an old kernel has no `clone3` and `clone` has not all of the flags, or is not to be
/// tried, `EMFILE`, `ENOMEM`. For [`CloneArgs::cgroup`]: `E2BIG` before Linux 5.7, `EBADF` if
/// it is no cgroup's folder, `EACCES` or `ENOENT` without the right to move there, `EBUSY`
/// if it passes controllers on, `EOPNOTSUPP` if it is of a type that takes no processes.
///
/// # Safety
///
/// Until the child execs or ends: `stack`, what `data` points to and [`CloneArgs::cleared`] must
/// stay valid and be used by nobody else in a way that races. The child shares the parent's
/// thread pointer: `entry` must touch no thread-local variable, take no lock and allocate nothing,
/// and must not change what belongs to the shared memory (`prctl` of dumpable or MDWE, `munmap`).
/// With [`CloneFlags::FILES`] it must neither close nor replace the parent's descriptors.
/// Signals should be blocked around the call, since the parent's handlers would run in the child.
pub unsafe fn clone_vm(
    args: &CloneArgs<'_>,
    stack: Stack,
    entry: extern "C" fn(*mut c_void) -> !,
    data: *mut c_void,
) -> Result<Cloned, Failed> {
    let mut raw = lower(args);
    raw.flags |= CloneFlags::VM.bits();
    raw.stack = expose(stack.base.as_ptr());
    raw.stack_size = widen(stack.bytes);
    // SAFETY: the stack is the child's own, and the rest is the caller's promise.
    unsafe { clone_raw(raw, args.by, entry, data) }
}

/// Clones a child with a copy of this memory that calls `entry(data)`, on `stack` in its copy or
/// on a copy of the current one.
///
/// Since Linux 5.3 (`clone3`), or 5.2 (`clone`). Two system calls where `clone3` is `ENOSYS`.
///
/// # Errors
///
/// As [`clone_vm`]; `EINVAL` with [`CloneFlags::VM`].
///
/// # Safety
///
/// Only the calling thread exists in the child: `entry` must not wait for a lock that another one
/// held. `stack` and `data` must be mapped in the copy too (not [`DontFork`]). Descriptors and
/// other things with owners are copied along with their owners: one side must forget them. With
/// [`CloneFlags::FILES`] the descriptors are not copied, and the child must forget all of them.
/// [`CloneArgs::cleared`] is an address in the child's copy.
///
/// [`DontFork`]: crate::mm::Advice::DontFork
pub unsafe fn clone_copy(
    args: &CloneArgs<'_>,
    stack: Option<Stack>,
    entry: extern "C" fn(*mut c_void) -> !,
    data: *mut c_void,
) -> Result<Cloned, Failed> {
    if args.flags.contains(CloneFlags::VM) {
        return Err(Failed(nr::CLONE3, Errno::EINVAL)); // two processes on one stack
    }
    let mut raw = lower(args);
    if let Some(stack) = stack {
        raw.stack = expose(stack.base.as_ptr());
        raw.stack_size = widen(stack.bytes);
    }
    // SAFETY: memory is copied, so the stack is the child's own either way.
    unsafe { clone_raw(raw, args.by, entry, data) }
}

/// What the kernel is told, but for the stack and where to put the pidfd.
fn lower(args: &CloneArgs<'_>) -> sys::clone_args {
    let mut raw = sys::clone_args {
        flags: args.flags.bits(),
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: args.exit_signal.map_or(0, |signal| signal.raw().into()),
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if let Some(word) = args.cleared {
        raw.flags |= u64::from(sys::CLONE_CHILD_CLEARTID);
        raw.child_tid = expose(word.as_ptr());
    }
    if let Some(cgroup) = args.cgroup {
        raw.flags |= sys::CLONE_INTO_CGROUP;
        raw.cgroup = cgroup.as_raw().cast_unsigned().into();
    }
    raw
}

/// An address in a field of `struct clone_args`.
fn expose<T>(pointer: *mut T) -> u64 {
    widen(pointer.expose_provenance())
}

/// A length or an address in a 64-bit field.
fn widen(value: usize) -> u64 {
    value as u64 // lossless: no architecture has more
}

/// Makes the child and takes its descriptor.
///
/// # Safety
///
/// As [`clone_vm`] or [`clone_copy`], whichever the flags say.
unsafe fn clone_raw(
    mut raw: sys::clone_args,
    by: CloneBy,
    entry: extern "C" fn(*mut c_void) -> !,
    data: *mut c_void,
) -> Result<Cloned, Failed> {
    let mut pidfd: RawFd = -1;
    let wants_pidfd = raw.flags & CloneFlags::PIDFD.bits() != 0;
    if wants_pidfd {
        raw.pidfd = expose(&raw mut pidfd);
    }
    let fits_old = fits_old_clone(raw.flags);
    let (answer, call) = match by {
        CloneBy::Clone if !fits_old => return Err(Failed(nr::CLONE, Errno::EINVAL)),
        // SAFETY: `pidfd` outlives the call, and the child's stack and entry are the caller's
        // promise.
        CloneBy::Clone => (unsafe { clone_old(&raw, entry, data) }, nr::CLONE),
        CloneBy::Either | CloneBy::Clone3 => {
            let size = size_of::<sys::clone_args>();
            // SAFETY: as above, and `raw` is a whole `struct clone_args`.
            let answer = unsafe { arch::clone3((&raw const raw).into(), size.into(), entry, data) };
            let falls_back = by == CloneBy::Either && answer.done() == Err(Errno::ENOSYS);
            if falls_back && fits_old {
                // SAFETY: as above; nothing was made yet.
                (unsafe { clone_old(&raw, entry, data) }, nr::CLONE)
            } else {
                (answer, nr::CLONE3)
            }
        }
    };
    let pid = Pid::answered(answer).called(call)?;
    // A filter can answer for the call, without anything being stored.
    let stored = wants_pidfd && pidfd >= 0;
    // SAFETY: nobody but the kernel writes there: it has put a descriptor that is ours alone.
    let pidfd = stored.then(|| unsafe { OwnedFd::from_raw(pidfd) });
    Ok(Cloned { pid, pidfd, call })
}

/// Whether the old call can be told these flags, [`CloneFlags::CLEAR_SIGHAND`] aside: it has the
/// low 32 bits, of which the exit signal takes eight, and one place for two kinds of answers.
const fn fits_old_clone(flags: u64) -> bool {
    let known = CloneFlags::all().bits() | sys::CLONE_CHILD_CLEARTID as u64;
    flags & !known == 0
}

/// The same by the old call.
///
/// # Safety
///
/// As [`clone_raw`], with flags that [`fits_old_clone`].
unsafe fn clone_old(
    raw: &sys::clone_args,
    entry: extern "C" fn(*mut c_void) -> !,
    data: *mut c_void,
) -> Ret {
    let flags = raw.flags & !CloneFlags::CLEAR_SIGHAND.bits() | raw.exit_signal;
    // Zero if there is none: both fields are.
    let stack: Arg = raw.stack.wrapping_add(raw.stack_size).into();
    // The descriptor goes where the child's number would.
    let (parent_tid, child_tid) = (raw.pidfd.into(), raw.child_tid.into());
    // SAFETY: the places are those that `raw` names, no thread pointer is asked for, and the
    // child's stack and entry are the caller's promise.
    unsafe { arch::clone(flags.into(), stack, parent_tid, child_tid, entry, data) }
}

#[cfg(test)]
mod tests {
    use super::{CloneFlags, fits_old_clone};
    use linux_raw_sys::general as sys;

    #[test]
    fn the_old_call_gets_only_what_it_has() {
        let plain = CloneFlags::all().bits() | u64::from(sys::CLONE_CHILD_CLEARTID);
        assert!(fits_old_clone(plain));
        assert!(fits_old_clone(0));
        let others = [
            sys::CLONE_INTO_CGROUP,
            u64::from(sys::CLONE_NEWTIME),
            u64::from(sys::CLONE_PARENT_SETTID),
            u64::from(sys::CLONE_SETTLS),
            17, // an exit signal that came among the flags
        ];
        for other in others {
            assert!(!fits_old_clone(plain | other), "{other:#x}");
        }
    }
}
