//! `io_uring` by hand: queues shared with the kernel, filled and emptied without system calls.
//!
//! Two layers:
//!
//! - [`Transfer`] reads and writes with deadlines, one transfer at a time, safely, with or without
//!   a ring.
//! - [`Ring`] is the raw thing: [`push`](Ring::push) entries made by [`op`], submit and wait, reap
//!   [`completions`](Ring::completions).
//!
//! What the raw layer asks of its user:
//!
//! - memory given to an operation stays valid until that operation's completion has been reaped.
//!   Neither cancelling nor dropping the ring is a substitute (see [`Ring`]);
//! - completions are reaped often enough. Those that find the queue full are kept by the kernel
//!   ([`Features::NODROP`]) and brought in by later calls, while it has memory for them.
//!
//! No ring here has a kernel thread that polls it, so the kernel looks at the submission queue only
//! when it is called, and an entry that was pushed can still be taken back.
//!
//! | file | idea |
//! |---|---|
//! | `abi` | entries, flags and layouts, asserted |
//! | `calls` | the three system calls |
//! | `mapping` | memory shared with the kernel, and who may touch it after a fork |
//! | `ring` | setting up and taking down |
//! | `op` | one constructor per operation |
//! | `submit` | the submission queue |
//! | `wait` | waiting, with an end to it |
//! | `complete` | the completion queue |
//! | `register`, `probe` | files and buffers; what the kernel knows |
//! | `flight` | one operation from submission to completion |
//! | `io`, `plain` | transfers: over a ring, and without |
//! | `clock` | deadlines |

mod abi;
mod calls;
mod clock;
mod complete;
mod flight;
mod io;
mod mapping;
pub mod op;
mod plain;
mod probe;
mod register;
mod ring;
mod submit;
mod wait;

pub use abi::{Cqe, CqeFlags, Features, RESERVED_USER_DATA, SetupFlags, Sqe, SqeFlags};
pub use complete::Completions;
pub use io::{TRANSFER_BYTES_MAX, Transfer};
pub use probe::Probe;
pub use register::{Buffer, FileSlot};
pub use ring::{Ring, Setup};
pub use submit::Full;
