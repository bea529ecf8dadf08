#![expect(unsafe_code, reason = "makes the three io_uring system calls")]
//! The three system calls, and nothing that decides anything.

use linux_raw_sys::io_uring as sys;
use sys::{io_uring_params, io_uring_register_op};

use super::abi::EnterFlags;
use crate::arch;
use crate::arg::Arg;
use crate::errno::Errno;
use crate::fd::{BorrowedFd, OwnedFd};
use crate::nr;
use crate::time::Timespec;

/// `io_uring_setup`: the descriptor is close-on-exec.
pub(super) fn setup(entries: u32, params: &mut io_uring_params) -> Result<OwnedFd, Errno> {
    // SAFETY: the kernel reads and writes one io_uring_params, which the reference makes ours;
    // the flags in it name no memory of ours (see `SetupFlags`).
    let answer = unsafe {
        arch::syscall2(
            nr::IO_URING_SETUP,
            entries.into(),
            Arg::from(&raw mut *params),
        )
    };
    // SAFETY: io_uring_setup answers with a descriptor that it has just opened.
    unsafe { answer.fd() }
}

/// `io_uring_enter` without an argument: how many entries the kernel took.
///
/// # Safety
///
/// What the entries up to `submit` point to must be as their constructors demand.
pub(super) unsafe fn enter(
    ring: BorrowedFd<'_>,
    submit: u32,
    wait_for: u32,
    flags: EnterFlags,
) -> Result<u32, Errno> {
    // SAFETY: no argument points to memory; the entries are as the caller promises.
    let answer = unsafe {
        arch::syscall6(
            nr::IO_URING_ENTER,
            ring.into(),
            submit.into(),
            wait_for.into(),
            flags.bits().into(),
            Arg::NULL,
            Arg::NULL,
        )
    };
    answer.word()
}

/// `io_uring_enter` that waits no longer than `timeout`, a span of the monotonic clock.
/// Since Linux 5.11.
///
/// # Safety
///
/// As for [`enter`].
pub(super) unsafe fn enter_timed(
    ring: BorrowedFd<'_>,
    submit: u32,
    wait_for: u32,
    flags: EnterFlags,
    timeout: &Timespec,
) -> Result<u32, Errno> {
    let argument = sys::io_uring_getevents_arg {
        sigmask: 0,
        sigmask_sz: 0,
        min_wait_usec: 0,
        ts: (&raw const *timeout).expose_provenance() as u64,
    };
    // SAFETY: the kernel reads the argument and the timeout it names during the call, in which
    // both stay borrowed; the entries are as the caller promises.
    let answer = unsafe {
        arch::syscall6(
            nr::IO_URING_ENTER,
            ring.into(),
            submit.into(),
            wait_for.into(),
            (flags | EnterFlags::EXT_ARG).bits().into(),
            Arg::from(&raw const argument),
            size_of_val(&argument).into(),
        )
    };
    answer.word()
}

/// `io_uring_register`.
///
/// # Safety
///
/// `argument` and `count` must be what `what` takes, valid for the call.
pub(super) unsafe fn register(
    ring: BorrowedFd<'_>,
    what: io_uring_register_op,
    argument: Arg,
    count: u32,
) -> Result<u32, Errno> {
    // SAFETY: the argument is as the caller promises; registration keeps no pointer to it.
    let answer = unsafe {
        arch::syscall4(
            nr::IO_URING_REGISTER,
            ring.into(),
            (what as u32).into(),
            argument,
            count.into(),
        )
    };
    answer.word()
}
