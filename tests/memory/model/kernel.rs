//! What the kernel says of an instance's memory, found without the host's help: the worker's maps
//! name the file, and one of our descriptors is of that file.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use cellwall::Instance;

use crate::harness::proc;

/// The memory file of one instance.
pub(super) struct MemoryFile {
    /// The descriptor of this process.
    path: PathBuf,
}

impl MemoryFile {
    pub(super) fn of(instance: &Instance) -> Self {
        let maps = proc(instance, "maps");
        let of_memory = |line: &&str| line.contains("/memfd:cellwall-memory");
        let line = maps.lines().find(of_memory).expect("guest memory");
        let inode = line.split_whitespace().nth(4).expect("an inode");
        let inode: u64 = inode.parse().expect("a number");
        let descriptors = fs::read_dir("/proc/self/fd").expect("/proc");
        let paths = descriptors.filter_map(|entry| Some(entry.ok()?.path()));
        let path = paths.into_iter().find(|path| {
            let name = fs::read_link(path).unwrap_or_default();
            name.to_string_lossy().contains("memfd:cellwall-memory")
                && fs::metadata(path).is_ok_and(|file| file.ino() == inode)
        });
        Self {
            path: path.expect("a descriptor of it"),
        }
    }

    /// How many bytes it takes from the machine.
    pub(super) fn bytes(&self) -> u64 {
        fs::metadata(&self.path).expect("the file").blocks() * 512
    }
}
