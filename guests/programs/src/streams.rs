//! Where bytes come from and go to.

use alloc::collections::TryReserveError;
use alloc::format;
use alloc::vec::Vec;
use core::fmt;

use cellwall_guest::{Errno, Handle};

/// How much is read at a time: as much as one hostcall moves. A host that sleeps while the guest
/// computes has to be woken for each, which costs more than a large buffer's cache misses
/// (`docs/decisions/0011-large-transfers.md`).
pub const CHUNK_BYTES: usize = 2 << 20;

/// Where bytes come from.
pub trait Source {
    /// Reads some bytes; 0 of them at the end.
    ///
    /// # Errors
    ///
    /// What the host met.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Errno>;
}

/// Where bytes go to.
pub trait Sink {
    /// Writes all of the bytes.
    ///
    /// # Errors
    ///
    /// What the host met.
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Errno>;
}

impl Source for Handle {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        cellwall_guest::read(*self, buffer)
    }
}

impl Sink for Handle {
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        cellwall_guest::write_all(*self, bytes)
    }
}

impl<S: Source> Source for &mut S {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        S::read(self, buffer)
    }
}

impl<S: Sink> Sink for &mut S {
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        S::write_all(self, bytes)
    }
}

impl Source for &[u8] {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let (now, later) = self.split_at(buffer.len().min(self.len()));
        buffer[..now.len()].copy_from_slice(now);
        *self = later;
        Ok(now.len())
    }
}

impl Sink for Vec<u8> {
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// Why an input could not be read as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputError {
    /// Reading failed.
    Read(Errno),
    /// The heap has no room for it.
    TooLarge,
}

impl From<TryReserveError> for InputError {
    fn from(_: TryReserveError) -> Self {
        Self::TooLarge
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(errno) => write!(out, "cannot read the input: {errno}"),
            Self::TooLarge => out.write_str("the input is larger than the guest's memory"),
        }
    }
}

/// Reads everything up to the end.
///
/// # Errors
///
/// When reading fails, or there is more than the heap can hold.
pub fn read_all(mut source: impl Source) -> Result<Vec<u8>, InputError> {
    let mut all = Vec::new();
    loop {
        let length = all.len();
        all.try_reserve(CHUNK_BYTES)?;
        all.resize(length + CHUNK_BYTES, 0);
        let read = source.read(&mut all[length..]).map_err(InputError::Read)?;
        all.truncate(length + read);
        if read == 0 {
            return Ok(all);
        }
    }
}

/// Tells the standard error what is wrong, and gives the exit status for it.
pub fn complain(program: &str, problem: &impl fmt::Display) -> u8 {
    let message = format!("{program}: {problem}\n");
    // Nobody is left to tell if this fails; the status tells the rest.
    let _ = cellwall_guest::write_all(Handle::STDERR, message.as_bytes());
    1
}
