//! What a native guest links: entry, hostcalls, heap, panics.
//!
//! A guest is a program without a standard library that talks to the world through the handles
//! that its host opened beforehand, and through nothing else:
//!
//! ```
//! #![cfg_attr(cellwall_freestanding, no_std, no_main)]
//!
//! use cellwall_guest::{Args, Handle, write_all};
//!
//! cellwall_guest::entry!(run);
//!
//! fn run(args: Args) -> u8 {
//!     for arg in args {
//!         if write_all(Handle::STDOUT, arg).is_err() {
//!             return 1;
//!         }
//!     }
//!     0
//! }
//! ```
//!
//! Built with `--cfg cellwall_freestanding` the program runs behind the wall. Built without, the
//! same source is an ordinary Linux program whose handles are its descriptors 0, 1 and 2: easy to
//! test, to debug and to compare with. `docs/guests.md` shows a whole guest, from an
//! empty folder to its first run.
//!
//! `alloc` works: a global allocator manages the heap that the host gave. When it is used up the
//! guest panics; `try_reserve` asks first. A panic gives its message to the host and ends the
//! guest with status 101.
#![no_std]

#[cfg(not(cellwall_freestanding))]
extern crate std;

mod args;
mod errno;
mod io;

#[cfg(any(cellwall_freestanding, test))]
mod heap;
#[cfg(any(cellwall_freestanding, test))]
mod intrinsics;
#[cfg(any(cellwall_freestanding, test))]
mod message;

#[cfg(cellwall_freestanding)]
mod global;
#[cfg(cellwall_freestanding)]
pub mod hostcall;
#[cfg(cellwall_freestanding)]
mod start;
#[cfg(cellwall_freestanding)]
mod unwind;

#[cfg(not(cellwall_freestanding))]
mod native;

pub use args::Args;
pub use errno::Errno;
pub use io::{Handle, exit, log, read, write, write_all};

#[cfg(not(cellwall_freestanding))]
#[doc(hidden)]
pub use native::run;

/// Makes a function of type `fn(Args) -> u8` the program's entry; it returns the exit status.
///
/// Call it once, at the root of the program, with a function that is not named `main`: an
/// ordinary build defines that one.
#[cfg(cellwall_freestanding)]
#[macro_export]
macro_rules! entry {
    ($run:path) => {
        const _: () = {
            #[unsafe(export_name = "cellwall_guest_run")]
            extern "Rust" fn cellwall_guest_run(args: $crate::Args) -> u8 {
                $run(args)
            }
        };
    };
}

/// Makes a function of type `fn(Args) -> u8` the program's entry; it returns the exit status.
///
/// Call it once, at the root of the program, with a function that is not named `main`: an
/// ordinary build defines that one.
#[cfg(not(cellwall_freestanding))]
#[macro_export]
macro_rules! entry {
    ($run:path) => {
        fn main() {
            $crate::run($run)
        }
    };
}
