//! The conversion that the guest does, by the `png` crate.

use std::io::Cursor;

use png::{BitDepth, ColorType, DecodeOptions, Decoder, DecodingError, Transformations};

/// What the guest promises, of another decoder: `guests/programs/src/png/mod.rs` has the rules.
pub(crate) fn reference(file: &[u8]) -> Result<Vec<u8>, DecodingError> {
    let mut options = DecodeOptions::default();
    options.set_ignore_adler32(false);
    let mut decoder = Decoder::new_with_options(Cursor::new(file), options);
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info()?;
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    let info = reader.next_frame(&mut pixels)?;
    pixels.truncate(info.buffer_size());
    // All chunks behind the pixels too.
    reader.finish()?;
    let (bytes, maximum) = match info.bit_depth {
        BitDepth::Sixteen => (2, 65535),
        _ => (1, 255),
    };
    let mut ppm = format!("P6\n{} {}\n{maximum}\n", info.width, info.height).into_bytes();
    let (samples, grey) = match info.color_type {
        ColorType::Grayscale => (1, true),
        ColorType::GrayscaleAlpha => (2, true),
        ColorType::Rgb => {
            ppm.extend(pixels);
            return Ok(ppm);
        }
        ColorType::Rgba => (4, false),
        ColorType::Indexed => panic!("palettes are expanded"),
    };
    for pixel in pixels.chunks_exact(samples * bytes) {
        if grey {
            ppm.extend_from_slice(&pixel[..bytes]);
            ppm.extend_from_slice(&pixel[..bytes]);
            ppm.extend_from_slice(&pixel[..bytes]);
        } else {
            ppm.extend_from_slice(&pixel[..3 * bytes]);
        }
    }
    Ok(ppm)
}
