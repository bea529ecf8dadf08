//! Code that the host writes while the worker waits: for code generators.

use linux_raw::fd::OwnedFd;
use linux_raw::{Errno, io, memfd as raw};
use vmctx::PAGE_BYTES;
use vmctx::map::Span;

use super::PAGE_LENGTH;
use crate::error::{Error, KernelResult as _, Misuse, Stage};
use crate::memfd;

/// `int3`, a trap: what is between and after the pieces of code.
static HOLES: [u8; PAGE_LENGTH] = [0xcc; PAGE_LENGTH];

/// A window of the worker's addresses that it maps read and execute. Only the host has a descriptor
/// to write by.
///
/// The file ends with the last page of code, so that everything after it faults: holes of a file
/// would read as zeros, and zeros are instructions.
pub(super) struct Code {
    file: OwnedFd,
    span: Span,
    /// How long the file is: whole pages.
    end: u64,
}

impl Code {
    /// An empty window, and the worker's end of it.
    pub(super) fn new(span: Span) -> Result<(Self, OwnedFd), Error> {
        let room = span.end - span.start;
        let file = memfd::growing(c"cellwall-code", room, Stage::Start)?;
        let worker = memfd::read_only(&file, Stage::Start)?;
        Ok((Self { file, span, end: 0 }, worker))
    }

    /// How many bytes it holds: code, and what is between.
    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    /// How many bytes more it would hold with so much code at this address.
    pub(super) fn growth(&self, address: u64, length: u64) -> Result<u64, Error> {
        let (_, end) = self.place(address, length)?;
        Ok(end.next_multiple_of(PAGE_BYTES).saturating_sub(self.end))
    }

    /// Puts code at an address of the window.
    pub(super) fn write(&mut self, address: u64, code: &[u8]) -> Result<(), Error> {
        let (offset, end) = self.place(address, code.len() as u64)?;
        let (before, after) = (self.end, end.next_multiple_of(PAGE_BYTES));
        if after <= before {
            return self.put(offset, code);
        }
        memfd::check_limit(after, Stage::Memory)?;
        raw::ftruncate(&self.file, after).at(Stage::Memory, "ftruncate")?;
        self.end = after;
        let done = self
            .put(offset, code)
            .and_then(|()| self.put_holes(before, offset))
            .and_then(|()| self.put_holes(end, after));
        if done.is_err() {
            // What is half written would be zeros, and they are instructions.
            self.cut(before)?;
        }
        done
    }

    /// Takes all code away: the guest that was here may have made it.
    pub(super) fn clear(&mut self) -> Result<(), Error> {
        if self.end > 0 {
            self.cut(0)?;
        }
        Ok(())
    }

    /// Whether all of these bytes are code that has been written, or what is between.
    pub(super) fn holds(&self, address: u64, length: u64) -> bool {
        let place = self.place(address, length);
        place.is_ok_and(|(_, end)| end <= self.end)
    }

    /// Copies out what it [`holds`](Self::holds).
    pub(super) fn read(&self, address: u64, mut into: &mut [u8]) -> Result<(), Error> {
        let mut offset = address - self.span.start;
        while !into.is_empty() {
            let read = io::pread(&self.file, into, offset).at(Stage::Memory, "pread64")?;
            if read == 0 {
                return Err(Error::kernel(Stage::Memory, "pread64", Errno::EIO));
            }
            into = &mut into[read..];
            offset += read as u64;
        }
        Ok(())
    }

    /// From which byte of the file on, and up to which, so much code at this address is.
    fn place(&self, address: u64, length: u64) -> Result<(u64, u64), Error> {
        let end = address.checked_add(length);
        let offset = address.checked_sub(self.span.start);
        match (offset, end.filter(|end| *end <= self.span.end)) {
            (Some(offset), Some(end)) => Ok((offset, end - self.span.start)),
            _ => Err(Error::misuse(
                Stage::Memory,
                Misuse::OutsideCodeWindow { address, length },
            )),
        }
    }

    fn cut(&mut self, end: u64) -> Result<(), Error> {
        raw::ftruncate(&self.file, end).at(Stage::Memory, "ftruncate")?;
        self.end = end;
        Ok(())
    }

    fn put_holes(&self, mut from: u64, to: u64) -> Result<(), Error> {
        while from < to {
            let piece = (to - from).min(PAGE_BYTES);
            let piece = usize::try_from(piece).unwrap_or(HOLES.len());
            self.put(from, &HOLES[..piece])?;
            from += piece as u64;
        }
        Ok(())
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        memfd::write_all(&self.file, bytes, offset, Stage::Memory)
    }
}
