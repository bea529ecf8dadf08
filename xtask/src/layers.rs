//! Each layer of the wall attacked alone, in a build of everything that can leave out the others.

use std::path::Path;
use std::process::Command;

use crate::zygote::SWITCH;
use crate::{Failure, target};

/// What is run, in this order: clippy over the code that only this build has, then the tests.
const TASKS: [(&str, &[&str]); 2] = [
    ("clippy", &["--lib", "--test", "layers", "--", "-Dwarnings"]),
    ("test", &["--test", "layers", "--", "--nocapture"]),
];

pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    eprintln!("building a zygote that can leave layers out; the first time takes some minutes ...");
    clippy_of_the_zygote(root)?;
    for (task, arguments) in TASKS {
        let mut command = cargo(root);
        command.args([task, "--quiet", "--package", "cellwall"]);
        command.args(arguments);
        // Seen by build scripts too: the library's own gives it to the zygote.
        command.env("CARGO_ENCODED_RUSTFLAGS", format!("--cfg={SWITCH}"));
        finish(command, task)?;
    }
    Ok(())
}

fn clippy_of_the_zygote(root: &Path) -> Result<(), Failure> {
    let mut command = cargo(root);
    command.args(["clippy", "--quiet", "--package", "cellwall-zygote"]);
    command.args(["--release", "--target", freestanding::TARGET]);
    command.args(["--config", "profile.release.panic=\"abort\""]);
    command.args(["--", "-Dwarnings"]);
    let flags = format!("--cfg=cellwall_freestanding\x1f--cfg={SWITCH}");
    command.env("CARGO_ENCODED_RUSTFLAGS", flags);
    finish(command, "clippy of the zygote")
}

/// With a target folder of its own: the flags are other ones.
fn cargo(root: &Path) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .env("CARGO_TARGET_DIR", target(root).join("layers"))
        .current_dir(root);
    command
}

fn finish(mut command: Command, what: &str) -> Result<(), Failure> {
    if command.status()?.success() {
        Ok(())
    } else {
        Err(format!("{what} of the layers alone has findings").into())
    }
}
