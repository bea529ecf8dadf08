//! Pictures of every kind, whole and damaged, against the `png` crate.
//!
//! Every sequence of bytes behind a filter number is a valid row, so random bytes make pictures
//! that use all filters.

use std::io::{Cursor, Write as _};

use cellwall_guest_programs::crc32;
use cellwall_guest_programs::png::{Error, png_to_ppm};
use flate2::Compression;
use flate2::write::ZlibEncoder;

/// Colour types and depths that the format has, with samples per pixel.
const KINDS: [(u8, u8, u32); 15] = [
    (0, 1, 1),
    (0, 2, 1),
    (0, 4, 1),
    (0, 8, 1),
    (0, 16, 1),
    (2, 8, 3),
    (2, 16, 3),
    (3, 1, 1),
    (3, 2, 1),
    (3, 4, 1),
    (3, 8, 1),
    (4, 8, 2),
    (4, 16, 2),
    (6, 8, 4),
    (6, 16, 4),
];

struct Random(u64);

impl Random {
    fn byte(&mut self) -> u8 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.0.to_le_bytes()[5]
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }
}

#[derive(Clone, Copy, Debug)]
struct Picture {
    width: u32,
    height: u32,
    colour: u8,
    depth: u8,
    samples: u32,
    interlaced: bool,
    transparent: bool,
    palette: usize,
}

impl Picture {
    /// The rows of each pass: one for ordinary pictures, up to seven for interlaced ones.
    fn passes(&self) -> Vec<(u32, u32)> {
        let steps = if self.interlaced {
            vec![
                (0, 0, 8, 8),
                (4, 0, 8, 8),
                (0, 4, 4, 8),
                (2, 0, 4, 4),
                (0, 2, 2, 4),
                (1, 0, 2, 2),
                (0, 1, 1, 2),
            ]
        } else {
            vec![(0, 0, 1, 1)]
        };
        let size = |(x, y, dx, dy)| {
            let width = self.width.saturating_sub(x).div_ceil(dx);
            (width, self.height.saturating_sub(y).div_ceil(dy))
        };
        steps
            .into_iter()
            .map(size)
            .filter(|&(width, height)| width > 0 && height > 0)
            .collect()
    }

    fn pixels(&self, random: &mut Random) -> Vec<u8> {
        let mut rows = Vec::new();
        for (width, height) in self.passes() {
            let bits = width * self.samples * u32::from(self.depth);
            let bytes = usize::try_from(bits.div_ceil(8)).unwrap();
            for _ in 0..height {
                rows.push(random.byte() % 5);
                rows.extend(random.bytes(bytes));
            }
        }
        rows
    }

    fn file(&self, random: &mut Random, rows: &[u8]) -> Vec<u8> {
        let mut header = Vec::new();
        header.extend(self.width.to_be_bytes());
        header.extend(self.height.to_be_bytes());
        header.extend([self.depth, self.colour, 0, 0, u8::from(self.interlaced)]);
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(rows).unwrap();
        let packed = zlib.finish().unwrap();

        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        chunk(&mut file, b"IHDR", &header);
        chunk(&mut file, b"gAMA", &45455u32.to_be_bytes());
        if self.palette > 0 {
            chunk(&mut file, b"PLTE", &random.bytes(3 * self.palette));
        }
        if self.transparent {
            let length = match self.colour {
                0 => 2,
                2 => 6,
                3 => self.palette / 2,
                _ => 0,
            };
            if length > 0 {
                // Of 16-bit samples only what the depth has may be set.
                let mut samples = random.bytes(length);
                if self.colour != 3 && self.depth < 16 {
                    samples.iter_mut().step_by(2).for_each(|high| *high = 0);
                    let mask = u8::MAX >> (8 - self.depth);
                    samples.iter_mut().for_each(|low| *low &= mask);
                }
                chunk(&mut file, b"tRNS", &samples);
            }
        }
        for part in packed.chunks(1000) {
            chunk(&mut file, b"IDAT", part);
        }
        chunk(&mut file, b"tEXt", b"Comment\0none");
        chunk(&mut file, b"IEND", b"");
        file
    }
}

fn chunk(file: &mut Vec<u8>, name: &[u8; 4], data: &[u8]) {
    file.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
    let summed = [name, data].concat();
    file.extend(&summed);
    file.extend(crc32::of(&summed).to_be_bytes());
}

fn ours(file: &[u8]) -> Result<Vec<u8>, Error> {
    let mut output = Vec::new();
    png_to_ppm(file, &mut output).map(|()| output)
}

/// What the guest promises, by another decoder.
fn reference(file: &[u8]) -> Result<Vec<u8>, png::DecodingError> {
    let mut decoder = png::Decoder::new(Cursor::new(file));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info()?;
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels)?;
    pixels.truncate(info.buffer_size());
    let (samples, grey) = match info.color_type {
        png::ColorType::Grayscale => (1, true),
        png::ColorType::GrayscaleAlpha => (2, true),
        png::ColorType::Rgb => (3, false),
        png::ColorType::Rgba => (4, false),
        png::ColorType::Indexed => panic!("palettes are expanded"),
    };
    let (bytes, maximum) = match info.bit_depth {
        png::BitDepth::Sixteen => (2, 65535),
        _ => (1, 255),
    };
    let mut ppm = format!("P6\n{} {}\n{maximum}\n", info.width, info.height).into_bytes();
    for pixel in pixels.chunks_exact(samples * bytes) {
        for sample in 0..3 {
            let at = if grey { 0 } else { sample * bytes };
            ppm.extend(&pixel[at..at + bytes]);
        }
    }
    Ok(ppm)
}

fn pictures() -> impl Iterator<Item = Picture> {
    let sizes = [
        (1, 1),
        (2, 1),
        (1, 9),
        (3, 5),
        (8, 8),
        (9, 7),
        (33, 17),
        (200, 131),
    ];
    KINDS.into_iter().flat_map(move |(colour, depth, samples)| {
        sizes.into_iter().flat_map(move |(width, height)| {
            [(false, false), (false, true), (true, false), (true, true)].map(
                |(interlaced, transparent)| Picture {
                    width,
                    height,
                    colour,
                    depth,
                    samples,
                    interlaced,
                    transparent,
                    palette: if colour == 3 { 1 << depth } else { 0 },
                },
            )
        })
    })
}

#[test]
fn every_colour_type_depth_and_interlacing() {
    let mut random = Random(1);
    for picture in pictures() {
        let rows = picture.pixels(&mut random);
        let file = picture.file(&mut random, &rows);
        let expected = reference(&file).unwrap_or_else(|error| panic!("{picture:?}: {error}"));
        let output = ours(&file).unwrap_or_else(|error| panic!("{picture:?}: {error}"));
        assert!(output == expected, "{picture:?}");
    }
}

#[test]
fn suggested_palettes_and_short_ones() {
    let mut random = Random(2);
    for mut picture in pictures() {
        picture.palette = match picture.colour {
            2 | 6 => 16,
            3 if picture.depth > 1 => 3,
            _ => continue,
        };
        let rows = picture.pixels(&mut random);
        let file = picture.file(&mut random, &rows);
        let expected = reference(&file).unwrap_or_else(|error| panic!("{picture:?}: {error}"));
        let output = ours(&file).unwrap_or_else(|error| panic!("{picture:?}: {error}"));
        assert!(output == expected, "{picture:?}");
    }
}

#[test]
fn damaged_pixels_never_panic() {
    let mut random = Random(3);
    for picture in pictures().filter(|picture| picture.height < 20) {
        for _ in 0..8 {
            let mut rows = picture.pixels(&mut random);
            match random.byte() % 4 {
                0 => rows.truncate(rows.len() / 2),
                1 => rows.extend(random.bytes(5)),
                2 => rows[0] = random.byte(),
                _ => {}
            }
            let mut file = picture.file(&mut random, &rows);
            damage_idat(&mut file, &mut random);
            // Damage may be where nobody looks, say in the window size; most of it is not.
            let _ = ours(&file);
        }
    }
}

/// Changes a byte of the first pixel chunk, with a checksum that matches.
fn damage_idat(file: &mut [u8], random: &mut Random) {
    let at = file.windows(4).position(|name| name == b"IDAT").unwrap();
    let length = u32::from_be_bytes(*file[at - 4..].first_chunk().unwrap());
    let end = at + 4 + usize::try_from(length).unwrap();
    let place =
        at + 4 + (usize::from(random.byte()) << 8 | usize::from(random.byte())) % (end - at - 4);
    file[place] ^= 1 << (random.byte() % 8);
    let sum = crc32::of(&file[at..end]);
    file[end..end + 4].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn cut_off_anywhere() {
    let mut random = Random(4);
    let picture = pictures()
        .find(|picture| picture.width == 33 && picture.colour == 2)
        .unwrap();
    let rows = picture.pixels(&mut random);
    let file = picture.file(&mut random, &rows);
    assert!(ours(&file).is_ok());
    for length in 0..file.len() {
        assert!(ours(&file[..length]).is_err(), "cut at {length}");
    }
}

#[test]
fn pixels_that_are_too_few_or_wrong() {
    let mut random = Random(5);
    let picture = pictures()
        .find(|picture| picture.width == 33 && picture.colour == 2)
        .unwrap();
    let rows = picture.pixels(&mut random);
    let short = picture.file(&mut random, &rows[..rows.len() - 1]);
    assert!(matches!(ours(&short), Err(Error::Pixels(_))));
    let mut wrong = rows;
    wrong[0] = 9;
    let wrong = picture.file(&mut random, &wrong);
    assert!(matches!(ours(&wrong), Err(Error::Pixels(_))));
}

#[test]
fn more_pixels_than_memory() {
    let huge = Picture {
        width: 0x7fff_ffff,
        height: 0x7fff_ffff,
        colour: 0,
        depth: 8,
        samples: 1,
        interlaced: false,
        transparent: false,
        palette: 0,
    };
    let file = huge.file(&mut Random(6), b"few");
    assert!(matches!(ours(&file), Err(Error::TooLarge(_))));
    let overflowing = Picture {
        colour: 6,
        depth: 16,
        ..huge
    };
    assert!(matches!(
        ours(&overflowing.file(&mut Random(6), b"few")),
        Err(Error::TooLarge(_))
    ));
}
