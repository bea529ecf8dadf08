//! The checksum of gzip and PNG (CRC-32 with the reversed polynomial 0xEDB88320).
//!
//! Sixteen bytes at a time, one table for each: the tables fill half a first-level cache and the
//! sum keeps ahead of any inflate, on processors of any age.

/// Bytes per step, and tables.
const STEP: usize = 16;

static TABLES: [[u32; 256]; STEP] = tables();

/// A running checksum.
#[derive(Clone, Copy, Debug)]
pub struct Crc32(u32);

impl Crc32 {
    /// Of no bytes yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(!0)
    }

    /// Goes on with these bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut sum = self.0;
        let (steps, rest) = bytes.as_chunks::<STEP>();
        for step in steps {
            let [a, b, c, d] = sum.to_le_bytes();
            let mixed = [step[0] ^ a, step[1] ^ b, step[2] ^ c, step[3] ^ d];
            let mut next = 0;
            // The first byte of a step has the longest way to go, hence the last table.
            for (place, byte) in mixed.iter().chain(&step[4..]).enumerate() {
                next ^= TABLES[STEP - 1 - place][usize::from(*byte)];
            }
            sum = next;
        }
        for byte in rest {
            sum = sum >> 8 ^ TABLES[0][usize::from(sum.to_le_bytes()[0] ^ byte)];
        }
        self.0 = sum;
    }

    /// The checksum of all bytes so far.
    #[must_use]
    pub const fn value(self) -> u32 {
        !self.0
    }
}

impl Default for Crc32 {
    fn default() -> Self {
        Self::new()
    }
}

/// The checksum of these bytes.
#[must_use]
pub fn of(bytes: &[u8]) -> u32 {
    let mut sum = Crc32::new();
    sum.update(bytes);
    sum.value()
}

const fn tables() -> [[u32; 256]; STEP] {
    let mut tables = [[0u32; 256]; STEP];
    let mut index = 0;
    let mut byte: u32 = 0;
    while index < 256 {
        let mut sum = byte;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 0 {
                sum >> 1
            } else {
                sum >> 1 ^ 0xedb8_8320
            };
            bit += 1;
        }
        tables[0][index] = sum;
        index += 1;
        byte += 1;
    }
    let mut table = 1;
    while table < STEP {
        let mut index = 0;
        while index < 256 {
            let before = tables[table - 1][index];
            tables[table][index] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            index += 1;
        }
        table += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn known_values() {
        assert_eq!(of(b""), 0);
        assert_eq!(of(b"123456789"), 0xcbf4_3926);
        assert_eq!(
            of(b"The quick brown fox jumps over the lazy dog"),
            0x414f_a339
        );
    }

    #[test]
    fn pieces_give_the_same_as_the_whole() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| (i * i / 7).to_le_bytes()[0]).collect();
        for cut in [0, 1, 15, 16, 17, 500, 999, 1000] {
            let mut sum = Crc32::new();
            sum.update(&bytes[..cut]);
            sum.update(&bytes[cut..]);
            assert_eq!(sum.value(), of(&bytes));
        }
    }
}
