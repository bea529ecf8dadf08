//! The ring: where host and nursery talk. No worker has it mapped.
//!
//! One request at a time: the host writes the words of its line and then counts `request` up; the
//! nursery does what is asked, writes its own line, and says so in `answer`. Both counters are
//! futexes. The nursery judges what it reads as the host judges a worker's words.

use core::mem::{offset_of, size_of};
use core::sync::atomic::AtomicU32;

use static_assertions::const_assert;

use crate::{LINE_BYTES, PAGE_BYTES};

/// How many workers a nursery can have at once: each has a place among the pages.
pub const WORKERS_MAX: u32 = 16 * 1024;

/// How many ends are told at once.
pub const ENDS_MAX: usize = 240;

/// What the host may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Request {
    /// A worker: `place`, `memory`, `module`, `code`.
    Spawn = 1,
    /// Take the descriptor that waits in the socket, under the number in `place`.
    Adopt = 2,
    /// Close the descriptor whose number is in `place`.
    Close = 3,
    /// Send the descriptor whose number is in `place` over the socket, and close it.
    Send = 4,
    /// Reap the workers that have ended, and tell of them.
    Reap = 5,
    /// Kill the worker whose pidfd has the number in `place`, and wait for its end: nobody else
    /// can.
    Kill = 6,
}

impl Request {
    /// The request with this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Spawn,
            2 => Self::Adopt,
            3 => Self::Close,
            4 => Self::Send,
            5 => Self::Reap,
            6 => Self::Kill,
            _ => return None,
        })
    }
}

/// The page.
#[repr(C, align(4096))]
pub struct Ring {
    /// What the host writes.
    pub host: HostLine,
    /// What the nursery writes.
    pub nursery: NurseryLine,
    /// Workers that have ended, as many as `count` says.
    pub ends: [End; ENDS_MAX],
}

/// A request.
#[repr(C, align(64))]
pub struct HostLine {
    /// Counts requests. The nursery sleeps on it.
    pub request: AtomicU32,
    /// A [`Request`].
    pub what: AtomicU32,
    /// The worker's place among the pages; or a descriptor's number.
    pub place: AtomicU32,
    /// The number of the instance's memory.
    pub memory: AtomicU32,
    /// The number of the module's memfd.
    pub module: AtomicU32,
    /// The number of the instance's own code; 0 if it has none.
    pub code: AtomicU32,
    /// Not 0 if the host sleeps on `answer`.
    pub sleeps: AtomicU32,
}

/// An answer.
#[repr(C, align(64))]
pub struct NurseryLine {
    /// The `request` that is answered: 1 stands for "ready", before the first. The host sleeps on
    /// it.
    pub answer: AtomicU32,
    /// Why it was refused: an errno, or 0.
    pub errno: AtomicU32,
    /// The number of the system call that refused.
    pub call: AtomicU32,
    /// The new worker's number in the nursery's pid namespace.
    pub pid: AtomicU32,
    /// The number of its pidfd in the nursery.
    pub pidfd: AtomicU32,
    /// How many ends are told.
    pub count: AtomicU32,
}

/// How a worker ended.
#[repr(C)]
pub struct End {
    /// Its number in the nursery's pid namespace.
    pub pid: AtomicU32,
    /// The signal that killed it, or 0.
    pub signal: AtomicU32,
    /// Its exit status, if none did.
    pub status: AtomicU32,
    reserved: AtomicU32,
}

/// What `answer` says before the first request, whose number follows.
pub const READY: u32 = 1;

const_assert!(offset_of!(Ring, nursery) == LINE_BYTES);
const_assert!(offset_of!(Ring, ends) == 2 * LINE_BYTES);
const_assert!(size_of::<Ring>() as u64 == PAGE_BYTES);
