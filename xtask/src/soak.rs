//! The soak, by a program of its own (`soak/`), built as what is shipped is.

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

pub(crate) fn run(root: &Path, options: &Options) -> Result<(), Failure> {
    let target = target(root);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--quiet",
            "--package",
            "cellwall-soak",
        ])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(root)
        .status()?;
    if !built.success() {
        return Err("the soak did not build".into());
    }
    let status = Command::new(target.join("release/cellwall-soak"))
        .args(&options.arguments)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err("the soak found something wrong".into())
    }
}
