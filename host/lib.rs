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

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct EmbeddingGuide;

pub mod abi;
mod advice;
mod config;
mod deadline;
mod engine;
mod error;
mod instance;
mod interrupt;
mod keeper;
mod mapping;
mod memfd;
mod memory;
mod module;
pub mod native;
mod probe;
mod spawn;
mod turn;
mod worker;
mod zygote_image;

// An embedder moves instances between threads and shares engines and modules.
static_assertions::assert_impl_all!(Engine: Send, Sync, Clone);
static_assertions::assert_impl_all!(Module: Send, Sync, Clone);
static_assertions::assert_impl_all!(Instance: Send);
static_assertions::assert_impl_all!(Error: Send, Sync, std::error::Error);

pub use linux_raw::Errno;
pub use linux_raw::signal::Signal;
pub use vmctx::{Forged, Step};

pub use config::Config;
pub use engine::Engine;
pub use error::{Blame, Error, Misuse, Stage};
pub use instance::Instance;
pub use interrupt::{Access, Death, Hostcall, Interrupt, Trap, TrapKind};
pub use module::elf;
pub use module::{Module, ModuleBuilder, Protection};
pub use probe::{Feature, Finding, Kernel, Need, Obstacle, Support, Version};
