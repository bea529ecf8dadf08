//! Real files to feed guests with, and bytes that look the same on every machine.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use super::pictures::random::Random;

/// At most `count` files of this kind under `/usr/share`, spread evenly over the tree.
pub(crate) fn found(extension: &str, count: usize) -> Vec<PathBuf> {
    let mut all = Vec::new();
    walk(Path::new("/usr/share"), extension, &mut all);
    let count = count.min(all.len());
    (0..count)
        .map(|index| all[index * all.len() / count].clone())
        .collect()
}

/// Collects readable files, neighbours in the tree next to each other. Links are not followed.
fn walk(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&path, extension, found),
            Ok(kind) if kind.is_file() => {
                let fits = path.extension().is_some_and(|end| end == extension);
                if fits && fs::File::open(&path).is_ok() {
                    found.push(path);
                }
            }
            _ => {}
        }
    }
}

impl Random {
    /// Words and numbers: it packs to about a quarter.
    pub(crate) fn text(&mut self, length: usize) -> Vec<u8> {
        const WORDS: [&str; 16] = [
            "the ", "wall ", "of ", "guest ", "stands ", "\n", "between ", "host ", "and ",
            "page ", "reads ", "writes ", "never ", "12 ", "0xff ", "turn ",
        ];
        let mut text = Vec::with_capacity(length + 24);
        while text.len() < length {
            let mut bits = self.next();
            for _ in 0..12 {
                let index = usize::try_from(bits & 15).expect("below 16");
                text.extend_from_slice(WORDS[index].as_bytes());
                bits >>= 4;
            }
            text.extend_from_slice(format!("{bits:x}").as_bytes());
        }
        text.truncate(length);
        text
    }
}
