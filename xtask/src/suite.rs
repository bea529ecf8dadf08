//! The test suite in other surroundings: as an ordinary user, and as in a container.
//!
//! Each test program is built as ever, copied to where everybody may read it, and started by this
//! program once more (`confine`), which first gives up what the surroundings do not have.

use std::fs::{self, Permissions};
use std::io::Error;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use linux_raw::seccomp::{
    self, Cond, InstallFlags, Is, Program, Refusal, compile_refusing, length_refusing,
};
use linux_raw::{Errno, cred, nr, prctl, process};
use serde_json::Value;

use crate::{Failure, target};

/// `nobody`, as every distribution has it.
const NOBODY: u32 = 65534;

#[derive(Args)]
pub(crate) struct Surroundings {
    /// As user and group 65534.
    #[arg(long)]
    unprivileged: bool,
    /// Under a filter that answers as a container engine's default profile does, with the tier that
    /// is meant for it.
    #[arg(long)]
    container: bool,
}

#[derive(Args)]
pub(crate) struct Suite {
    #[command(flatten)]
    surroundings: Surroundings,
    /// Only tests whose name holds this.
    filter: Option<String>,
}

#[derive(Args)]
pub(crate) struct Confined {
    #[command(flatten)]
    surroundings: Surroundings,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// The variable that names the tests' tier (`absence::TIER`), and the weaker one.
const TIER: (&str, &str) = ("CELLWALL_TEST_TIER", "without-namespaces");

pub(crate) fn run(root: &Path, suite: &Suite) -> Result<(), Failure> {
    if process::geteuid() != 0 && suite.surroundings.unprivileged {
        return Err("only root can become another user; as you are not, `cargo test` does".into());
    }
    let folder = target(root).join("suite");
    let place = public_folder()?;
    fs::create_dir_all(&folder)?;
    let us = copy(&std::env::current_exe()?, &place)?;
    let mut failed = Vec::new();
    for program in test_programs(root, &suite.surroundings)? {
        let name = program.file_name().unwrap_or_default().to_owned();
        let test = copy(&program, &place)?;
        let mut command = Command::new(&us);
        command.arg("confine");
        if suite.surroundings.unprivileged {
            command.arg("--unprivileged");
        }
        if suite.surroundings.container {
            command.arg("--container").env(TIER.0, TIER.1);
        }
        command.arg(test).args(&suite.filter).current_dir(root);
        println!("== {}", name.to_string_lossy());
        if !command.status()?.success() {
            failed.push(name.to_string_lossy().into_owned());
        }
    }
    fs::remove_dir_all(&place)?;
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("failed: {}", failed.join(", ")).into())
    }
}

/// A folder of our own that every user may read.
fn public_folder() -> Result<PathBuf, Failure> {
    let place = std::env::temp_dir().join(format!("cellwall-suite-{}", std::process::id()));
    fs::create_dir(&place)?;
    fs::set_permissions(&place, Permissions::from_mode(0o755))?;
    Ok(place)
}

fn copy(program: &Path, place: &Path) -> Result<PathBuf, Failure> {
    let copy = place.join(program.file_name().ok_or("a program without a name")?);
    fs::copy(program, &copy)?;
    fs::set_permissions(&copy, Permissions::from_mode(0o755))?;
    Ok(copy)
}

/// Builds the tests, and gives where cargo put them. Those of single system calls say nothing of a
/// tier.
fn test_programs(root: &Path, surroundings: &Surroundings) -> Result<Vec<PathBuf>, Failure> {
    let packages: &[&str] = if surroundings.container {
        &["cellwall", "cellwall-audit"]
    } else {
        &[
            "cellwall",
            "cellwall-audit",
            "cellwall-linux-raw",
            "cellwall-cli",
        ]
    };
    let packages = packages.iter().flat_map(|package| ["--package", package]);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["test", "--no-run", "--message-format=json"])
        .args(packages)
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()?;
    if !built.status.success() {
        return Err("the tests do not build".into());
    }
    let mut programs = Vec::new();
    for line in String::from_utf8(built.stdout)?.lines() {
        let message: Value = serde_json::from_str(line)?;
        if message["profile"]["test"] == true
            && let Some(program) = message["executable"].as_str()
        {
            programs.push(PathBuf::from(program));
        }
    }
    Ok(programs)
}

/// Gives up what the surroundings do not have, then becomes the command.
pub(crate) fn confine(confined: &Confined) -> Result<(), Failure> {
    let words: Vec<&str> = confined.command.iter().map(String::as_str).collect();
    let (program, arguments) = words.split_first().ok_or("no command")?;
    let named = |what: &'static str| move |errno: Errno| format!("{what}: {errno}");
    if confined.surroundings.unprivileged {
        cred::setgroups_none().map_err(named("setgroups"))?;
        cred::setresgid(NOBODY).map_err(named("setresgid"))?;
        cred::setresuid(NOBODY).map_err(named("setresuid"))?;
    }
    if confined.surroundings.container {
        prctl::set_no_new_privs().map_err(named("no_new_privs"))?;
        seccomp::install(PROFILE.as_slice(), InstallFlags::empty()).map_err(named("seccomp"))?;
    }
    let failed: Error = Command::new(program).args(arguments).exec();
    Err(format!("{program}: {failed}").into())
}

/// `CLONE_NEW*`, all of them.
const NAMESPACES: u64 = 0x7e02_0000;

const fn refuse(call: nr::Nr, errno: Errno) -> Refusal {
    Refusal {
        call,
        when: &[],
        errno,
    }
}

/// What container engines' default profile refuses of what a wall is made of
/// (<https://docs.docker.com/engine/security/seccomp/>): `clone3` is hidden, so that programs fall
/// back on `clone`, whose flags a filter can see.
const REFUSALS: &[Refusal] = &[
    refuse(nr::CLONE3, Errno::ENOSYS),
    Refusal {
        call: nr::CLONE,
        when: &[Cond {
            arg: 0,
            is: Is::AnyBit(NAMESPACES),
        }],
        errno: Errno::EPERM,
    },
    refuse(
        nr::Nr::from_raw(linux_raw::sys::general::__NR_unshare),
        Errno::EPERM,
    ),
    refuse(
        nr::Nr::from_raw(linux_raw::sys::general::__NR_setns),
        Errno::EPERM,
    ),
    refuse(nr::MOUNT, Errno::EPERM),
    refuse(nr::UMOUNT2, Errno::EPERM),
    refuse(nr::PIVOT_ROOT, Errno::EPERM),
    refuse(nr::FSOPEN, Errno::EPERM),
    refuse(nr::FSCONFIG, Errno::EPERM),
    refuse(nr::FSMOUNT, Errno::EPERM),
    refuse(nr::MOVE_MOUNT, Errno::EPERM),
    refuse(nr::USERFAULTFD, Errno::EPERM),
    refuse(nr::IO_URING_SETUP, Errno::EPERM),
    refuse(nr::IO_URING_ENTER, Errno::EPERM),
    refuse(nr::IO_URING_REGISTER, Errno::EPERM),
];

static PROFILE: Program<{ length_refusing(REFUSALS) }> = compile_refusing(REFUSALS);
