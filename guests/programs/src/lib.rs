//! What the built-in guest programs consist of.
//!
//! The programs in `bin` are a few lines each; the work is done here, without a standard library
//! and apart from the outside world, so that ordinary tests reach all of it. `misdeeds` alone is
//! compiled for guests only: it does what no other program should.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod crc32;
pub mod gzip;
#[cfg(cellwall_freestanding)]
pub mod misdeeds;
pub mod png;
pub mod streams;
