//! From what the user calls a guest to its ELF file.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use cellwall::elf;
use linux_raw::io::OpenFlags;

use crate::ending::{Ending, status};
use crate::text::escape;

/// The largest file that is read. Its segments may not take more memory than that either.
const FILE_BYTES_MAX: u64 = elf::MEMORY_BYTES_MAX;

/// The guest's ELF file.
pub(crate) fn find(name: &OsStr) -> Result<Cow<'static, [u8]>, Ending> {
    let path = Path::new(name);
    if name.as_bytes().contains(&b'/') || path.is_file() {
        return read(path).map(Cow::Owned);
    }
    let built_in = name.to_str().and_then(cellwall_guests::by_name);
    built_in
        .map(|guest| Cow::Borrowed(guest.image))
        .ok_or_else(|| unknown(name))
}

fn unknown(name: &OsStr) -> Ending {
    let name = escape(name.as_bytes());
    Ending::new(
        status::NOT_FOUND,
        format!(
            "there is no guest \"{name}\": no such file here, and no built-in of this name; \
             `cellwall guests` lists those"
        ),
    )
}

fn read(path: &Path) -> Result<Vec<u8>, Ending> {
    let name = escape(path.as_os_str().as_bytes());
    let unreadable = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => Ending::new(
            status::NOT_FOUND,
            format!("there is no guest \"{name}\": {error}"),
        ),
        _ => Ending::new(
            status::INVALID,
            format!("\"{name}\" cannot be read: {error}"),
        ),
    };
    let invalid = |reason| {
        Ending::new(
            status::INVALID,
            format!("\"{name}\" is not a valid guest: it is {reason}"),
        )
    };
    // Opening a pipe could wait and reading one never end; what is looked at is what is open.
    let flags = OpenFlags::NONBLOCK | OpenFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(invalid("no regular file"));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(invalid("larger than any guest's memory"));
    }
    let mut bytes = Vec::new();
    // One more than allowed, to tell: the file may grow meanwhile.
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(invalid("larger than any guest's memory"));
    }
    Ok(bytes)
}
