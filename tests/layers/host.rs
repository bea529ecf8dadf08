//! The host's side of an attack: who it is, and what a worker could reach of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;

/// Whether the host is root, so that a worker without layers is, too.
pub(crate) fn is_root() -> bool {
    linux_raw::process::geteuid() == 0
}

/// A folder that everybody may look into.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path(), mode).expect("permissions");
    folder
}

/// A file of so much text in a folder.
pub(crate) fn file(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text).expect("a file");
    path
}

/// A field of `/proc/self/stat` by its number there (proc_pid_stat(5)), from the fourth on.
pub(crate) fn stat(field: usize) -> u64 {
    let text = fs::read_to_string("/proc/self/stat").expect("/proc");
    // The name, in parentheses, may have anything inside.
    let (_, rest) = text.rsplit_once(')').expect("a name");
    let word = rest.split_whitespace().nth(field - 3).expect("a field");
    word.parse().expect("a number")
}
