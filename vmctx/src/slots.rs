//! The descriptors that a worker starts with, by number. It closes all of them. The
//! last two need not be there.

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
