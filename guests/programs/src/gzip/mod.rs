//! Unpacks gzip files (RFC 1952): any number of members, each with its header and checksums.

use alloc::boxed::Box;
use alloc::vec;

use cellwall_guest::Errno;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::crc32::Crc32;
use crate::streams::{CHUNK_BYTES, Sink, Source};

mod error;
mod header;
mod input;

pub use error::Error;
use input::Input;

/// The output's ring buffer: a power of two, at least the 32 KiB that matches reach back. It is
/// written out whole.
const WINDOW_BYTES: usize = CHUNK_BYTES;

/// Unpacks all members of `source` to `sink`, as `gzip -dc` does.
///
/// # Errors
///
/// When the data is no gzip file, damaged or cut off, or something but zeros follows the last
/// member; what was unpacked before is written by then. When reading or writing fails.
pub fn gunzip(source: impl Source, mut sink: impl Sink) -> Result<(), Error> {
    let mut input = Input::new(source, CHUNK_BYTES);
    let mut inflater = Inflater::new();
    // An empty file is none: at least one member.
    header::read(&mut input)?;
    loop {
        inflater.member(&mut input, &mut sink)?;
        if input.ends_with_zeros()? {
            return Ok(());
        }
        match header::read(&mut input) {
            Err(Error::NotGzip) => return Err(Error::Garbage),
            other => other?,
        }
    }
}

struct Inflater {
    decompressor: Box<DecompressorOxide>,
    window: Box<[u8]>,
}

impl Inflater {
    fn new() -> Self {
        Self {
            decompressor: Box::default(),
            window: vec![0; WINDOW_BYTES].into_boxed_slice(),
        }
    }

    /// Unpacks the compressed part of a member and checks what follows it.
    fn member(
        &mut self,
        input: &mut Input<impl Source>,
        sink: &mut impl Sink,
    ) -> Result<(), Error> {
        self.decompressor.init();
        let mut sum = Crc32::new();
        // The size of the member, modulo 2^32, as the file keeps it.
        let mut size: u32 = 0;
        let mut position = 0;
        // Until the ring is full the decompressor knows what lies before the start of the data;
        // afterwards no match reaches back so far.
        let mut flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        loop {
            let more = if input.fill()? {
                TINFL_FLAG_HAS_MORE_INPUT
            } else {
                0
            };
            let (status, consumed, produced) = decompress(
                &mut self.decompressor,
                input.buffered(),
                &mut self.window,
                position,
                flags | more,
            );
            input.consume(consumed);
            let output = &self.window[position..position + produced];
            sink.write_all(output).map_err(Error::Write)?;
            sum.update(output);
            size = size.wrapping_add(low_bits(produced));
            position += produced;
            if position == WINDOW_BYTES {
                position = 0;
                flags = 0;
            }
            match status {
                TINFLStatus::Done => break,
                TINFLStatus::HasMoreOutput | TINFLStatus::NeedsMoreInput => {}
                TINFLStatus::FailedCannotMakeProgress => return Err(Error::Truncated),
                _ => return Err(Error::Corrupt),
            }
        }
        if u32::from_le_bytes(input.array()?) != sum.value() {
            return Err(Error::Checksum);
        }
        if u32::from_le_bytes(input.array()?) != size {
            return Err(Error::Size);
        }
        Ok(())
    }
}

fn low_bits(bytes: usize) -> u32 {
    // No more than the window at a time.
    u32::try_from(bytes).unwrap_or_default()
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self::Read(errno)
    }
}

#[cfg(test)]
mod tests;
