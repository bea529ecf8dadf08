//! Runs the nested cargo, away from the caller's settings.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::{Error, Link, Request, TARGET, flags, toolchain};

/// The variables that a nested cargo keeps, by prefix, of those that speak to cargo or the
/// compiler: where things are and how to reach the network, nothing that changes the code.
const KEPT: [&str; 10] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    // The job server: the nested build shares the caller's number of jobs.
    "CARGO_MAKEFLAGS",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
    "RUSTUP_",
    "RUST_BACKTRACE",
];

/// What cargo sets for build scripts besides; a nested build must not take it for its own.
const SCRIPT: [&str; 9] = [
    "TARGET",
    "HOST",
    "PROFILE",
    "OPT_LEVEL",
    "DEBUG",
    "OUT_DIR",
    "NUM_JOBS",
    "CLIPPY_ARGS",
    "LLVM_PROFILE_FILE",
];

/// See [`crate::build`].
pub(crate) fn build(request: &Request<'_>) -> Result<Vec<PathBuf>, Error> {
    let absolute =
        |path: &Path| fs::canonicalize(path).map_err(|source| file_error("finding", path, source));
    fs::create_dir_all(request.target_dir)
        .map_err(|source| file_error("making", request.target_dir, source))?;
    let workspace = absolute(request.workspace)?;
    let target_dir = absolute(request.target_dir)?;
    let script = match request.link {
        Link::Fixed { script } => Some(copy_script(script, &target_dir)?),
        Link::StaticPie | Link::Native => None,
    };
    let compile = || {
        let remaps = toolchain::remaps(&workspace, &target_dir)?;
        let flags = flags::encoded(request, script.as_deref(), &remaps);
        let mut command = cargo(&workspace, &target_dir);
        command.env("CARGO_ENCODED_RUSTFLAGS", flags);
        command.args(["build", "--offline", "--locked", "--target", TARGET]);
        command.args(["--package", request.package, "--profile", flags::PROFILE]);
        for bin in request.bins {
            command.args(["--bin", bin]);
        }
        for setting in flags::profile(request.strip) {
            command.args(["--config", &setting]);
        }
        run(command)
    };

    // Without the network first: it is slow, may be absent, and is only needed where the outer
    // build has not downloaded the image's own dependencies.
    let mut built = compile()?;
    if !built.status.success() {
        let mut fetch = cargo(&workspace, &target_dir);
        fetch.args(["fetch", "--locked", "--target", TARGET]);
        let fetched = run(fetch)?;
        let first = text(&built);
        built = compile()?;
        if !built.status.success() {
            // A failed fetch explains the failure only if the build misses something.
            let missing = !fetched.status.success() && first.contains("offline");
            let output = if missing {
                text(&fetched)
            } else {
                text(&built)
            };
            return Err(Error::build(request.package, output));
        }
    }
    images(request, &target_dir)
}

/// Where cargo put the binaries.
fn images(request: &Request<'_>, target_dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let folder = target_dir.join(TARGET).join(flags::PROFILE);
    let image = |bin: &&str| {
        let path = folder.join(bin);
        if path.is_file() {
            Ok(path)
        } else {
            Err(Error::Missing {
                package: request.package.to_owned(),
                path,
            })
        }
    };
    request.bins.iter().map(image).collect()
}

/// A cargo that runs in `workspace`, with its own target directory and a clean environment.
fn cargo(workspace: &Path, target_dir: &Path) -> Command {
    let mut command = Command::new(toolchain::cargo());
    for (name, _) in env::vars_os() {
        if is_a_setting(&name) {
            command.env_remove(&name);
        }
    }
    command.current_dir(workspace);
    // Empty, not unset: that also overrides configuration files.
    command
        .env("RUSTC_WRAPPER", "")
        .env("RUSTC_WORKSPACE_WRAPPER", "");
    command.env("CARGO_INCREMENTAL", "0");
    command
        .env("CARGO_TARGET_DIR", target_dir)
        .env("CARGO_BUILD_BUILD_DIR", target_dir);
    command
}

/// Whether a variable would bring the caller's settings into the nested build.
fn is_a_setting(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let speaks_to_tools = ["CARGO_", "RUST", "DEP_"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    // The compiler itself stays the caller's: `RUSTC` names it.
    let kept = name == "RUSTC" || KEPT.iter().any(|prefix| name.starts_with(prefix));
    (speaks_to_tools && !kept) || SCRIPT.contains(&name)
}

/// Copies the linker script to a name made from its contents: cargo does not look into a script,
/// but does link again when a flag changes.
fn copy_script(script: &Path, target_dir: &Path) -> Result<PathBuf, Error> {
    let contents = fs::read(script).map_err(|source| file_error("reading", script, source))?;
    let mut hasher = DefaultHasher::new();
    contents.hash(&mut hasher);
    let copy = target_dir.join(format!("link-{:016x}.ld", hasher.finish()));
    fs::write(&copy, contents).map_err(|source| file_error("writing", &copy, source))?;
    Ok(copy)
}

fn run(mut command: Command) -> Result<Output, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.output().map_err(|source| Error::Start {
        program,
        variable: "CARGO",
        source,
    })
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn file_error(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::File {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_dropped_and_the_rest_is_kept() {
        let dropped = [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC_BOOTSTRAP",
            "OPT_LEVEL",
        ];
        let kept = [
            "CARGO_HOME",
            "CARGO_MAKEFLAGS",
            "RUSTC",
            "RUSTUP_TOOLCHAIN",
            "PATH",
            "HOME",
        ];
        for name in dropped {
            assert!(is_a_setting(OsStr::new(name)), "{name} must not leak");
        }
        for name in kept {
            assert!(!is_a_setting(OsStr::new(name)), "{name} must stay");
        }
    }
}
