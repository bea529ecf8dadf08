//! Cellwall runs machine code that nobody trusts: in a process without libc, files, network or
//! privileges, with three system calls left, and gives every hostcall, trap, deadline and death
//! back as a value.
//!
//! ```
//! use cellwall::{Config, Engine, Interrupt, Module};
//!
//! let engine = Engine::new(&Config::default())?;
//! let add = [0x48, 0x8d, 0x04, 0x37, 0xc3]; // lea rax, [rdi + rsi]; ret
//! let module = Module::builder().code(&add).stack(0x10_0000, 0x1_0000).build(&engine)?;
//! let mut instance = engine.instantiate(&module)?;
//! instance.call(module.entry(), &[40, 2])?;
//! assert_eq!(instance.run()?, Interrupt::Finished(42));
//! # Ok::<(), cellwall::Error>(())
//! ```
//!
//! An [`Engine`] starts workers, a [`Module`] is a verified guest, an [`Instance`] is one guest in
//! one worker, and [`Instance::run`] returns an [`Interrupt`]. [`native`] runs whole programs.
//!
//! What a guest does wrong is an [`Interrupt`] too. [`Blame::Forged`] is the exception: an attack
//! on its worker is an [`Error`]. The blame picks the reaction:
//!
//! ```
//! use cellwall::{Blame, Error, Misuse};
//!
//! /// Whether the host can go on with its other guests.
//! fn goes_on(error: &Error) -> bool {
//!     eprintln!("{error}");
//!     match error.blame {
//!         // The guest attacked. Its worker is dead: drop the instance.
//!         Blame::Forged(_) => true,
//!         // An address of the guest's that was passed on: answer the guest with an error.
//!         Blame::Caller(Misuse::OutOfBounds { .. }) => true,
//!         // A start that failed: try again later.
//!         Blame::Timeout { .. } | Blame::Died(_) => true,
//!         // A bug of the host's, or a kernel that refuses: the text says what to do.
//!         _ => false,
//!     }
//! }
//! # let engine = cellwall::Engine::new(&cellwall::Config::default())?;
//! # assert!(!goes_on(&cellwall::Module::builder().build(&engine).unwrap_err()));
//! # Ok::<(), Error>(())
//! ```
//!
//! In the repository, `README.md` says what there is and what it needs, `docs/embedding.md` is the
//! guide for embedders, `docs/abi.md` is the contract for generated code, and
//! `docs/threat-model.md` says what the wall stops and what it does not.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct EmbeddingGuide;

pub mod abi;
mod advice;
mod bell;
mod cgroup;
mod config;
mod copy;
mod core;
mod deadline;
mod engine;
mod error;
mod identity;
mod instance;
mod interrupt;
#[cfg(cellwall_layer_switch)]
mod layer_switch;
mod layers;
mod lineage;
mod mapping;
mod memfd;
mod memory;
mod metrics;
mod module;
pub mod native;
mod nursery;
mod pager;
mod pool;
mod ports;
mod probe;
mod process;
mod profile;
mod reactor;
mod renewal;
mod spawn;
mod start;
mod turn;
mod ways;
mod wishes;
mod worker;
mod zygote_image;

/// What the fuzz targets drive that embedders cannot: cargo-fuzz builds with `--cfg fuzzing`.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    /// One script of the target `turn`.
    pub fn conversation(script: &[u8]) {
        let _turns = crate::turn::hostile::conversation(script);
    }
}

// An embedder moves instances between threads and shares engines and modules.
static_assertions::assert_impl_all!(Engine: Send, Sync, Clone);
static_assertions::assert_impl_all!(Module: Send, Sync, Clone);
static_assertions::assert_impl_all!(Instance: Send, Sync);
static_assertions::assert_impl_all!(InterruptHandle: Send, Sync, Clone);
static_assertions::assert_impl_all!(Snapshot: Send, Sync, Clone);
static_assertions::assert_impl_all!(Template: Send, Sync, Clone);
static_assertions::assert_impl_all!(native::Program: Send, Sync, Clone);
static_assertions::assert_impl_all!(Config: Send, Sync, Clone);
static_assertions::assert_impl_all!(Kernel: Send, Sync, Clone);
static_assertions::assert_impl_all!(Error: Send, Sync, std::error::Error);

pub use linux_raw::Errno;
pub use linux_raw::signal::Signal;
pub use vmctx::{Forged, Layer, LayerNeed, Step, Tier};

pub use bell::InterruptHandle;
pub use cgroup::Cgroup;
pub use config::{Config, Waiting};
pub use engine::Engine;
pub use error::{Blame, Error, Misuse, RegionFault, Stage};
pub use instance::Instance;
pub use interrupt::{Access, Death, Hostcall, Interrupt, PageFault, Trap, TrapKind};
pub use layers::{Layers, Standing};
pub use memory::snapshot::{Snapshot, SnapshotError};
pub use memory::template::Template;
pub use memory::{MemoryStats, Word};
pub use metrics::{Kills, Latencies, Metrics};
pub use module::elf;
pub use module::{Module, ModuleBuilder, Protection};
pub use pager::{Paged, Pager};
pub use pool::PoolConfig;
pub use probe::{
    Feature, Finding, Kernel, Manager, Need, Obstacle, Support, Surroundings, Version,
};
pub use profile::StepTime;
pub use ways::{Shortfall, Without};
