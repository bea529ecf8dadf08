//! Clippy over the freestanding half of the code, which an ordinary build does not compile.

use std::path::Path;
use std::process::Command;

use crate::{Failure, target};

const PACKAGES: [&str; 3] = [
    "cellwall-zygote",
    "cellwall-guest",
    "cellwall-guest-programs",
];

pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.arg("clippy");
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    let status = command
        // With a target, the flags below are not for build scripts.
        .args(["--release", "--target", freestanding::TARGET])
        .args(["--config", "profile.release.panic=\"abort\""])
        .arg("--target-dir")
        .arg(target(root).join("clippy-freestanding"))
        .args(["--", "-D", "warnings"])
        .env("CARGO_ENCODED_RUSTFLAGS", "--cfg=cellwall_freestanding")
        .current_dir(root)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err("clippy has findings".into())
    }
}
