//! Writes PNG files of every kind, interlaced ones too, which the `png` crate does not write.
//!
//! Any bytes behind a filter number are a valid row, so random ones make pictures that use all
//! filters.

use std::io::Write as _;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

use super::Picture;
use super::random::Random;

/// Where each pass of an interlaced picture begins, and its steps.
const ADAM7: [(u32, u32, u32, u32); 7] = [
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
];

impl Picture {
    /// The rows, each behind its filter: of one pass, or of up to seven.
    pub(crate) fn rows(&self, random: &mut Random) -> Vec<u8> {
        let passes = if self.interlaced {
            &ADAM7[..]
        } else {
            &[(0, 0, 1, 1)]
        };
        let mut rows = Vec::new();
        for &(x, y, step_x, step_y) in passes {
            let width = self.width.saturating_sub(x).div_ceil(step_x);
            let height = self.height.saturating_sub(y).div_ceil(step_y);
            let bits = width * self.samples * u32::from(self.depth);
            let bytes = usize::try_from(bits.div_ceil(8)).unwrap();
            // A pass without pixels has no rows either, not even empty ones.
            for _ in 0..if width == 0 { 0 } else { height } {
                rows.push(u8::try_from(random.below(5)).unwrap());
                rows.extend(random.bytes(bytes));
            }
        }
        rows
    }

    pub(crate) fn header(&self) -> Vec<u8> {
        let mut header = Vec::new();
        header.extend(self.width.to_be_bytes());
        header.extend(self.height.to_be_bytes());
        header.extend([self.depth, self.colour, 0, 0, u8::from(self.interlaced)]);
        header
    }

    /// A file with these rows, some chunks that do not matter, and pixels in several chunks.
    pub(crate) fn file(&self, random: &mut Random, rows: &[u8]) -> Vec<u8> {
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        chunk(&mut file, b"IHDR", &self.header());
        chunk(&mut file, b"gAMA", &45455u32.to_be_bytes());
        if self.palette > 0 {
            chunk(&mut file, b"PLTE", &random.bytes(3 * self.palette));
        }
        if self.transparent {
            let transparency = self.transparency(random);
            if !transparency.is_empty() {
                chunk(&mut file, b"tRNS", &transparency);
            }
        }
        for part in zlib(rows).chunks(1000) {
            chunk(&mut file, b"IDAT", part);
        }
        chunk(&mut file, b"tEXt", b"Comment\0none");
        chunk(&mut file, b"IEND", b"");
        file
    }

    fn transparency(&self, random: &mut Random) -> Vec<u8> {
        match self.colour {
            3 => random.bytes(self.palette / 2),
            0 | 2 => {
                let samples = random.bytes(if self.colour == 0 { 2 } else { 6 });
                let fits = u16::MAX >> (16 - self.depth);
                let pairs = samples.as_chunks::<2>().0.iter();
                pairs
                    .flat_map(|pair| (u16::from_be_bytes(*pair) & fits).to_be_bytes())
                    .collect()
            }
            _ => Vec::new(),
        }
    }
}

pub(crate) fn zlib(data: &[u8]) -> Vec<u8> {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(data).unwrap();
    zlib.finish().unwrap()
}

pub(crate) fn chunk(file: &mut Vec<u8>, name: &[u8; 4], data: &[u8]) {
    file.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
    let mut crc = Crc::new();
    for part in [name.as_slice(), data] {
        crc.update(part);
        file.extend(part);
    }
    file.extend(crc.sum().to_be_bytes());
}
