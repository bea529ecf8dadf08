//! Who is who in a new user namespace. Namespaces come with
//! [`CloneFlags`](crate::process::CloneFlags).

use core::ffi::CStr;
use core::fmt;

use crate::errno::Errno;
use crate::io::{self, OpenFlags};
use crate::text::Text;

/// Writes a whole file of `/proc` in one call, as those want it; `EIO` if it took a part only.
fn write_file(path: &CStr, content: &[u8]) -> Result<(), Errno> {
    let file = io::open(path, OpenFlags::WRONLY | OpenFlags::CLOEXEC)?;
    if io::write(&file, content)? == content.len() {
        Ok(())
    } else {
        Err(Errno::EIO)
    }
}

/// A file that [`write_id_maps`] writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdMapFile {
    /// Says that groups cannot be dropped, without which there is no group map.
    Setgroups,
    /// Which user is which.
    UidMap,
    /// Which group is which.
    GidMap,
}

impl IdMapFile {
    /// Where it is.
    #[must_use]
    pub const fn path(self) -> &'static CStr {
        match self {
            Self::Setgroups => c"/proc/self/setgroups",
            Self::UidMap => c"/proc/self/uid_map",
            Self::GidMap => c"/proc/self/gid_map",
        }
    }
}

/// Which file could not be written, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdMapError {
    /// The file.
    pub file: IdMapFile,
    /// Why: `EPERM` for ids that are not the writer's own or a map that is there already, `EACCES`
    /// after an exec that made the process undumpable.
    pub errno: Errno,
}

impl fmt::Display for IdMapError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.file.path().to_str().unwrap_or_default();
        write!(out, "writing {path}: {}", self.errno)
    }
}

impl core::error::Error for IdMapError {}

/// Maps one user and one group of this process's new user namespace to one outside.
///
/// The outer ids are those the process had before, unless it is privileged. Three files of three
/// calls each; touches no global, so a child that shares memory can do it. Must come before an
/// exec that drops the right to.
///
/// Since Linux 3.8; denying groups since 3.19.
///
/// # Errors
///
/// Which file, and why.
pub fn write_id_maps(
    inner_uid: u32,
    outer_uid: u32,
    inner_gid: u32,
    outer_gid: u32,
) -> Result<(), IdMapError> {
    let write = |file: IdMapFile, content: Option<&[u8]>| {
        content
            .ok_or(Errno::E2BIG)
            .and_then(|content| write_file(file.path(), content))
            .map_err(|errno| IdMapError { file, errno })
    };
    write(IdMapFile::Setgroups, Some(b"deny"))?;
    write(IdMapFile::UidMap, id_map(inner_uid, outer_uid).bytes())?;
    write(IdMapFile::GidMap, id_map(inner_gid, outer_gid).bytes())
}

/// One line: first id inside, first id outside, how many.
fn id_map(inner: u32, outer: u32) -> Text<32> {
    Text::new()
        .push_number(inner)
        .push(b" ")
        .push_number(outer)
        .push(b" 1\n")
}

#[cfg(test)]
mod tests {
    use super::id_map;

    #[test]
    fn the_longest_line_fits() {
        let line = id_map(u32::MAX, u32::MAX);
        assert_eq!(line.bytes(), Some(&b"4294967295 4294967295 1\n"[..]));
    }
}
