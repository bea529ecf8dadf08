//! Walks through a PNG file's chunks and keeps those that the pixels depend on.

use core::fmt;
use core::ops::Range;

use super::Error;
use super::header::{Colour, HEADER_BYTES, Header};
use crate::crc32;

const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// The largest length that the format has.
const LENGTH_MAX: u32 = (1 << 31) - 1;

/// A chunk has its length and name in front of the data.
const FRONT_BYTES: usize = 8;
/// And a checksum behind.
const SUM_BYTES: usize = 4;

/// Why a file's structure is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadChunk {
    /// The file does not begin like a PNG file.
    NotPng,
    /// The file ends within a chunk, or without the last one.
    Truncated,
    /// A chunk says that it is longer than a chunk can be.
    Length,
    /// A chunk's checksum does not match.
    Checksum([u8; 4]),
    /// A chunk that everything depends on is missing, doubled, misplaced, of a wrong size, or
    /// unknown.
    Unexpected([u8; 4]),
    /// There are no pixels, or no palette where the picture needs one.
    Missing(&'static str),
}

impl fmt::Display for BadChunk {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPng => out.write_str("the input is not in PNG format"),
            Self::Truncated => out.write_str("the input ends too early"),
            Self::Length => out.write_str("the input is damaged: a chunk is too long"),
            Self::Checksum(name) => {
                write!(
                    out,
                    "the input is damaged: chunk {} has another checksum",
                    name.escape_ascii()
                )
            }
            Self::Unexpected(name) => {
                write!(
                    out,
                    "chunk {} is unknown or not where it belongs",
                    name.escape_ascii()
                )
            }
            Self::Missing(name) => write!(out, "there is no {name} chunk"),
        }
    }
}

/// A chunk: its name, and where its data is in the file.
struct Chunk {
    name: [u8; 4],
    data: Range<usize>,
}

impl Chunk {
    /// Whether decoders that do not know it must give up.
    fn is_critical(&self) -> bool {
        self.name[0] & 0x20 == 0
    }
}

/// Checks all chunks, reads the header, and moves what the pixels depend on to the front of the
/// file: signature, header, palette if the picture has one, all pixels as one chunk, end.
///
/// Chunks that can be done without are skipped, even if damaged, as other decoders do.
pub(super) fn sort(file: &mut [u8]) -> Result<(Header, &[u8]), Error> {
    if file.get(..SIGNATURE.len()) != Some(&SIGNATURE[..]) {
        return Err(BadChunk::NotPng.into());
    }
    let mut at = SIGNATURE.len();
    let first = next(file, &mut at)?;
    let header = match (&first.name, file[first.data.clone()].as_array()) {
        (b"IHDR", Some(bytes)) => Header::parse(bytes)?,
        _ => return Err(BadChunk::Unexpected(first.name).into()),
    };

    let mut palette = None;
    let mut pixels: Option<Range<usize>> = None;
    let mut last_was_pixels = false;
    loop {
        let chunk = next(file, &mut at)?;
        let unexpected = Err(BadChunk::Unexpected(chunk.name).into());
        let is_pixels = chunk.name == *b"IDAT";
        match &chunk.name {
            b"IEND" if chunk.data.is_empty() => break,
            b"IDAT" => match &mut pixels {
                None => pixels = Some(chunk.data),
                // Moved up to the one before: one chunk in the end.
                Some(before) if last_was_pixels => {
                    let length = chunk.data.len();
                    file.copy_within(chunk.data, before.end);
                    before.end += length;
                }
                Some(_) => return unexpected,
            },
            b"PLTE" => {
                let entries = chunk.data.len() / 3;
                let fits = chunk.data.len().is_multiple_of(3) && (1..=256).contains(&entries);
                if !fits || palette.is_some() || pixels.is_some() {
                    return unexpected;
                }
                palette = Some(chunk.data);
            }
            _ if chunk.is_critical() => return unexpected,
            _ => {}
        }
        last_was_pixels = is_pixels;
    }
    let pixels = pixels.ok_or(BadChunk::Missing("IDAT"))?;
    if header.colour != Colour::Palette {
        palette = None;
    } else if palette.is_none() {
        return Err(BadChunk::Missing("PLTE").into());
    }

    // Everything moves down, never over what has yet to move: the order is the file's.
    let mut end = SIGNATURE.len() + FRONT_BYTES + HEADER_BYTES + SUM_BYTES;
    if let Some(palette) = palette {
        end = put(file, end, *b"PLTE", palette);
    }
    end = put(file, end, *b"IDAT", pixels);
    end = put(file, end, *b"IEND", 0..0);
    Ok((header, &file[..end]))
}

/// The chunk at `at`, with a good checksum if it is critical, and moves on behind it.
fn next(file: &[u8], at: &mut usize) -> Result<Chunk, BadChunk> {
    let rest = file.get(*at..).unwrap_or_default();
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(BadChunk::Truncated)?;
    let length = u32::from_be_bytes(*length);
    if length > LENGTH_MAX {
        return Err(BadChunk::Length);
    }
    let length = usize::try_from(length).map_err(|_| BadChunk::Length)?;
    let summed = rest.get(..4 + length).ok_or(BadChunk::Truncated)?;
    let sum = rest[4 + length..]
        .first_chunk::<4>()
        .ok_or(BadChunk::Truncated)?;
    let name = *summed.first_chunk::<4>().ok_or(BadChunk::Truncated)?;
    let start = *at + FRONT_BYTES;
    let chunk = Chunk {
        name,
        data: start..start + length,
    };
    if chunk.is_critical() && crc32::of(summed) != u32::from_be_bytes(*sum) {
        return Err(BadChunk::Checksum(name));
    }
    *at = chunk.data.end + SUM_BYTES;
    Ok(chunk)
}

/// Moves the data to a chunk at `at` and gives its end. The checksum is left as it is: nobody
/// reads it any more.
fn put(file: &mut [u8], at: usize, name: [u8; 4], data: Range<usize>) -> usize {
    let length = data.len();
    let start = at + FRONT_BYTES;
    file.copy_within(data, start);
    // Joined pixels are shorter than the file, and a file of 4 GiB does not fit into a guest.
    let length_field = u32::try_from(length).unwrap_or(LENGTH_MAX);
    file[at..at + 4].copy_from_slice(&length_field.to_be_bytes());
    file[at + 4..start].copy_from_slice(&name);
    start + length + SUM_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// A file of these chunks, with checksums.
    fn file(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut file = SIGNATURE.to_vec();
        for (name, data) in chunks {
            file.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
            let summed = [&name[..], data].concat();
            file.extend(&summed);
            file.extend(crc32::of(&summed).to_be_bytes());
        }
        file
    }

    const GREY: &[u8] = &[0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0];
    const PALETTE: &[u8] = &[0, 0, 0, 1, 0, 0, 0, 1, 8, 3, 0, 0, 0];

    fn bad(chunks: &[(&[u8; 4], &[u8])]) -> BadChunk {
        match sort(&mut file(chunks)) {
            Err(Error::Chunk(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keeps_what_pixels_depend_on_and_joins_them() {
        let mut input = file(&[
            (b"IHDR", GREY),
            (b"gAMA", b"gamm"),
            (b"PLTE", b"rgb"),
            (b"tRNS", b"tt"),
            (b"IDAT", b"one"),
            (b"IDAT", b""),
            (b"IDAT", b"two"),
            (b"tEXt", b"text"),
            (b"IEND", b""),
        ]);
        input.extend(b"trailing");
        let (_, sorted) = sort(&mut input).unwrap();
        let mut at = SIGNATURE.len();
        let mut seen = Vec::new();
        while at < sorted.len() {
            let length = u32::from_be_bytes(*sorted[at..].first_chunk().unwrap()) as usize;
            let data = at + FRONT_BYTES..at + FRONT_BYTES + length;
            seen.push((sorted[at + 4..at + 8].to_vec(), sorted[data].to_vec()));
            at += FRONT_BYTES + length + SUM_BYTES;
        }
        let expected = [(&b"IHDR"[..], GREY), (b"IDAT", b"onetwo"), (b"IEND", b"")];
        assert_eq!(
            seen,
            expected.map(|(name, data)| (name.to_vec(), data.to_vec()))
        );
    }

    #[test]
    fn refuses_what_is_not_where_it_belongs() {
        let end: (&[u8; 4], &[u8]) = (b"IEND", b"");
        assert_eq!(bad(&[end]), BadChunk::Unexpected(*b"IEND"));
        assert_eq!(
            bad(&[(b"IHDR", b"short"), end]),
            BadChunk::Unexpected(*b"IHDR")
        );
        assert_eq!(
            bad(&[(b"IHDR", GREY), (b"IHDR", GREY)]),
            BadChunk::Unexpected(*b"IHDR")
        );
        assert_eq!(bad(&[(b"IHDR", GREY), end]), BadChunk::Missing("IDAT"));
        assert_eq!(
            bad(&[(b"IHDR", PALETTE), (b"IDAT", b""), end]),
            BadChunk::Missing("PLTE")
        );
        assert_eq!(
            bad(&[(b"IHDR", PALETTE), (b"PLTE", b"four"), end]),
            BadChunk::Unexpected(*b"PLTE")
        );
        assert_eq!(
            bad(&[(b"IHDR", GREY), (b"NeWs", b""), end]),
            BadChunk::Unexpected(*b"NeWs")
        );
        assert_eq!(
            bad(&[
                (b"IHDR", GREY),
                (b"IDAT", b""),
                (b"tIME", b""),
                (b"IDAT", b""),
                end
            ]),
            BadChunk::Unexpected(*b"IDAT")
        );
    }

    #[test]
    fn refuses_every_cut_and_every_flipped_critical_byte() {
        let whole = file(&[(b"IHDR", GREY), (b"IDAT", b"pixels"), (b"IEND", b"")]);
        for length in 0..whole.len() {
            assert!(
                sort(&mut whole[..length].to_vec()).is_err(),
                "cut at {length}"
            );
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert!(sort(&mut flipped).is_err(), "flipped at {at}");
        }
    }
}
