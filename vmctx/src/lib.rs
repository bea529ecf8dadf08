//! The protocol between a Cellwall host and its workers, on one screen.
//!
//! Host and worker talk through three shared pages at fixed addresses and nothing else:
//!
//! | page | who writes | what |
//! |---|---|---|
//! | [`HostPage`] | host; the worker reads | entry, stack, spin counts, options, memory map |
//! | [`TurnPage`] | both | one cache line: state, hostcall number, arguments, answer |
//! | [`GuestPage`] | worker, hence the guest | lock-down step, layers, fault report, gas |
//!
//! A nursery, which clones workers, has one more: the [`Ring`], by which the host asks for them.
//!
//! A turn changes hands by an exchange of the state word ([`StateWord`]), which is also the one
//! futex of the conversation. What may follow what is decided by [`State::may_follow`].
//! The host reads every word that a worker can write as an [`Alleged`] value.
//!
//! This crate holds no unsafe code and depends on nothing of ours: it is types, constants and
//! checks that break the build when a word moves.
#![no_std]
#![forbid(unsafe_code)]

pub mod alleged;
pub mod guest_page;
pub mod host_page;
pub mod layer;
pub mod map;
pub mod native;
pub mod ring;
pub mod slots;
pub mod state;
pub mod step;
pub mod turn;

pub use alleged::{Alleged, Forged};
pub use guest_page::{Fault, Gas, GuestPage, LastWords};
pub use host_page::{HostPage, Options, Region, RegionFlags};
pub use layer::{Layer, LayerNeed, LayerSet, Tier};
pub use ring::Ring;
pub use state::{State, StateWord};
pub use step::Step;
pub use turn::{HOSTCALL_ARGS, TurnLine, TurnPage};

/// Raised whenever a word moves or changes its meaning. The worker refuses any other.
pub const VERSION: u32 = 6;

/// The signal that takes the thread away from a guest: `SIGUSR1`. Its handler wipes the frame and
/// waits for an order to enter.
pub const EVICTION: u32 = 10;

/// The signal that stops a guest where it is: `SIGUSR2`. Its handler reports and waits for an
/// order; where it finds itself in the zygote's own code it goes on as if nothing had been. After
/// an eviction it is one too.
pub const INTERRUPTION: u32 = 12;

/// The page size of every architecture and kernel that we run on, in bytes.
pub const PAGE_BYTES: u64 = 4096;

/// The cache line size that the layouts below are made for, in bytes.
pub const LINE_BYTES: usize = 64;
