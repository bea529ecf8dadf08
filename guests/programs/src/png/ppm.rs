//! Writes pixels as PPM: a line of text, then three samples for each.

use alloc::format;
use alloc::vec::Vec;

use cellwall_guest::Errno;

use super::header::Header;
use crate::streams::{CHUNK_BYTES, Sink};

pub(super) fn write(header: &Header, pixels: &[u8], sink: &mut impl Sink) -> Result<(), Errno> {
    let maximum = if header.sample_bytes() == 2 {
        u16::MAX
    } else {
        255
    };
    let text = format!("P6\n{} {}\n{maximum}\n", header.width, header.height);
    sink.write_all(text.as_bytes())?;
    match (header.samples(), header.sample_bytes()) {
        (1, 1) => grey::<1, 1>(pixels, sink),
        (1, 2) => grey::<2, 2>(pixels, sink),
        (2, 1) => grey::<1, 2>(pixels, sink),
        (2, 2) => grey::<2, 4>(pixels, sink),
        (4, 1) => colour::<3, 4>(pixels, sink),
        (4, 2) => colour::<6, 8>(pixels, sink),
        _ => sink.write_all(pixels),
    }
}

/// Three times the first sample of `SAMPLE` bytes, for each pixel of `PIXEL` bytes.
fn grey<const SAMPLE: usize, const PIXEL: usize>(
    pixels: &[u8],
    sink: &mut impl Sink,
) -> Result<(), Errno> {
    each::<PIXEL>(pixels, sink, |pixel, out| {
        for _ in 0..3 {
            out.extend_from_slice(&pixel[..SAMPLE]);
        }
    })
}

/// The first `KEPT` bytes of each pixel of `PIXEL` bytes.
fn colour<const KEPT: usize, const PIXEL: usize>(
    pixels: &[u8],
    sink: &mut impl Sink,
) -> Result<(), Errno> {
    each::<PIXEL>(pixels, sink, |pixel, out| {
        out.extend_from_slice(&pixel[..KEPT])
    })
}

/// Converts each pixel, at most 6 bytes of it, and writes a chunk at a time.
fn each<const PIXEL: usize>(
    pixels: &[u8],
    sink: &mut impl Sink,
    convert: impl Fn(&[u8; PIXEL], &mut Vec<u8>),
) -> Result<(), Errno> {
    let mut out = Vec::with_capacity(CHUNK_BYTES);
    for some in pixels.as_chunks::<PIXEL>().0.chunks(CHUNK_BYTES / 6) {
        out.clear();
        for pixel in some {
            convert(pixel, &mut out);
        }
        sink.write_all(&out)?;
    }
    Ok(())
}
