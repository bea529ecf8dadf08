//! Memory files of a fixed length, which nobody can shrink under the host's mapping of them.

use std::ffi::CStr;

use linux_raw::fd::{self, AsFd as _, OwnedFd};
use linux_raw::memfd::{self, MemfdFlags, Seals};
use linux_raw::process::{Resource, get_limit};
use linux_raw::{Errno, io};

use crate::error::{Error, KernelResult, Stage};

/// Seals that fix the length for good.
const FIXED: Seals = Seals::SHRINK.union(Seals::GROW).union(Seals::SEAL);

/// A memfd of `bytes` zero bytes that stays writable.
pub(crate) fn writable(name: &CStr, bytes: u64, stage: Stage) -> Result<OwnedFd, Error> {
    let fd = create(name, bytes, MemfdFlags::empty(), stage)?;
    memfd::add_seals(&fd, FIXED).at(stage, "F_ADD_SEALS")?;
    Ok(fd)
}

/// Leaves all writing to the mappings that there are: nobody else writes the file or maps it
/// writable, not even who opens it anew through `/proc`.
pub(crate) fn leave_to_mappings(fd: &OwnedFd, stage: Stage) -> Result<(), Error> {
    memfd::add_seals(fd, FIXED | Seals::FUTURE_WRITE).at(stage, "F_ADD_SEALS")
}

/// A memfd to be filled and then made immutable by [`freeze`].
pub(crate) fn unsealed(name: &CStr, bytes: u64, stage: Stage) -> Result<OwnedFd, Error> {
    create(name, bytes, MemfdFlags::empty(), stage)
}

/// An empty memfd that grows with what is written into it, up to `most` bytes.
pub(crate) fn growing(name: &CStr, most: u64, stage: Stage) -> Result<OwnedFd, Error> {
    check_limit(most, stage)?;
    create(name, 0, MemfdFlags::empty(), stage)
}

/// Another descriptor of the same open file.
pub(crate) fn another(fd: &OwnedFd, stage: Stage) -> Result<OwnedFd, Error> {
    fd::dup_cloexec_min(fd.as_fd(), 0).at(stage, "fcntl(F_DUPFD_CLOEXEC)")
}

/// The same, for a file that is to be executed.
pub(crate) fn executable(name: &CStr, bytes: u64, stage: Stage) -> Result<OwnedFd, Error> {
    match create(name, bytes, MemfdFlags::EXEC, stage) {
        // Before Linux 6.3 the flag is unknown and every memfd can be executed.
        Err(error) if error.is_errno(Errno::EINVAL) => unsealed(name, bytes, stage),
        result => result,
    }
}

/// Seals all writing and gives the file opened read-only: it cannot be mapped writable, and it can
/// be executed, which a file that is open for writing cannot.
pub(crate) fn freeze(fd: &OwnedFd, stage: Stage) -> Result<OwnedFd, Error> {
    memfd::add_seals(fd, FIXED | Seals::WRITE).at(stage, "F_ADD_SEALS")?;
    read_only(fd, stage)
}

/// The file opened read-only, while whoever has the first descriptor goes on writing.
pub(crate) fn read_only(fd: &OwnedFd, stage: Stage) -> Result<OwnedFd, Error> {
    memfd::reopen_read_only(fd).at(stage, "reopen the memfd through /proc/self/fd")
}

fn create(name: &CStr, bytes: u64, extra: MemfdFlags, stage: Stage) -> Result<OwnedFd, Error> {
    check_limit(bytes, stage)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | extra;
    let fd = memfd::memfd_create(name, flags).at(stage, "memfd_create")?;
    memfd::ftruncate(&fd, bytes).at(stage, "ftruncate")?;
    Ok(fd)
}

/// Writes all of it, from the byte `offset` of the file on.
pub(crate) fn write_all(
    fd: &OwnedFd,
    mut bytes: &[u8],
    mut offset: u64,
    stage: Stage,
) -> Result<(), Error> {
    check_limit(offset.saturating_add(bytes.len() as u64), stage)?;
    while !bytes.is_empty() {
        let written = io::pwrite(fd, bytes, offset).at(stage, "pwrite64")?;
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}

/// Refuses what is beyond the limit on files: there the kernel would not only fail a call but raise
/// SIGXFSZ, which kills a host that does not expect it.
pub(crate) fn check_limit(bytes: u64, stage: Stage) -> Result<(), Error> {
    let limit = get_limit(Resource::FileSize).at(stage, "prlimit64")?;
    if bytes > limit.soft {
        return Err(Error::kernel(stage, "ftruncate", Errno::EFBIG));
    }
    Ok(())
}
