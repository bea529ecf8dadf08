#![expect(unsafe_code, reason = "makes the calls on namespaces")]
//! Namespaces, and who is who in a new user namespace.

use core::ffi::CStr;
use core::fmt;

use crate::arch;
use crate::errno::Errno;
use crate::fd::AsFd;
use crate::io::{self, OpenFlags};
use crate::nr;
use crate::process::CloneFlags;
use crate::text::Text;

/// Leaves what the flags name for a new or unshared one of its own.
///
/// Since Linux 2.6.16; each namespace has a first version of its own.
///
/// # Errors
///
/// `EPERM` without the privilege, `ENOSPC` at a limit of namespaces, `EINVAL` for flags that do
/// not go together or a new user namespace in a process with threads, `ENOMEM`.
///
/// # Safety
///
/// With [`CloneFlags::FILES`] descriptors stop being shared with whoever made them: one side must
/// forget what it owned.
pub unsafe fn unshare(flags: CloneFlags) -> Result<(), Errno> {
    // SAFETY: nothing is passed but flags; the caller answers for shared descriptors.
    let answer = unsafe { arch::syscall1(nr::UNSHARE, flags.bits().into()) };
    answer.done()
}

/// Joins the namespaces that `fd` names: of a namespace file, or with a pidfd those in `kinds`.
///
/// Since Linux 3.0; with a pidfd since 5.8.
///
/// # Errors
///
/// `EPERM` without the privilege, `EINVAL` for what does not go together, `ESRCH` if the pidfd's
/// process has ended.
pub fn setns(fd: impl AsFd, kinds: CloneFlags) -> Result<(), Errno> {
    // SAFETY: nothing is passed but numbers, and no memory of ours changes.
    let answer = unsafe { arch::syscall2(nr::SETNS, fd.as_fd().into(), kinds.bits().into()) };
    answer.done()
}

/// Writes a whole file of `/proc` in one call, as those want it. Touches no global.
///
/// Since Linux 1.0.
///
/// # Errors
///
/// As [`io::open`] and [`io::write()`]; `EIO` if it took a part only.
pub fn write_file(path: &CStr, content: &[u8]) -> Result<(), Errno> {
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
