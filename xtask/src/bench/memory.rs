//! Guest memory beside a peer's, by a program of its own (`bench/`): with the peer in it, xtask
//! would take minutes to build.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::{Failure, target};

/// Measures, prints a table, and gives the figures as they are in its JSON.
pub(super) fn measure(root: &Path) -> Result<Vec<Value>, Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let results = target(root).join("memory-figures.json");
    let status = Command::new(cargo)
        .args(["run", "--quiet", "--release", "--package", "cellwall-bench"])
        .args(["--", "--json"])
        .arg(&results)
        .current_dir(root)
        .status()?;
    if !status.success() {
        return Err("the figures of guest memory were not measured".into());
    }
    Ok(serde_json::from_slice(&fs::read(results)?)?)
}
