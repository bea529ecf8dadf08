#![expect(unsafe_code, reason = "makes the calls on a listener")]
//! Answering the calls of others: the supervisor's side of a filter that asks.
//!
//! A thread under [`compile_notifying`](super::compile_notifying) stops at each call that is not
//! allowed until the holder of the listener, which
//! [`install_with_listener`](super::install_with_listener) answers with, has answered for it.
//!
//! This is no security boundary: what a pointer points to can change after it was looked at.

use linux_raw_sys::ptrace as sys;

use super::bpf::SeccompData;
use crate::arch;
use crate::arg::Arg;
use crate::errno::Errno;
use crate::fd::AsFd;
use crate::nr;

/// A call that waits for an answer (`struct seccomp_notif`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Notification {
    /// What the answer goes to.
    pub id: u64,
    /// The thread, as seen in the pid namespace of whoever receives; 0 if it is not seen there.
    pub pid: u32,
    /// Always zero so far.
    pub flags: u32,
    /// The call.
    pub data: SeccompData,
}

same_layout!(Notification, sys::seccomp_notif: id = id, pid = pid, flags = flags, data = data);

/// Receives (`SECCOMP_IOCTL_NOTIF_RECV`).
pub const RECEIVE: u32 = 0xc050_2100;
/// Answers (`SECCOMP_IOCTL_NOTIF_SEND`).
pub const SEND: u32 = 0xc018_2101;
/// Asks whether somebody still waits (`SECCOMP_IOCTL_NOTIF_ID_VALID`), by the number of Linux 5.8;
/// it was another one before.
pub const ID_VALID: u32 = 0x4008_2102;
/// Makes the call (`SECCOMP_USER_NOTIF_FLAG_CONTINUE`).
pub const CONTINUE: u32 = sys::SECCOMP_USER_NOTIF_FLAG_CONTINUE;

/// What becomes of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Response {
    /// It is made. Since Linux 5.5.
    Continue,
    /// It is not made, and fails with this.
    Errno(Errno),
    /// It is not made, and answers this.
    Value(i64),
}

/// One `ioctl` on a listener.
///
/// # Safety
///
/// `argument` must be what the operation reads and writes.
unsafe fn ioctl(listener: impl AsFd, operation: u32, argument: Arg) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    let answer = unsafe {
        arch::syscall3(
            nr::IOCTL,
            listener.as_fd().into(),
            operation.into(),
            argument,
        )
    };
    answer.done()
}

/// Waits for a call to answer.
///
/// On some kernels it waits for ever when all filtered threads have ended:
/// [`poll`](crate::io::poll) first, which says `IN` for a call and, since Linux 5.9, `HUP` for
/// that.
///
/// Since Linux 5.0.
///
/// # Errors
///
/// `ENOENT` if the thread was killed or interrupted meanwhile, or if all have ended; `EINTR` by a
/// signal.
pub fn receive(listener: impl AsFd) -> Result<Notification, Errno> {
    // All zeroes, as the kernel wants it.
    let mut notification = Notification {
        id: 0,
        pid: 0,
        flags: 0,
        data: SeccompData {
            nr: 0,
            arch: 0,
            instruction_pointer: 0,
            args: [0; 6],
        },
    };
    // SAFETY: the kernel writes one `struct seccomp_notif`, whose size is in the number.
    unsafe { ioctl(listener, RECEIVE, (&raw mut notification).into()) }?;
    Ok(notification)
}

/// Answers the call that was received with this `id`.
///
/// Since Linux 5.0.
///
/// # Errors
///
/// `ENOENT` if nobody waits for it any more, `EINPROGRESS` if it was answered already, `EINVAL`
/// for [`Response::Continue`] before Linux 5.5.
pub fn respond(listener: impl AsFd, id: u64, response: Response) -> Result<(), Errno> {
    let (value, error, flags) = match response {
        Response::Continue => (0, 0, CONTINUE),
        Response::Errno(errno) => (0, -i32::from(errno.raw()), 0),
        Response::Value(value) => (value, 0, 0),
    };
    let answer = sys::seccomp_notif_resp {
        id,
        val: value,
        error,
        flags,
    };
    // SAFETY: the kernel reads one `struct seccomp_notif_resp`, whose size is in the number.
    unsafe { ioctl(listener, SEND, (&raw const answer).into()) }
}

/// Whether the thread still waits for the answer to `id`: to be asked after something was done by
/// its [`Notification::pid`], which another may have by then.
///
/// Since Linux 5.8.
///
/// # Errors
///
/// `EINVAL` on an older kernel.
pub fn is_valid(listener: impl AsFd, id: u64) -> Result<bool, Errno> {
    // SAFETY: the kernel reads one number of eight bytes.
    match unsafe { ioctl(listener, ID_VALID, (&raw const id).into()) } {
        Ok(()) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}
