#![expect(
    unsafe_code,
    reason = "declares constructors whose callers must keep promises"
)]
//! One typed constructor per operation that is used.
//!
//! A constructor that takes a pointer is `unsafe`: the kernel uses it after the call has returned.
//! The others can at worst fail, in their completion.
//!
//! Descriptors are looked up when an entry is submitted. One that has been closed by then completes
//! with `EBADF`, and one whose number means another file by then acts on that file: keep it open.

use bitflags::bitflags;
use linux_raw_sys::io_uring as sys;
use sys::io_uring_op as kernel;

use super::abi::{SQE_FIXED_FILE, Sqe};
use crate::fd::{AsFd, RawFd};
use crate::io::PollFlags;
use crate::time::Timespec;

/// An operation's number, to ask a [`Probe`](super::Probe) about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "named after the constructors, which tell more")]
#[repr(u8)]
pub enum Op {
    Nop = kernel::IORING_OP_NOP as u8,
    ReadFixed = kernel::IORING_OP_READ_FIXED as u8,
    WriteFixed = kernel::IORING_OP_WRITE_FIXED as u8,
    PollAdd = kernel::IORING_OP_POLL_ADD as u8,
    PollRemove = kernel::IORING_OP_POLL_REMOVE as u8,
    Timeout = kernel::IORING_OP_TIMEOUT as u8,
    TimeoutRemove = kernel::IORING_OP_TIMEOUT_REMOVE as u8,
    AsyncCancel = kernel::IORING_OP_ASYNC_CANCEL as u8,
    LinkTimeout = kernel::IORING_OP_LINK_TIMEOUT as u8,
    Read = kernel::IORING_OP_READ as u8,
    Write = kernel::IORING_OP_WRITE as u8,
}

/// A target by descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fd(RawFd);

impl Fd {
    /// The descriptor behind `fd`, which is not kept open by this.
    #[must_use]
    pub fn new(fd: &impl AsFd) -> Self {
        Self(fd.as_fd().as_raw())
    }
}

/// A target by its index in the files registered with
/// [`Ring::register_files`](super::Ring::register_files).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fixed(pub u32);

/// What an operation acts on: [`Fd`] or [`Fixed`].
pub trait Target: sealed::Sealed {}

impl Target for Fd {}
impl Target for Fixed {}

mod sealed {
    /// The number in the entry's target field, and the flag that tells what it means.
    pub trait Sealed {
        fn encode(self) -> (i32, u8);
    }

    impl Sealed for super::Fd {
        fn encode(self) -> (i32, u8) {
            (self.0, 0)
        }
    }

    impl Sealed for super::Fixed {
        fn encode(self) -> (i32, u8) {
            // An index past i32 is past every table as well: the kernel answers EBADF.
            (self.0.cast_signed(), super::SQE_FIXED_FILE)
        }
    }
}

/// Where in a file to read or write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Position {
    /// At the file's own position, which moves, as with `read(2)`; the only one that pipes, sockets
    /// and terminals have. Needs [`Features::RW_CUR_POS`](super::Features::RW_CUR_POS).
    Current,
    /// At this many bytes from the start; the file's own position stays.
    At(u64),
}

impl Position {
    fn encode(self) -> u64 {
        match self {
            Self::Current => u64::MAX,
            // The kernel takes it as signed and refuses what is negative with EINVAL; the one
            // value that means something else must not get there.
            Self::At(offset) => offset.min(u64::MAX - 1),
        }
    }
}

bitflags! {
    /// How a [`timeout`] counts.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct TimeoutFlags: u32 {
        /// The time is a point of the clock, not a span from now. Since Linux 5.5.
        const ABS = sys::IORING_TIMEOUT_ABS;
        /// The clock goes on while the machine sleeps. Since Linux 5.15.
        const BOOTTIME = sys::IORING_TIMEOUT_BOOTTIME;
    }
}

#[cfg(not(target_endian = "little"))]
compile_error!("poll events are 16 bits for old kernels and 32 for new ones: swap the halves here");

/// An entry with everything zero but its operation.
fn blank(op: Op) -> Sqe {
    Sqe {
        opcode: op as u8,
        flags: 0,
        ioprio: 0,
        fd: -1,
        off: 0,
        addr: 0,
        len: 0,
        op_flags: 0,
        user_data: 0,
        buf_index: 0,
        personality: 0,
        file_index: 0,
        addr3: 0,
        pad: 0,
    }
}

fn targeted(op: Op, target: impl Target) -> Sqe {
    let (fd, flags) = sealed::Sealed::encode(target);
    Sqe {
        fd,
        flags,
        ..blank(op)
    }
}

/// The address that goes into an entry. Exposed, since the kernel's writes come through it.
fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

/// Does nothing and completes with zero. Since Linux 5.1.
pub fn nop() -> Sqe {
    blank(Op::Nop)
}

/// Reads up to `len` bytes into `into`; completes with the number read, zero at the end.
/// Since Linux 5.6.
///
/// # Safety
///
/// From the push until the completion is reaped, or the entry is given up unsubmitted, the `len`
/// bytes must stay valid for writes, and nothing else may access them.
pub unsafe fn read(target: impl Target, into: *mut u8, len: u32, at: Position) -> Sqe {
    Sqe {
        off: at.encode(),
        addr: address(into.cast_const()),
        len,
        ..targeted(Op::Read, target)
    }
}

/// Writes up to `len` bytes from `from`; completes with the number written. Since Linux 5.6.
///
/// A pipe or socket without a reader is `EPIPE`, and `SIGPIPE` is raised as by `write(2)`.
///
/// # Safety
///
/// From the push until the completion is reaped, or the entry is given up unsubmitted, the `len`
/// bytes must stay valid for reads, and nothing may write to them.
pub unsafe fn write(target: impl Target, from: *const u8, len: u32, at: Position) -> Sqe {
    Sqe {
        off: at.encode(),
        addr: address(from),
        len,
        ..targeted(Op::Write, target)
    }
}

/// As [`read`], into a part of registered buffer number `buffer`. Since Linux 5.1, at
/// [`Position::Current`] since 5.6.
///
/// Completes with `EFAULT` if the part is not inside that buffer.
///
/// # Safety
///
/// As for [`read`].
pub unsafe fn read_fixed(
    target: impl Target,
    buffer: u16,
    into: *mut u8,
    len: u32,
    at: Position,
) -> Sqe {
    Sqe {
        off: at.encode(),
        addr: address(into.cast_const()),
        len,
        buf_index: buffer,
        ..targeted(Op::ReadFixed, target)
    }
}

/// As [`write()`], from a part of registered buffer number `buffer`. Since Linux 5.1, at
/// [`Position::Current`] since 5.6.
///
/// Completes with `EFAULT` if the part is not inside that buffer.
///
/// # Safety
///
/// As for [`write()`].
pub unsafe fn write_fixed(
    target: impl Target,
    buffer: u16,
    from: *const u8,
    len: u32,
    at: Position,
) -> Sqe {
    Sqe {
        off: at.encode(),
        addr: address(from),
        len,
        buf_index: buffer,
        ..targeted(Op::WriteFixed, target)
    }
}

/// Waits once for any of `events`; completes with the bits of the [`PollFlags`] that were found.
/// Since Linux 5.1.
pub fn poll_add(target: impl Target, events: PollFlags) -> Sqe {
    Sqe {
        op_flags: events.bits().into(),
        ..targeted(Op::PollAdd, target)
    }
}

/// Cancels the poll that was submitted with `user_data`. Since Linux 5.1.
///
/// Completes with zero, the poll with `ECANCELED`; `ENOENT` if there is no such poll, `EALREADY`
/// if it is completing. On 5.10 its `ENOENT` breaks no link.
pub fn poll_remove(user_data: u64) -> Sqe {
    Sqe {
        addr: user_data,
        ..blank(Op::PollRemove)
    }
}

/// Completes with `ETIME` after `time`, or with zero once `completions` others have completed;
/// zero of them is time alone. Since Linux 5.4.
///
/// `EINVAL` for a negative time, which 5.10 takes for one that never ends.
///
/// # Safety
///
/// `time` must stay valid for reads until the entry has been submitted, or is given up.
pub unsafe fn timeout(time: *const Timespec, completions: u32, flags: TimeoutFlags) -> Sqe {
    Sqe {
        off: u64::from(completions),
        addr: address(time),
        len: 1,
        op_flags: flags.bits(),
        ..blank(Op::Timeout)
    }
}

/// Cancels the timeout that was submitted with `user_data`. Since Linux 5.5.
///
/// Completes with zero, the timeout with `ECANCELED`; `ENOENT` if there is no such timeout, `EBUSY`
/// or `EALREADY` if it is completing.
pub fn timeout_remove(user_data: u64) -> Sqe {
    Sqe {
        addr: user_data,
        ..blank(Op::TimeoutRemove)
    }
}

/// Cancels the operation that was submitted with `user_data`, if it still can be. Since Linux 5.5.
///
/// Completes with zero, the operation with `ECANCELED`; `ENOENT` if there is no such operation,
/// `EALREADY` if it runs: it is interrupted then and completes with `EINTR`, or as it would have.
/// In each case the operation's own completion still comes, and must be awaited.
pub fn async_cancel(user_data: u64) -> Sqe {
    Sqe {
        addr: user_data,
        ..blank(Op::AsyncCancel)
    }
}

/// Cancels the operation before it, which must carry
/// [`IO_LINK`](super::SqeFlags::IO_LINK), unless it completes within `time`. Since Linux 5.5.
///
/// Completes with `ETIME` if it cancelled, otherwise with `ECANCELED`.
///
/// # Safety
///
/// `time` must stay valid for reads until the entry has been submitted, or is given up.
pub unsafe fn link_timeout(time: *const Timespec, flags: TimeoutFlags) -> Sqe {
    Sqe {
        addr: address(time),
        len: 1,
        op_flags: flags.bits(),
        ..blank(Op::LinkTimeout)
    }
}

// The kernel reads two 64-bit words through a timeout's address.
const _: () = assert!(size_of::<Timespec>() == size_of::<sys::__kernel_timespec>());
const _: () = assert!(align_of::<Timespec>() == align_of::<sys::__kernel_timespec>());
