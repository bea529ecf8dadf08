//! Which cargo and compiler are in use, and which of their paths could end up in an image.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;

/// The cargo to run: the caller's own where a cargo runs us.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn rustc() -> OsString {
    env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

/// Pairs of a path prefix on this machine and what stands for it in the image. A later pair wins.
///
/// The registry's source folders are listed one by one, since their names tell the mirror that
/// the sources came from.
pub(crate) fn remaps(workspace: &Path, target_dir: &Path) -> Result<Vec<(PathBuf, String)>, Error> {
    let mut remaps = Vec::new();
    if let Some(home) = cargo_home() {
        let sources = home.join("registry").join("src");
        remaps.push((home, "/cargo".to_owned()));
        // No such folder yet: nothing has been downloaded, and nothing can leak from it.
        let mut registries: Vec<PathBuf> = fs::read_dir(&sources)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        registries.sort();
        remaps.extend(
            registries
                .into_iter()
                .map(|path| (path, "/registry".to_owned())),
        );
    }
    remaps.push((workspace.to_owned(), "/cellwall".to_owned()));
    remaps.push((target_dir.to_owned(), "/target".to_owned()));
    // A toolchain with the rust-src component names the standard library's files where they are,
    // one without it as its builders did.
    let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?.trim());
    remaps.push((
        sysroot.join("lib/rustlib/src/rust"),
        format!("/rustc/{}", commit()?),
    ));
    Ok(remaps)
}

fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
}

/// The commit that the compiler was built from, as its own paths have it.
fn commit() -> Result<String, Error> {
    let version = ask(&["-vV"])?;
    let commit = version
        .lines()
        .find_map(|line| line.strip_prefix("commit-hash: "));
    Ok(commit.unwrap_or("unknown").to_owned())
}

fn ask(question: &[&str]) -> Result<String, Error> {
    let program = rustc();
    let name = program.to_string_lossy().into_owned();
    let answer = Command::new(&program)
        .args(question)
        .output()
        .map_err(|source| Error::Start {
            program: name.clone(),
            variable: "RUSTC",
            source,
        })?;
    if !answer.status.success() {
        return Err(Error::Toolchain {
            program: name,
            question: question.join(" "),
            output: String::from_utf8_lossy(&answer.stderr).into_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
}
