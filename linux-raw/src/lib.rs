//! Linux system calls made by hand: no libc, no allocation, no globals.
//!
//! Every call that Cellwall makes for a sandbox goes through this crate, on both sides of the wall,
//! so its promises are small and checkable:
//!
//! - a wrapper makes exactly one system call unless its documentation says otherwise, never retries
//!   (an [`Errno::EINTR`](errno::Errno::EINTR) reaches the caller) and touches no memory but its
//!   arguments, which makes all of it usable in a child that shares its parent's memory;
//! - nothing here panics, allocates, unwinds or reads a global or thread-local variable; only the
//!   assembler of filters asserts, which breaks the build since it runs in const context;
//! - outside [`arch`] no argument of a system call is a bare register: [`arg::Arg`] is built from
//!   typed values, and only `arch` takes it apart;
//! - layouts that are defined here are asserted at compile time, and compared with the system's C
//!   headers by `tests/headers`, as is every number that is not generated.
//!
//! Architecture specifics (assembly, signal frames, the audit number) are in [`arch`], so that
//! another architecture is another file there.
#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::panic,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing
    )
)]

#[cfg(test)]
extern crate std;

#[macro_use]
mod layout;

pub mod arch;
pub mod arg;
pub mod auxv;
pub mod called;
mod clone;
pub mod cred;
pub mod errno;
pub mod eventfd;
pub mod fd;
pub mod futex;
pub mod io;
pub mod landlock;
mod limit;
pub mod membarrier;
pub mod memfd;
pub mod mm;
pub mod mount;
pub mod nr;
pub mod ns;
pub mod pidfd;
pub mod ports;
pub mod prctl;
pub mod process;
pub mod ptrace;
pub mod random;
pub mod scheduling;
pub mod seccomp;
mod siginfo;
pub mod signal;
pub mod socket;
mod text;
pub mod time;
pub mod uffd;
pub mod uring;

/// The kernel's generated names and structs, for what has no typed wrapper here.
pub use linux_raw_sys as sys;

pub use errno::Errno;
pub use fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
