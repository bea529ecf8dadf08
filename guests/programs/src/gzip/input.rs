//! A source with a buffer, from which both single bytes and stretches are taken.

use alloc::boxed::Box;
use alloc::vec;

use super::Error;
use crate::streams::Source;

pub(super) struct Input<S> {
    source: S,
    buffer: Box<[u8]>,
    /// What of the buffer has been read and not consumed.
    start: usize,
    end: usize,
}

impl<S: Source> Input<S> {
    pub(super) fn new(source: S, bytes: usize) -> Self {
        Self {
            source,
            buffer: vec![0; bytes].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// Reads on if nothing is buffered; false at the end.
    pub(super) fn fill(&mut self) -> Result<bool, Error> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            self.end = self.source.read(&mut self.buffer)?;
        }
        Ok(self.start < self.end)
    }

    pub(super) fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(super) fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }

    /// The next bytes, of which none may be missing.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            if !self.fill()? {
                return Err(Error::Truncated);
            }
            *byte = self.buffer[self.start];
            self.start += 1;
        }
        Ok(bytes)
    }

    /// Whether nothing but zeros is left, as tapes pad files. Zeros before something else are
    /// consumed.
    pub(super) fn ends_with_zeros(&mut self) -> Result<bool, Error> {
        let mut zeros = false;
        while self.fill()? {
            match self.buffered().iter().position(|&byte| byte != 0) {
                // A member must follow its predecessor at once.
                Some(at) if zeros || at > 0 => return Err(Error::Garbage),
                Some(_) => return Ok(false),
                None => {
                    zeros = true;
                    self.start = self.end;
                }
            }
        }
        Ok(true)
    }
}
