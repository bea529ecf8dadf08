//! Decodes PNG files to PPM: what every program can read, without alpha and always in colour.
//!
//! The samples are those of the file, neither gamma-corrected nor blended:
//!
//! - grey becomes three equal samples; of 1, 2 and 4 bits it is scaled to 8 (times 255, 85, 17),
//! - palette entries become their colours; an index beyond the palette is black,
//! - alpha is dropped, and so is the transparency of `tRNS` chunks,
//! - 16-bit samples stay 16-bit, the most significant byte first, with a maximum of 65535,
//! - interlaced images come out like others; of an animation it is the still image.
//!
//! Chunks are checked and sorted out here, before the decoder sees them: it gets the header, the
//! palette where the image has one, and the pixels. That bounds its memory as well: nothing but
//! the pixels' size, which is known beforehand, decides how much it takes.

use alloc::vec::Vec;
use core::fmt;

use cellwall_guest::Errno;
use zune_core::bit_depth::ByteEndian;
use zune_core::bytestream::ZCursor;
use zune_core::options::DecoderOptions;
use zune_png::PngDecoder;
use zune_png::error::PngDecodeErrors;

use crate::streams::{self, InputError, Sink, Source};

mod chunks;
mod header;
mod ppm;

pub use chunks::BadChunk;
pub use header::BadHeader;
use header::Header;

/// Why there is no picture.
#[derive(Debug)]
pub enum Error {
    /// The input could not be read as a whole.
    Input(InputError),
    /// The file's structure is damaged.
    Chunk(BadChunk),
    /// The header makes no sense.
    Header(BadHeader),
    /// The picture needs more memory than the guest has.
    TooLarge(Header),
    /// The pixels are damaged.
    Pixels(PngDecodeErrors),
    /// The decoder gave something else than it was asked for.
    Decoder,
    /// Writing failed.
    Write(Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(error) => error.fmt(out),
            Self::Chunk(error) => error.fmt(out),
            Self::Header(error) => error.fmt(out),
            Self::TooLarge(header) => {
                write!(out, "{header} pixels need more memory than the guest has")
            }
            Self::Pixels(error) => write!(out, "the pixels are damaged: {error:?}"),
            Self::Decoder => out.write_str("the decoder failed"),
            Self::Write(errno) => write!(out, "cannot write the output: {errno}"),
        }
    }
}

/// Reads a PNG file from `source` and writes it as PPM (`P6`) to `sink`.
///
/// # Errors
///
/// When the file is damaged or cut off, when it needs more memory than there is, and when reading
/// or writing fails. Nothing is written unless all pixels are good.
pub fn png_to_ppm(source: impl Source, mut sink: impl Sink) -> Result<(), Error> {
    let mut file = streams::read_all(source).map_err(Error::Input)?;
    let (header, sorted) = chunks::sort(&mut file)?;
    let pixels = decode(&header, sorted)?;
    drop(file);
    ppm::write(&header, &pixels, &mut sink).map_err(Error::Write)
}

fn decode(header: &Header, file: &[u8]) -> Result<Vec<u8>, Error> {
    // The decoder takes its memory without asking, and would panic.
    let needed = header
        .decoder_bytes(file.len())
        .ok_or(Error::TooLarge(*header))?;
    if Vec::<u8>::new().try_reserve_exact(needed).is_err() {
        return Err(Error::TooLarge(*header));
    }
    let options = DecoderOptions::default()
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .set_strict_mode(true)
        .inflate_set_confirm_adler(true)
        // Each chunk's was checked before they were sorted.
        .png_set_confirm_crc(false)
        .png_set_strip_to_8bit(false)
        .png_set_add_alpha_channel(false)
        .set_byte_endian(ByteEndian::BE);
    let mut decoder = PngDecoder::new_with_options(ZCursor::new(file), options);
    let pixels = decoder.decode_raw().map_err(Error::Pixels)?;
    if Some(pixels.len()) == header.decoded_bytes() {
        Ok(pixels)
    } else {
        Err(Error::Decoder)
    }
}

impl From<BadChunk> for Error {
    fn from(error: BadChunk) -> Self {
        Self::Chunk(error)
    }
}

impl From<BadHeader> for Error {
    fn from(error: BadHeader) -> Self {
        Self::Header(error)
    }
}
