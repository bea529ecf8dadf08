//! The test suite in other surroundings: as an ordinary user, and as in a container.
//!
//! Each test program is built as ever, copied to where everybody may read it, and started by this
//! program once more (`confine`), which first gives up what the surroundings do not have.

// What linux-raw's own tests run under.
#[path = "../../linux-raw/tests/kernel/container.rs"]
mod container;

use std::fs::{self, OpenOptions, Permissions};
use std::io::{BufRead as _, BufReader, Error, Write as _};
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

use self::container::{NO_CLONE3, NO_NAMESPACES};
use crate::Failure;
use crate::zygote::copy_sources;

/// `nobody`, as every distribution has it.
const NOBODY: u32 = 65534;

// Without either these would be the surroundings of `cargo test`. This is no documentation, which
// the help of the commands would show as theirs.
#[derive(Args)]
#[group(required = true, multiple = true)]
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

/// The variable that names the file of absences (`absence::RECORD`).
pub(crate) const ABSENCES: &str = "CELLWALL_ABSENCES";

/// The variable that names the tests' tier (`absence::TIER`), and the weaker one.
const TIER: (&str, &str) = ("CELLWALL_TEST_TIER", "without-namespaces");

pub(crate) fn run(root: &Path, suite: &Suite) -> Result<(), Failure> {
    if process::geteuid() != 0 && suite.surroundings.unprivileged {
        return Err("only root can become another user; as you are not, `cargo test` does".into());
    }
    let place = PublicFolder::new()?;
    let us = copy(&std::env::current_exe()?, &place)?;
    let (root, target) = &readable(root, &place)?;
    let record = Record::new(&place)?;
    let (mut passed, mut failed) = (0, Vec::new());
    for program in test_programs(root, target, &suite.surroundings)? {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
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
        command.env(ABSENCES, &record.0);
        println!("== {name}");
        match tests_passed(command)? {
            Some(tests) => passed += tests,
            None => failed.push(name.into_owned()),
        }
    }
    record.hand_over()?;
    if !failed.is_empty() {
        return Err(format!("failed: {}", failed.join(", ")).into());
    }
    // A filter that matches nothing, or no programs: nothing was tested.
    if passed == 0 {
        return Err("no test was run".into());
    }
    println!("== {passed} tests passed");
    Ok(())
}

/// Runs a test program; its output goes to ours too. How many of its tests passed, or nothing if it
/// failed, or did not say.
pub(crate) fn tests_passed(mut command: Command) -> Result<Option<usize>, Failure> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().ok_or("a program without an output")?;
    let mut passed = None;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        passed = passed.or(passed_in(&line));
    }
    let status = child.wait()?;
    Ok(passed.filter(|_| status.success()))
}

/// The number in the line that ends a test program's output.
pub(crate) fn passed_in(line: &str) -> Option<usize> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    counts.split_once(" passed;")?.0.parse().ok()
}

/// A folder of our own that every user may read, removed on drop.
struct PublicFolder(PathBuf);

impl PublicFolder {
    fn new() -> Result<Self, Failure> {
        let place = std::env::temp_dir().join(format!("cellwall-suite-{}", std::process::id()));
        fs::create_dir(&place)?;
        let place = Self(place);
        fs::set_permissions(&place.0, Permissions::from_mode(0o755))?;
        Ok(place)
    }
}

impl Drop for PublicFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}

/// A file that every user may write, for the absences that the tests meet.
struct Record(PathBuf);

impl Record {
    fn new(place: &PublicFolder) -> Result<Self, Failure> {
        let record = place.0.join("absences");
        fs::write(&record, "")?;
        fs::set_permissions(&record, Permissions::from_mode(0o666))?;
        Ok(Self(record))
    }

    /// Adds what was recorded to the caller's own file, if it has named one.
    fn hand_over(&self) -> Result<(), Failure> {
        let Some(path) = std::env::var_os(ABSENCES) else {
            return Ok(());
        };
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(file.write_all(&fs::read(&self.0)?)?)
    }
}

/// The checkout and the target folder, or, where not everybody may read them, a copy of the one and
/// another for it: the tests read both.
fn readable(root: &Path, place: &PublicFolder) -> Result<(PathBuf, PathBuf), Failure> {
    let target = crate::target(root);
    fs::create_dir_all(&target)?;
    if is_public(root)? && is_public(&target)? {
        return Ok((root.to_owned(), target));
    }
    eprintln!(
        "not everybody may read {}: building a copy ...",
        root.display()
    );
    let copy = place.0.join("checkout");
    copy_sources(root, &copy)?;
    make_public(&copy)?;
    Ok((copy, place.0.join("target")))
}

/// Whether every user may go there and read.
fn is_public(path: &Path) -> Result<bool, Failure> {
    for folder in path.canonicalize()?.ancestors() {
        if fs::metadata(folder)?.permissions().mode() & 0o005 != 0o005 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn make_public(path: &Path) -> Result<(), Failure> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(path)? {
            make_public(&entry?.path())?;
        }
    } else if metadata.is_file() {
        let mode = metadata.permissions().mode() | 0o444;
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn copy(program: &Path, place: &PublicFolder) -> Result<PathBuf, Failure> {
    let copy = place
        .0
        .join(program.file_name().ok_or("a program without a name")?);
    fs::copy(program, &copy)?;
    fs::set_permissions(&copy, Permissions::from_mode(0o755))?;
    Ok(copy)
}

/// Builds the tests, and gives where cargo put them. Those of single system calls say nothing of a
/// tier.
fn test_programs(
    root: &Path,
    target: &Path,
    surroundings: &Surroundings,
) -> Result<Vec<PathBuf>, Failure> {
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
    let mut built = build(root, target, packages, &[])?;
    built.retain(|program| program.is_test);
    Ok(built.into_iter().map(|program| program.path).collect())
}

/// A program that cargo has built.
pub(crate) struct Built {
    /// The folder of its package, in the checkout.
    pub(crate) folder: PathBuf,
    /// Its name there.
    pub(crate) name: String,
    pub(crate) is_test: bool,
    pub(crate) path: PathBuf,
}

/// Builds the tests of some packages with the programs that they start, and tells where they are.
pub(crate) fn build(
    root: &Path,
    target: &Path,
    packages: &[&str],
    flags: &[&str],
) -> Result<Vec<Built>, Failure> {
    let packages = packages.iter().flat_map(|package| ["--package", package]);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["test", "--no-run", "--message-format=json"])
        .args(packages)
        .args(flags)
        .arg("--target-dir")
        .arg(target)
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()?;
    if !built.status.success() {
        return Err("the tests do not build".into());
    }
    let mut programs = Vec::new();
    for line in String::from_utf8(built.stdout)?.lines() {
        let message: Value = serde_json::from_str(line)?;
        if let (Some(path), Some(manifest), Some(name)) = (
            message["executable"].as_str(),
            message["manifest_path"].as_str(),
            message["target"]["name"].as_str(),
        ) {
            let folder = Path::new(manifest).parent().unwrap_or(root);
            programs.push(Built {
                folder: folder.strip_prefix(root).unwrap_or(folder).to_owned(),
                name: name.to_owned(),
                is_test: message["profile"]["test"] == true,
                path: path.into(),
            });
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

const fn refuse(call: nr::Nr, errno: Errno) -> Refusal {
    Refusal {
        call,
        when: &[],
        errno,
    }
}

/// What container engines' default profile refuses of what a wall is made of.
const REFUSALS: &[Refusal] = &[
    NO_CLONE3,
    NO_NAMESPACES,
    refuse(nr::IOPL, Errno::EPERM), // even to give the ports up
    refuse(nr::IOPERM, Errno::EPERM),
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
