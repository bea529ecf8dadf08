//! The descriptors that a process of ours starts with, by number.
//!
//! A worker that the host starts itself has those of the first list, of which the last two need not
//! be there. A nursery has those of [`nursery`], and its workers share its table until they close
//! all of it for themselves.

/// The host page's memfd, opened read-only.
pub const HOST_PAGE: i32 = 0;
/// The memfd of [`map::SHARED`](crate::map::SHARED).
pub const SHARED_PAGES: i32 = 1;
/// The instance's memory: file offset is guest address.
pub const MEMORY: i32 = 2;
/// The module's sealed memfd, opened read-only.
pub const MODULE: i32 = 3;
/// A pidfd of the host: readable once the host is dead.
pub const HOST_PIDFD: i32 = 4;
/// A socket: the worker sends its userfaultfd over it, if it is told to make one.
pub const PAGING: i32 = 5;
/// The instance's own code, opened read-only: file offset is the distance from the start of the
/// code window.
pub const CODE: i32 = 6;
/// How many there are; everything from this number on is closed before exec.
pub const COUNT: i32 = 7;

/// The descriptors of a nursery. Its own pages and the host's pidfd are where a worker has them.
pub mod nursery {
    use core::ops::Range;

    /// The memfd of the [`Ring`](crate::Ring).
    pub const RING: i32 = super::MEMORY;
    /// The host pages of all workers, one after the other, opened read-only.
    pub const HOST_PAGES: i32 = super::MODULE;
    /// A socket: descriptors for workers come over it.
    pub const SOCKET: i32 = super::PAGING;
    /// What each worker shares with the host, one after the other: `SHARED_BYTES` each.
    pub const SHARED_PAGES: i32 = super::CODE;
    /// Where a worker's pidfd and its userfaultfd are for the host to fetch, until its next
    /// request.
    pub const FRESH: Range<i32> = super::COUNT..16;
    /// Where descriptors are that the host has handed over, until it takes them back.
    pub const ADOPTED: Range<i32> = 16..1 << 20;
}
