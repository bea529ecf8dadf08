//! Running the command and looking at what came of it.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// `cellwall` with these arguments, and nothing on its standard input.
pub(crate) fn cellwall<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cellwall"));
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().expect("an exit, not a signal"),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

/// Runs `cellwall` to its end.
pub(crate) fn run<S: AsRef<OsStr>>(args: &[S]) -> Outcome {
    cellwall(args).output().expect("the command starts").into()
}

/// Runs `cellwall` to its end, with this on its standard input.
pub(crate) fn run_with_input<S: AsRef<OsStr>>(args: &[S], input: &[u8]) -> Outcome {
    let mut child = cellwall(args)
        .stdin(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    std::thread::scope(|scope| {
        // A guest that ends early leaves the rest unread: EPIPE.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().expect("an end").into()
    })
}

/// A file that is gone after the test.
pub(crate) struct TempFile {
    _directory: TempDir,
    pub(crate) path: PathBuf,
}

pub(crate) fn file(name: &str, contents: &[u8]) -> TempFile {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join(name);
    fs::write(&path, contents).expect("a file");
    TempFile {
        _directory: directory,
        path,
    }
}

/// The image of a built-in guest.
pub(crate) fn image(name: &str) -> &'static [u8] {
    cellwall_guests::by_name(name).expect("a built-in").image
}

/// The workers of a running command: its children of that name, or its nursery's.
pub(crate) fn workers(command: &Child) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|&process| is_worker(process) && is_below(process, command.id()))
        .collect()
}

fn is_below(process: u32, command: u32) -> bool {
    let above = parent(process);
    above == Some(command) || above.and_then(parent) == Some(command)
}

/// Whether there is a live worker of this number. A nursery has that name too, before it has its
/// own and its filter.
pub(crate) fn is_worker(process: u32) -> bool {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    name.trim() == "cellwall-worker"
        && field(process, "State:").is_some_and(|state| state != "Z")
        && field(process, "Seccomp:").is_some_and(|mode| mode == "2")
}

fn parent(process: u32) -> Option<u32> {
    field(process, "PPid:")?.parse().ok()
}

fn field(process: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next().map(str::to_owned)
}

/// Waits until it holds; false after ten seconds.
pub(crate) fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// The worker of a command whose guest runs.
pub(crate) fn worker(command: &Child) -> u32 {
    let mut found = Vec::new();
    assert!(
        eventually(|| {
            found = workers(command);
            found.len() == 1
        }),
        "one worker, not {found:?}"
    );
    found[0]
}
