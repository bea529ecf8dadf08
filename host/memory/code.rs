//! Code that the host writes while the worker waits: for code generators.

use linux_raw::fd::OwnedFd;
use linux_raw::{io, memfd as raw};
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

    /// Puts code at an address of the window.
    pub(super) fn write(&mut self, address: u64, code: &[u8]) -> Result<(), Error> {
        let length = code.len() as u64;
        let end = address.checked_add(length);
        let (Some(offset), Some(end)) = (
            address.checked_sub(self.span.start),
            end.filter(|end| *end <= self.span.end),
        ) else {
            return Err(Error::misuse(
                Stage::Memory,
                Misuse::OutsideCodeWindow { address, length },
            ));
        };
        let end = end - self.span.start;
        let file_end = end.next_multiple_of(PAGE_BYTES);
        let before = self.end;
        if file_end > before {
            raw::ftruncate(&self.file, file_end).at(Stage::Memory, "ftruncate")?;
            self.end = file_end;
        }
        self.put(offset, code)?;
        if file_end > before {
            self.put_holes(before, offset)?;
            self.put_holes(end, file_end)?;
        }
        Ok(())
    }

    /// Takes all code away: the guest that was here may have made it.
    pub(super) fn clear(&mut self) -> Result<(), Error> {
        if self.end > 0 {
            raw::ftruncate(&self.file, 0).at(Stage::Memory, "ftruncate")?;
            self.end = 0;
        }
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

    fn put(&self, mut offset: u64, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let written = io::pwrite(&self.file, bytes, offset).at(Stage::Memory, "pwrite64")?;
            bytes = &bytes[written..];
            offset += written as u64;
        }
        Ok(())
    }
}
