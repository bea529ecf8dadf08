//! The files behind all that a worker can write, found by their inodes and opened by the host's
//! descriptors: what is in them is what there is.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;

use cellwall::Instance;
use linux_raw::OwnedFd;
use linux_raw::io::{OpenFlags, open, pread, seek_data, seek_hole};

use crate::harness::proc;

/// How much is looked at at once.
const PIECE: usize = 1 << 20;

/// The memory files of one worker, by name.
pub(in crate::memory) struct Traces(BTreeMap<String, OwnedFd>);

impl Traces {
    /// Those of its mappings that are no code or constants of the module's or the zygote's.
    pub(in crate::memory) fn of(instance: &Instance) -> Self {
        let maps = proc(instance, "maps");
        let mut wanted = BTreeMap::new();
        for line in maps.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let name = words.get(5).and_then(|name| name.strip_prefix("/memfd:"));
            match name {
                Some("cellwall-module" | "cellwall-zygote") => {}
                Some(name) => {
                    let inode: u64 = words[4].parse().expect("an inode");
                    wanted.insert(inode, name.to_owned());
                }
                // The kernel's own page, of which nothing can be written.
                None if line.contains("[vsyscall]") => {}
                None => panic!("memory that is no file's: {line}"),
            }
        }
        let mut found = BTreeMap::new();
        for entry in fs::read_dir("/proc/self/fd").expect("/proc").flatten() {
            let is_memory = fs::read_link(entry.path())
                .is_ok_and(|to| to.as_os_str().as_encoded_bytes().starts_with(b"/memfd:"));
            // Others open and close theirs meanwhile.
            let Ok(metadata) = fs::metadata(entry.path()) else {
                continue;
            };
            if let Some(name) = wanted.get(&metadata.ino())
                && is_memory
            {
                // An opening of its own has a position of its own.
                let path = CString::new(entry.path().into_os_string().into_vec());
                let file = open(&path.expect("a path"), OpenFlags::CLOEXEC);
                found.insert(name.clone(), file.expect("the same file"));
            }
        }
        // Of the host page the host keeps its mapping alone, and nobody else can write it.
        for name in wanted.values().filter(|name| *name != "cellwall-host-page") {
            assert!(found.contains_key(name), "no descriptor of {name}");
        }
        Self(found)
    }

    /// One of them.
    pub(in crate::memory) fn file(&self, name: &str) -> &OwnedFd {
        self.0.get(name).expect("a memory file of this name")
    }

    /// Where a word is, at any byte: at most one place a file.
    pub(in crate::memory) fn found(&self, word: u64) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        for (name, file) in &self.0 {
            found.extend(place(file, word).map(|at| (name.clone(), at)));
        }
        found
    }
}

fn place(file: &OwnedFd, word: u64) -> Option<u64> {
    let mut at = 0;
    while let Some(data) = seek_data(file, at).expect("a look") {
        let hole = seek_hole(file, data).expect("a look");
        for start in (data..hole).step_by(PIECE) {
            // Eight bytes may lie across two pieces.
            let length = usize::try_from(hole - start).expect("a length");
            let mut bytes = vec![0; length.min(PIECE + 7)];
            let read = pread(file, &mut bytes, start).expect("bytes");
            assert_eq!(read, bytes.len());
            if let Some(offset) = first(&bytes, word) {
                return Some(start + offset);
            }
        }
        at = hole;
    }
    None
}

/// Where a word is in these bytes, at any of them. Pages of zeros are passed over.
pub(in crate::memory) fn first(bytes: &[u8], word: u64) -> Option<u64> {
    const PAGE: usize = 4096;
    static ZEROS: [u8; PAGE + 7] = [0; PAGE + 7];
    let word = word.to_le_bytes();
    for start in (0..bytes.len()).step_by(PAGE) {
        let page = &bytes[start..bytes.len().min(start + PAGE + 7)];
        if *page == ZEROS[..page.len()] {
            continue;
        }
        if let Some(offset) = page.windows(8).position(|eight| eight == word) {
            return Some((start + offset) as u64);
        }
    }
    None
}
