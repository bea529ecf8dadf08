//! What the kernel has of each kind. The soak looks at it too.

use std::collections::BTreeMap;
use std::fs;
use std::io;

/// Caches that grow as long as somebody writes files, which says nothing of us.
const OF_FILES: &[&str] = &[
    "buffer_head",
    "extent_status",
    "radix_tree_node",
    "ext4_",
    "xfs_",
    "btrfs_",
    "jbd2_",
    "dentry",
    "inode_cache",
    "lsm_inode_cache",
    "ovl_inode",
    "overlayfs",
];

/// How many objects of each kind the kernel has. Only root may know.
pub(crate) fn kernel_objects() -> io::Result<BTreeMap<String, u64>> {
    let text = fs::read_to_string("/proc/slabinfo")?;
    let cache = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, active) = (words.next()?, words.next()?.parse().ok()?);
        let is_of_files = OF_FILES.iter().any(|prefix| name.starts_with(prefix));
        (!is_of_files).then(|| (name.to_owned(), active))
    };
    Ok(text.lines().filter_map(cache).collect())
}

/// Sums up some lines of a file that says `key: number kB`.
pub(crate) fn kibibytes(path: &str, keys: &[&str]) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    let value = |line: &str| {
        let (key, rest) = line.split_once(':')?;
        let number = rest.split_whitespace().next()?;
        keys.contains(&key).then(|| number.parse::<u64>().ok())?
    };
    Ok(text.lines().filter_map(value).sum())
}
