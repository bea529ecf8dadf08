//! Builds freestanding images (no libc, no standard library) from the source in this workspace.
//!
//! A nested `cargo build` with the caller's own toolchain makes them, for the zygote and for the
//! guest programs alike, so that no built executable has to lie in the repository. The bytes depend
//! on the sources and the toolchain alone: two checkouts in different folders give the same image.
//!
//! - [`build`] runs the build,
//! - [`watch`] tells cargo which sources a build script's images depend on,
//! - [`check`] reads an image and refuses what the jail could not rely on.
//!
//! Crates see `cfg(cellwall_freestanding)` in such a build and only there, so that the same
//! sources also compile as ordinary programs, for tests, clippy and comparison.

use std::path::{Path, PathBuf};

pub mod check;
mod error;
mod flags;
mod nested;
mod toolchain;

pub use error::Error;

/// The target that every image is built for.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// How an image is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link<'a> {
    /// At the fixed addresses that a linker script gives, without any relocation left.
    Fixed {
        /// The linker script. It has to name every section: an orphan is an error.
        script: &'a Path,
    },
    /// Anywhere: a static-PIE whose only relocations are relative ones.
    StaticPie,
    /// As an ordinary Linux program with the standard library, optimised with the same flags:
    /// what a bench compares a guest with.
    Native,
}

/// What to build.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The folder of the workspace's `Cargo.toml` and `Cargo.lock`.
    pub workspace: &'a Path,
    /// The package in it.
    pub package: &'a str,
    /// The package's binaries to build, all with the same flags.
    pub bins: &'a [&'a str],
    /// A target directory of its own: in the caller's, the nested build would wait for ever for
    /// the lock that the caller holds.
    pub target_dir: &'a Path,
    /// How to link.
    pub link: Link<'a>,
    /// Whether to drop the symbol table. Debug information is dropped either way.
    pub strip: bool,
    /// Conditions to compile with, besides `cellwall_freestanding`: none for what is shipped.
    pub cfgs: &'a [&'a str],
}

/// Builds the request's binaries and gives the images' paths, in the order of `bins`.
///
/// # Errors
///
/// When the toolchain cannot be asked, a dependency cannot be had, or the build fails; the error
/// holds what the compiler said.
pub fn build(request: &Request<'_>) -> Result<Vec<PathBuf>, Error> {
    nested::build(request)
}

/// Prints the lines that make cargo run a build script again when one of these source trees of
/// the workspace, its manifest or its lock file changes.
pub fn watch(workspace: &Path, trees: &[&str]) {
    for name in ["Cargo.toml", "Cargo.lock"].iter().chain(trees) {
        println!("cargo::rerun-if-changed={}", workspace.join(name).display());
    }
}
