//! Reading, writing, logging and leaving, the same on both sides of the wall.

use vmctx::native;

use crate::Errno;
#[cfg(cellwall_freestanding)]
use crate::hostcall as platform;
#[cfg(not(cellwall_freestanding))]
use crate::native as platform;

/// Something that the host opened for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(u64);

impl Handle {
    /// The standard input.
    pub const STDIN: Self = Self(native::STDIN);
    /// The standard output.
    pub const STDOUT: Self = Self(native::STDOUT);
    /// The standard error.
    pub const STDERR: Self = Self(native::STDERR);

    /// The handle that the host knows by this number.
    #[must_use]
    pub const fn from_raw(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }
}

/// Reads some bytes, at most 2 MiB at a time; 0 of them at the end of the input.
///
/// # Errors
///
/// [`Errno::BADF`] for a handle that cannot be read, else what the host met.
pub fn read(handle: Handle, buffer: &mut [u8]) -> Result<usize, Errno> {
    platform::read(handle, buffer)
}

/// Writes some of the bytes, at most 2 MiB at a time, and says how many.
///
/// # Errors
///
/// [`Errno::BADF`] for a handle that cannot be written, [`Errno::PIPE`] when nobody reads any
/// more, else what the host met.
pub fn write(handle: Handle, bytes: &[u8]) -> Result<usize, Errno> {
    platform::write(handle, bytes)
}

/// Writes all of the bytes.
///
/// # Errors
///
/// As [`write()`]; what was written before the error stays written. [`Errno::IO`] if the host takes
/// no byte without saying why.
pub fn write_all(handle: Handle, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let written = write(handle, bytes)?;
        match bytes.get(written..) {
            Some(rest) if written > 0 => bytes = rest,
            _ => return Err(Errno::IO),
        }
    }
    Ok(())
}

/// Gives the host's log a line of its own.
pub fn log(line: &str) {
    platform::log(line);
}

/// Ends the guest with this status. Nothing is buffered, so nothing is lost; no destructor runs.
pub fn exit(status: u8) -> ! {
    platform::exit(status)
}
