//! What the kernel and the ring's owner share: entries, flags, and the layouts they must have.
//!
//! [`Sqe`] and [`Cqe`] are flat mirrors of the kernel's structs, whose unions hide which field an
//! operation means; every offset is asserted against the generated originals.

use core::mem::offset_of;

use bitflags::bitflags;
use linux_raw_sys::io_uring as sys;
use static_assertions::assert_not_impl_any;
use sys::io_uring_sqe_flags_bit as bit;

use crate::errno::Errno;

bitflags! {
    /// How a ring behaves (`IORING_SETUP_*`): only what this module supports.
    ///
    /// What changes the rings' geometry (128-byte entries, caller-supplied memory) or lets a
    /// kernel thread read the submission queue at any time is left out on purpose.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct SetupFlags: u32 {
        /// Numbers of entries that are too large become the largest that the kernel allows,
        /// instead of `EINVAL`. Since Linux 5.6.
        const CLAMP = sys::IORING_SETUP_CLAMP;
        /// An entry that is refused does not keep those after it from being submitted.
        /// Since Linux 5.18.
        const SUBMIT_ALL = sys::IORING_SETUP_SUBMIT_ALL;
        /// Completions do not interrupt a running thread; they are made at its next system call.
        /// Since Linux 5.19.
        const COOP_TASKRUN = sys::IORING_SETUP_COOP_TASKRUN;
        /// The kernel tells in the ring that such completions are waiting. Since Linux 5.19.
        const TASKRUN_FLAG = sys::IORING_SETUP_TASKRUN_FLAG;
        /// One thread alone submits, the one that made the ring: another gets `EEXIST`.
        /// Since Linux 6.0.
        const SINGLE_ISSUER = sys::IORING_SETUP_SINGLE_ISSUER;
        /// Completions are made only when the issuer waits for them; needs
        /// [`SINGLE_ISSUER`](Self::SINGLE_ISSUER). Since Linux 6.1.
        const DEFER_TASKRUN = sys::IORING_SETUP_DEFER_TASKRUN;
    }
}

bitflags! {
    /// What the running kernel's rings can do (`IORING_FEAT_*`).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Features: u32 {
        /// Both rings are in one mapping. Since Linux 5.4.
        const SINGLE_MMAP = sys::IORING_FEAT_SINGLE_MMAP;
        /// Completions that find the queue full are kept, not dropped. Since Linux 5.5.
        const NODROP = sys::IORING_FEAT_NODROP;
        /// What an entry points to, data buffers apart, may change once it is submitted.
        /// Since Linux 5.5.
        const SUBMIT_STABLE = sys::IORING_FEAT_SUBMIT_STABLE;
        /// Reads and writes can use the file's own position. Since Linux 5.6.
        const RW_CUR_POS = sys::IORING_FEAT_RW_CUR_POS;
        /// What would block is armed on the file's wait queue, without a thread. Since Linux 5.7.
        const FAST_POLL = sys::IORING_FEAT_FAST_POLL;
        /// Poll events have 32 bits. Since Linux 5.9.
        const POLL_32BITS = sys::IORING_FEAT_POLL_32BITS;
        /// Waiting takes a timeout as an argument. Since Linux 5.11.
        const EXT_ARG = sys::IORING_FEAT_EXT_ARG;
        /// Operations that need a thread run on one of ours, with our credentials.
        /// Since Linux 5.12.
        const NATIVE_WORKERS = sys::IORING_FEAT_NATIVE_WORKERS;

        // Kernels may say more than is named here; it is kept.
        const _ = !0;
    }
}

bitflags! {
    /// How an entry is treated, whatever its operation (`IOSQE_*`).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct SqeFlags: u8 {
        /// Starts when everything submitted before it has completed. Since Linux 5.2.
        const IO_DRAIN = 1 << bit::IOSQE_IO_DRAIN_BIT as u8;
        /// The next entry of the same submission starts when this one has succeeded in full;
        /// otherwise it completes with `ECANCELED`. Since Linux 5.3.
        const IO_LINK = 1 << bit::IOSQE_IO_LINK_BIT as u8;
        /// As [`IO_LINK`](Self::IO_LINK), whatever the outcome. Since Linux 5.5.
        const IO_HARDLINK = 1 << bit::IOSQE_IO_HARDLINK_BIT as u8;
        /// Goes to a kernel thread without being tried first. Since Linux 5.6.
        const ASYNC = 1 << bit::IOSQE_ASYNC_BIT as u8;
    }
}

/// `IOSQE_FIXED_FILE`: the target is an index of the registered files. Since Linux 5.1.
pub(super) const SQE_FIXED_FILE: u8 = 1 << bit::IOSQE_FIXED_FILE_BIT as u8;

bitflags! {
    /// What a completion says beside its result (`IORING_CQE_F_*`).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct CqeFlags: u32 {
        /// The upper 16 bits name a provided buffer. Since Linux 5.7.
        const BUFFER = sys::IORING_CQE_F_BUFFER;
        /// The operation goes on and will complete again. Since Linux 5.13.
        const MORE = sys::IORING_CQE_F_MORE;
        /// The socket has more to read. Since Linux 5.19.
        const SOCK_NONEMPTY = sys::IORING_CQE_F_SOCK_NONEMPTY;

        // Buffer numbers and what newer kernels add; it is kept.
        const _ = !0;
    }
}

bitflags! {
    /// What the kernel says in the submission ring's flag word (`IORING_SQ_*`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) struct SqFlags: u32 {
        /// Completions are kept outside the full completion queue. Since Linux 5.8.
        const CQ_OVERFLOW = sys::IORING_SQ_CQ_OVERFLOW;
        /// Completions wait for the next system call. Since Linux 5.19.
        const TASKRUN = sys::IORING_SQ_TASKRUN;

        const _ = !0;
    }
}

bitflags! {
    /// What `io_uring_enter` is asked to do (`IORING_ENTER_*`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) struct EnterFlags: u32 {
        /// Wait for completions, and bring in those that overflowed. Since Linux 5.1.
        const GETEVENTS = sys::IORING_ENTER_GETEVENTS;
        /// The argument is a `struct io_uring_getevents_arg`. Since Linux 5.11.
        const EXT_ARG = sys::IORING_ENTER_EXT_ARG;
    }
}

/// The first of the values that a ring keeps for itself; see [`Sqe::with_user_data`].
pub const RESERVED_USER_DATA: u64 = 0xffff_ffff_0000_0000;

/// One submission queue entry: an operation, made by a constructor in [`op`](super::op).
///
/// Neither `Copy` nor `Clone`: a constructor's promise about memory covers one submission.
#[derive(Debug)]
#[must_use = "an entry does nothing until it is pushed and submitted"]
#[repr(C)]
pub struct Sqe {
    pub(super) opcode: u8,
    pub(super) flags: u8,
    pub(super) ioprio: u16,
    pub(super) fd: i32,
    /// Or a second address.
    pub(super) off: u64,
    pub(super) addr: u64,
    pub(super) len: u32,
    pub(super) op_flags: u32,
    pub(super) user_data: u64,
    pub(super) buf_index: u16,
    pub(super) personality: u16,
    pub(super) file_index: u32,
    pub(super) addr3: u64,
    pub(super) pad: u64,
}

assert_not_impl_any!(Sqe: Copy, Clone);

impl Sqe {
    /// The value that comes back in the completion; zero if never set.
    ///
    /// Values from [`RESERVED_USER_DATA`] up belong to the ring: on kernels without
    /// [`Features::EXT_ARG`] completions that carry them are not shown.
    pub const fn with_user_data(mut self, user_data: u64) -> Self {
        self.user_data = user_data;
        self
    }

    /// Adds `flags`.
    ///
    /// A chain made of links must be pushed whole and submitted at once:
    /// [`Ring::free_entries`](super::Ring::free_entries) tells whether there is room for it.
    pub const fn with_flags(mut self, flags: SqeFlags) -> Self {
        self.flags |= flags.bits();
        self
    }
}

/// One completion queue entry: what became of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Cqe {
    user_data: u64,
    result: i32,
    flags: u32,
}

impl Cqe {
    /// What [`Sqe::with_user_data`] set.
    #[must_use]
    pub const fn user_data(&self) -> u64 {
        self.user_data
    }

    /// The operation's answer: bytes moved, events, zero.
    ///
    /// # Errors
    ///
    /// What the operation failed with. `ECANCELED`: it was cancelled, or a link before it broke.
    pub fn result(&self) -> Result<u32, Errno> {
        // An i32 fits a 64-bit isize; errors are negated as those of system calls are.
        u32::try_from(self.result).map_err(|_| {
            let negated = isize::try_from(self.result).unwrap_or(isize::MIN);
            Errno::from_return(negated).unwrap_or(Errno::EPROTO)
        })
    }

    /// What else the kernel says.
    #[must_use]
    pub const fn flags(&self) -> CqeFlags {
        CqeFlags::from_bits_retain(self.flags)
    }
}

same_layout!(Sqe, sys::io_uring_sqe:
    opcode = opcode,
    flags = flags,
    ioprio = ioprio,
    fd = fd,
    off = __bindgen_anon_1,
    addr = __bindgen_anon_2,
    len = len,
    op_flags = __bindgen_anon_3,
    user_data = user_data,
    buf_index = __bindgen_anon_4,
    personality = personality,
    file_index = __bindgen_anon_5,
    addr3 = __bindgen_anon_6,
);
const _: () = assert!(size_of::<Sqe>() == 64 && offset_of!(Sqe, pad) == 56);

same_layout!(Cqe, sys::io_uring_cqe: user_data = user_data, result = res, flags = flags);
const _: () = assert!(size_of::<Cqe>() == 16);

// The generated structs that are used as they are: what the kernel's copy_from_user takes.
const _: () = assert!(size_of::<sys::io_uring_params>() == 120);
const _: () = assert!(offset_of!(sys::io_uring_params, features) == 20);
const _: () = assert!(offset_of!(sys::io_uring_params, sq_off) == 40);
const _: () = assert!(offset_of!(sys::io_uring_params, cq_off) == 80);
const _: () = assert!(size_of::<sys::io_sqring_offsets>() == 40);
const _: () = assert!(size_of::<sys::io_cqring_offsets>() == 40);
const _: () = assert!(size_of::<sys::io_uring_getevents_arg>() == 24);
const _: () = assert!(offset_of!(sys::io_uring_getevents_arg, ts) == 16);
const _: () = assert!(size_of::<sys::io_uring_probe_op>() == 8);
const _: () = assert!(size_of::<sys::io_uring_probe>() == 16);
const _: () = assert!(size_of::<sys::io_uring_rsrc_update>() == 16);

#[cfg(test)]
impl Cqe {
    /// A success with this user data.
    pub(super) const fn of(user_data: u64) -> Self {
        Self {
            user_data,
            result: 0,
            flags: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cqe, Errno};

    #[test]
    fn results() {
        let cqe = |result| Cqe {
            result,
            ..Cqe::of(0)
        };
        assert_eq!(cqe(0).result(), Ok(0));
        assert_eq!(cqe(i32::MAX).result(), Ok(0x7fff_ffff));
        assert_eq!(cqe(-32).result(), Err(Errno::EPIPE));
        assert_eq!(cqe(i32::MIN).result(), Err(Errno::EPROTO));
    }
}
