//! Reading a process's directory in `/proc` (proc(5), Documentation/filesystems/proc.rst).

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

/// A process, by the directory that the kernel shows it in.
pub(super) struct Process {
    directory: PathBuf,
}

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unread {
    pub(super) what: String,
    pub(super) kind: io::ErrorKind,
    pub(super) why: String,
}

pub(super) type Read<T> = Result<T, Unread>;

impl fmt::Display for Unread {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.what, self.why)
    }
}

/// A file that was read and does not say what was looked for.
pub(super) fn silent(what: &str, why: &str) -> Unread {
    Unread {
        what: what.into(),
        kind: io::ErrorKind::InvalidData,
        why: why.into(),
    }
}

impl Process {
    pub(super) fn numbered(number: u32) -> Self {
        Self::named(&number.to_string())
    }

    /// `self`, which is the first thread, or `thread-self`.
    pub(super) fn named(name: &str) -> Self {
        Self {
            directory: PathBuf::from("/proc").join(name),
        }
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    fn explained<T>(&self, file: &str, result: io::Result<T>) -> Read<T> {
        result.map_err(|error| Unread {
            what: self.path(file).display().to_string(),
            kind: error.kind(),
            why: error.to_string(),
        })
    }

    pub(super) fn text(&self, file: &str) -> Read<String> {
        self.explained(file, fs::read_to_string(self.path(file)))
    }

    pub(super) fn link(&self, file: &str) -> Read<String> {
        let target = self.explained(file, fs::read_link(self.path(file)))?;
        Ok(target.to_string_lossy().into_owned())
    }

    /// The names in a directory.
    pub(super) fn names(&self, directory: &str) -> Read<Vec<String>> {
        let entries = self.explained(directory, fs::read_dir(self.path(directory)))?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        self.explained(directory, names.collect())
    }

    pub(super) fn metadata(&self, file: &str) -> Read<fs::Metadata> {
        self.explained(file, fs::symlink_metadata(self.path(file)))
    }

    /// The value of a line of `status`.
    pub(super) fn status(&self, key: &str) -> Read<String> {
        let text = self.text("status")?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned())
            .ok_or_else(|| silent("status", &format!("it has no line {key}")))
    }

    /// A field of `stat` by its number in proc(5), from 3 on: those before it are the process
    /// number and the name, which may hold anything.
    pub(super) fn stat(&self, field: usize) -> Read<i64> {
        let text = self.text("stat")?;
        let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        let word = rest.split_whitespace().nth(field.saturating_sub(3));
        word.and_then(|word| word.parse().ok())
            .ok_or_else(|| silent("stat", &format!("it has no number in field {field}")))
    }
}

/// A list of numbers and ranges, as `Cpus_allowed_list` is.
pub(super) fn number_list(text: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(first.parse().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::{Process, number_list};

    #[test]
    fn lists() {
        assert_eq!(number_list("0-2,5,7-8"), Some(vec![0, 1, 2, 5, 7, 8]));
        assert_eq!(number_list(""), Some(vec![]));
        assert_eq!(number_list("0-x"), None);
    }

    #[test]
    fn ourselves() {
        let this = Process::named("self");
        let number = std::process::id().to_string();
        assert_eq!(this.status("Pid"), Ok(number.clone()));
        assert_eq!(Process::numbered(std::process::id()).stat(4), this.stat(4));
        assert!(this.status("NoSuchLine").is_err() && this.text("nosuchfile").is_err());
        assert!(this.names("fd").is_ok_and(|names| !names.is_empty()));
    }
}
