//! What the header of a PNG file says, and how much memory follows from it.

use core::fmt;

/// The bytes of a header chunk.
pub(super) const HEADER_BYTES: usize = 13;

/// The largest width and height that the format has.
const SIDE_MAX: u32 = (1 << 31) - 1;

/// Room for the decoder's smaller buffers: tables, and some slack behind the unpacked data.
const SLACK_BYTES: usize = 256 * 1024;

/// What a pixel is made of in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Grey,
    Rgb,
    Palette,
    GreyAlpha,
    RgbAlpha,
}

/// A header that makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) colour: Colour,
    /// 1, 2, 4, 8 or 16 bits per sample.
    pub(super) depth: u8,
    pub(super) interlaced: bool,
}

impl fmt::Display for Header {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}x{}", self.width, self.height)
    }
}

/// Why a header makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHeader {
    /// Width or height is zero or more than the format has.
    Size,
    /// No such colour type, or not with this many bits.
    Colour {
        /// The colour type.
        colour: u8,
        /// Bits per sample.
        depth: u8,
    },
    /// A compression, filter or interlace method that does not exist.
    Method,
}

impl fmt::Display for BadHeader {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size => out.write_str("the picture has no or too many rows or columns"),
            Self::Colour { colour, depth } => {
                write!(out, "there is no colour type {colour} with {depth} bits")
            }
            Self::Method => out.write_str("unknown compression, filter or interlace method"),
        }
    }
}

impl Header {
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, BadHeader> {
        let &[
            w0,
            w1,
            w2,
            w3,
            h0,
            h1,
            h2,
            h3,
            depth,
            colour,
            compression,
            filter,
            interlace,
        ] = bytes;
        let width = u32::from_be_bytes([w0, w1, w2, w3]);
        let height = u32::from_be_bytes([h0, h1, h2, h3]);
        let side = 1..=SIDE_MAX;
        if !side.contains(&width) || !side.contains(&height) {
            return Err(BadHeader::Size);
        }
        let kind = match (colour, depth) {
            (0, 1 | 2 | 4 | 8 | 16) => Colour::Grey,
            (2, 8 | 16) => Colour::Rgb,
            (3, 1 | 2 | 4 | 8) => Colour::Palette,
            (4, 8 | 16) => Colour::GreyAlpha,
            (6, 8 | 16) => Colour::RgbAlpha,
            _ => return Err(BadHeader::Colour { colour, depth }),
        };
        if compression != 0 || filter != 0 || interlace > 1 {
            return Err(BadHeader::Method);
        }
        Ok(Self {
            width,
            height,
            colour: kind,
            depth,
            interlaced: interlace == 1,
        })
    }

    /// Samples per pixel as the decoder gives them: palettes resolved, alpha still there.
    pub(super) fn samples(&self) -> usize {
        match self.colour {
            Colour::Grey => 1,
            Colour::GreyAlpha => 2,
            Colour::Rgb | Colour::Palette => 3,
            Colour::RgbAlpha => 4,
        }
    }

    /// Bytes per sample as the decoder gives them.
    pub(super) fn sample_bytes(&self) -> usize {
        if self.depth == 16 { 2 } else { 1 }
    }

    /// The bytes of the picture as the decoder gives it; none if there is no such number.
    pub(super) fn decoded_bytes(&self) -> Option<usize> {
        let pixel = self.samples() * self.sample_bytes();
        self.row_bytes(pixel)?
            .checked_mul(usize::try_from(self.height).ok()?)
    }

    /// The most bytes that the decoder needs at one time for a file of so many bytes: its copy of
    /// the packed pixels; the unpacked ones, at worst while they move to a place twice as large;
    /// the picture; a second one if it is interlaced.
    pub(super) fn decoder_bytes(&self, file: usize) -> Option<usize> {
        let in_file = match self.colour {
            Colour::Palette => 1,
            _ => self.samples(),
        };
        // As the decoder estimates it: bits below 8 are not counted, rows have a byte in front.
        let pixel = in_file * self.sample_bytes();
        let unpacked = self
            .row_bytes(pixel)?
            .checked_add(pixel)?
            .checked_mul(usize::try_from(self.height).ok()?)?;
        let pictures = self
            .decoded_bytes()?
            .checked_mul(if self.interlaced { 2 } else { 1 })?;
        file.checked_add(unpacked.checked_mul(3)?)?
            .checked_add(pictures)?
            .checked_add(SLACK_BYTES)
    }

    fn row_bytes(&self, pixel: usize) -> Option<usize> {
        usize::try_from(self.width).ok()?.checked_mul(pixel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(width: u32, height: u32, depth: u8, colour: u8) -> Result<Header, BadHeader> {
        let [w0, w1, w2, w3] = width.to_be_bytes();
        let [h0, h1, h2, h3] = height.to_be_bytes();
        Header::parse(&[w0, w1, w2, w3, h0, h1, h2, h3, depth, colour, 0, 0, 0])
    }

    #[test]
    fn only_what_the_format_has() {
        assert!(header(1, 1, 16, 6).is_ok());
        assert_eq!(header(0, 1, 8, 2), Err(BadHeader::Size));
        assert_eq!(header(1, 1 << 31, 8, 2), Err(BadHeader::Size));
        assert_eq!(
            header(1, 1, 4, 2),
            Err(BadHeader::Colour {
                colour: 2,
                depth: 4
            })
        );
        assert_eq!(
            header(1, 1, 16, 3),
            Err(BadHeader::Colour {
                colour: 3,
                depth: 16
            })
        );
        let methods = [[1, 0, 0], [0, 1, 0], [0, 0, 2]];
        for [compression, filter, interlace] in methods {
            let bytes = [0, 0, 0, 1, 0, 0, 0, 1, 8, 2, compression, filter, interlace];
            assert_eq!(Header::parse(&bytes), Err(BadHeader::Method));
        }
    }

    #[test]
    fn sizes_do_not_wrap_around() {
        assert_eq!(
            header(SIDE_MAX, SIDE_MAX, 16, 6).unwrap().decoder_bytes(0),
            None
        );
        assert_eq!(
            header(3, 2, 16, 6).unwrap().decoded_bytes(),
            Some(3 * 2 * 4 * 2)
        );
        assert_eq!(header(3, 2, 1, 3).unwrap().decoded_bytes(), Some(3 * 2 * 3));
    }
}
