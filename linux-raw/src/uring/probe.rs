#![expect(unsafe_code, reason = "lets the kernel fill a table")]
//! Asking which operations the kernel knows.

use core::fmt;
use core::mem::{self, offset_of};

use linux_raw_sys::io_uring as sys;
use sys::io_uring_register_op as kernel;

use super::calls;
use super::op::Op;
use super::ring::Ring;
use crate::arg::Arg;
use crate::errno::Errno;
use crate::fd::AsFd;

/// As many operations as a number of 8 bits can name, hence as the kernel accepts.
const OPS: u32 = 256;

/// The kernel's `struct io_uring_probe` with room for every operation.
#[repr(C)]
struct Table {
    header: sys::io_uring_probe,
    ops: [sys::io_uring_probe_op; OPS as usize],
}

const _: () = assert!(offset_of!(Table, ops) == offset_of!(sys::io_uring_probe, ops));
const _: () = assert!(size_of::<Table>() == 16 + 256 * 8);

/// Which operations the kernel knows.
pub struct Probe {
    table: Table,
}

impl Probe {
    /// Whether the kernel knows `op`.
    #[must_use]
    pub fn supports(&self, op: Op) -> bool {
        self.supports_number(op as u8)
    }

    /// Whether the kernel knows the operation with this number.
    #[must_use]
    pub fn supports_number(&self, op: u8) -> bool {
        self.table
            .ops
            .get(usize::from(op))
            .is_some_and(|entry| u32::from(entry.flags) & sys::IO_URING_OP_SUPPORTED != 0)
    }

    /// The highest operation number that the kernel knows.
    #[must_use]
    pub fn last(&self) -> u8 {
        self.table.header.last_op
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = (0..=self.last()).filter(|op| self.supports_number(*op));
        out.debug_set().entries(known).finish()
    }
}

impl Ring {
    /// Asks the kernel which operations it knows. Since Linux 5.6.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: a kernel before 5.6.
    /// - `ESTALE`: this process was forked from the ring's.
    /// - `ENOSYS`, `EPERM`: a filter forbids the call.
    pub fn probe(&self) -> Result<Probe, Errno> {
        self.owned()?;
        // SAFETY: the struct is plain numbers, and the kernel wants it zeroed.
        let mut table: Table = unsafe { mem::zeroed() };
        // SAFETY: the kernel fills in at most `OPS` elements after the header.
        let answer = unsafe {
            calls::register(
                self.as_fd(),
                kernel::IORING_REGISTER_PROBE,
                Arg::from(&raw mut table),
                OPS,
            )
        };
        answer.map(|_| Probe { table })
    }
}
