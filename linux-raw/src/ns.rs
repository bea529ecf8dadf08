//! Who is who in a new user namespace. Namespaces come with
//! [`CloneFlags`](crate::process::CloneFlags).

use core::ffi::CStr;
use core::fmt;

use crate::called::{Called as _, Failed};
use crate::errno::Errno;
use crate::io::{self, OpenFlags};
use crate::nr::{self, Nr};
use crate::process::Pid;
use crate::text::Text;

/// Writes a whole file of `/proc` in one call, as those want it; `EIO` if it took a part only.
fn write_file(path: &CStr, content: &[u8]) -> Result<(), Failed> {
    let opened = io::open(path, OpenFlags::WRONLY | OpenFlags::CLOEXEC);
    let file = opened.called(nr::OPENAT)?;
    let written = io::write(&file, content).called(nr::WRITE)?;
    if written == content.len() {
        Ok(())
    } else {
        Err(Failed(nr::WRITE, Errno::EIO))
    }
}

/// One user and one group of a user namespace, and whom they are in its parent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdMap {
    /// The user inside.
    pub inner_uid: u32,
    /// The same user outside.
    pub outer_uid: u32,
    /// The group inside.
    pub inner_gid: u32,
    /// The same group outside.
    pub outer_gid: u32,
}

/// A file that says who is who in a user namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdMapFile {
    /// Says that groups cannot be dropped, without which an ordinary user writes no group map.
    Setgroups,
    /// Which user is which.
    UidMap,
    /// Which group is which.
    GidMap,
}

impl IdMapFile {
    /// Its name in `/proc/PID`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Setgroups => "setgroups",
            Self::UidMap => "uid_map",
            Self::GidMap => "gid_map",
        }
    }
}

/// Which file could not be written, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdMapError {
    /// The file.
    pub file: IdMapFile,
    /// The call that failed: `openat` or `write`.
    pub call: Nr,
    /// Why: `EPERM` for ids that the writer may not map or a map that is there already, `EINVAL`
    /// for ids that its own user namespace does not have, `EACCES` after an exec that made the
    /// process undumpable.
    pub errno: Errno,
}

impl fmt::Display for IdMapError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "writing {}: {}", self.file.name(), self.errno)
    }
}

impl core::error::Error for IdMapError {}

/// For whom the call is enough.
impl From<IdMapError> for Failed {
    fn from(error: IdMapError) -> Self {
        Self(error.call, error.errno)
    }
}

/// Says who this process' own new user namespace's user and group are.
///
/// Without privileges the outer ids can only be those that the process had before. Three files of
/// three calls each; touches no global, so a child that shares memory can do it. Must come before
/// an exec that drops the right to.
///
/// Since Linux 3.8; denying groups since 3.19.
///
/// # Errors
///
/// Which file, and why.
pub fn write_own_id_maps(map: IdMap) -> Result<(), IdMapError> {
    let folder = || Text::new().push(b"/proc/self/");
    write_in(folder, IdMapFile::Setgroups, Text::new().push(b"deny"))?;
    write_maps(folder, map)
}

/// The same for another process, by one that is privileged over both namespaces: the outer ids can
/// be any that the writer's namespace has, and groups stay droppable.
///
/// `shown` is the number that `/proc` has for it, which may be another than the caller's own:
/// [`number_in_proc`](crate::pidfd::number_in_proc).
///
/// Since Linux 3.8.
///
/// # Errors
///
/// Which file, and why; also `ENOENT` for a process that is gone.
pub fn write_id_maps_of(shown: Pid, map: IdMap) -> Result<(), IdMapError> {
    let folder = || {
        Text::new()
            .push(b"/proc/")
            .push_number(shown.raw())
            .push(b"/")
    };
    write_maps(folder, map)
}

/// A path below `/proc/PID`.
type Path = Text<40>;

fn write_maps(folder: impl Fn() -> Path, map: IdMap) -> Result<(), IdMapError> {
    let users = id_map(map.inner_uid, map.outer_uid);
    write_in(&folder, IdMapFile::UidMap, users)?;
    let groups = id_map(map.inner_gid, map.outer_gid);
    write_in(&folder, IdMapFile::GidMap, groups)
}

fn write_in(
    folder: impl Fn() -> Path,
    file: IdMapFile,
    content: Text<32>,
) -> Result<(), IdMapError> {
    let path = folder().push(file.name().as_bytes());
    let (Some(path), Some(content)) = (path.c_str(), content.bytes()) else {
        let (call, errno) = (nr::OPENAT, Errno::E2BIG);
        return Err(IdMapError { file, call, errno });
    };
    write_file(path, content).map_err(|Failed(call, errno)| IdMapError { file, call, errno })
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
