//! The descriptors that a worker starts with, by number. It closes all of them.

/// The host page's memfd, opened read-only.
pub const HOST_PAGE: i32 = 0;
/// The memfd of turn page and guest page, in this order.
pub const SHARED_PAGES: i32 = 1;
/// The instance's memory: file offset is guest address.
pub const MEMORY: i32 = 2;
/// The module's sealed memfd, opened read-only.
pub const MODULE: i32 = 3;
/// A pidfd of the host: readable once the host is dead.
pub const HOST_PIDFD: i32 = 4;
/// How many there are; everything from this number on is closed before exec.
pub const COUNT: i32 = 5;
