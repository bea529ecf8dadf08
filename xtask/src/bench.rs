//! Figures, by a program and a workspace of their own (`bench/`): the peers in it take minutes to
//! build, and nobody else needs them.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use clap::Args;

use crate::{Failure, target};

#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// What the program takes: --help says what.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Builds the program, the command that it measures, and runs it where this was called.
pub(crate) fn run(root: &Path, options: &Options) -> Result<(), Failure> {
    let target = target(root);
    build(root, &target, &["--package", "cellwall-cli"])?;
    build(root, &target, &["--manifest-path", "bench/Cargo.toml"])?;
    let status = Command::new(target.join("release/cellwall-bench"))
        .args(&options.arguments)
        .env("CARGO_TARGET_DIR", &target)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err("not measured".into())
    }
}

fn build(root: &Path, target: &Path, what: &[&str]) -> Result<(), Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--target-dir"])
        .arg(target)
        .args(what)
        .current_dir(root)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err("what measures did not build".into())
    }
}
