//! What this process has open.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What is behind each descriptor, but for the empty memory files that an engine with a nursery
/// keeps for its next workers.
pub(crate) fn descriptors() -> Vec<String> {
    let entries = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let open = entries
        .map(|entry| entry.path())
        .filter(|path| !is_kept(path));
    let links = open.filter_map(|path| fs::read_link(path).ok());
    links
        .map(|link| link.to_string_lossy().into_owned())
        .collect()
}

/// How many bytes are in each memory file.
pub(crate) fn memories() -> Vec<u64> {
    let entries = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let files = entries
        .map(|entry| entry.path())
        .filter(|path| is_memory(path));
    files.filter_map(|path| bytes(&path)).collect()
}

fn is_kept(path: &Path) -> bool {
    is_memory(path) && bytes(path) == Some(0)
}

fn is_memory(path: &Path) -> bool {
    let target = fs::read_link(path).unwrap_or_default();
    target.to_string_lossy().contains("/memfd:cellwall-memory")
}

/// Nothing of a file that is closed meanwhile.
fn bytes(path: &Path) -> Option<u64> {
    // Blocks are of 512 bytes (stat(2)).
    Some(fs::metadata(path).ok()?.blocks() * 512)
}
