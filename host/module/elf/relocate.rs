//! Relocations: the words of the image that hold addresses of the image.
//!
//! The values are the guest's own data and are not judged: an address before or after an object
//! is legal, and the sum is modulo 2^64 as the ABI has it. Only the places are judged.

use object::elf::{self, RelocationType};

use super::dynamic::{RELA_BYTES, RELR_BYTES, Tables, word};
use super::error::ElfError;
use super::segments::position;
use super::{Segment, SegmentProtection};

/// The size of the words that are relocated, and of those of a `DT_RELR` table.
const WORD_BYTES: u64 = 8;
/// How many words a bitmap of `DT_RELR` speaks of: one bit says that it is a bitmap.
const BITMAP_WORDS: u64 = 63;

/// Applies all of `tables`: `DT_RELR` first, as dynamic loaders do, since it adds to what is there
/// and `DT_RELA` replaces it.
pub(super) fn apply(segments: &mut [Segment], tables: &Tables, bias: u64) -> Result<(), ElfError> {
    let mut image = Relocating { segments, bias };
    image.apply_relr(&tables.relr)?;
    for (index, entry) in tables.rela.chunks_exact(RELA_BYTES).enumerate() {
        image.apply_rela(index, entry)?;
    }
    Ok(())
}

/// An image whose words are being relocated. Addresses are the file's, not yet placed.
struct Relocating<'image> {
    segments: &'image mut [Segment],
    bias: u64,
}

impl Relocating<'_> {
    fn apply_rela(&mut self, index: usize, entry: &[u8]) -> Result<(), ElfError> {
        let address = u64::from_le_bytes(word(&entry[..8]));
        let [kind @ .., s0, s1, s2, s3] = word(&entry[8..16]);
        let addend = u64::from_le_bytes(word(&entry[16..]));
        let symbol = u32::from_le_bytes([s0, s1, s2, s3]);
        match RelocationType(u32::from_le_bytes(kind)) {
            elf::R_X86_64_RELATIVE => {}
            elf::R_X86_64_IRELATIVE => return Err(ElfError::IndirectFunction(index)),
            other => return Err(ElfError::RelocationType(index, other.0)),
        }
        if symbol != 0 {
            return Err(ElfError::RelocationSymbol(index, symbol));
        }
        // The addend is signed; modulo 2^64 the unsigned sum is the same.
        let value = self.bias.wrapping_add(addend);
        *self.target(address)? = value.to_le_bytes();
        Ok(())
    }

    /// `DT_RELR` is a list of addresses of words, each followed by any number of bitmaps of the
    /// words after it. Addresses are even, bitmaps odd.
    fn apply_relr(&mut self, table: &[u8]) -> Result<(), ElfError> {
        let mut next = None;
        for entry in table.chunks_exact(RELR_BYTES) {
            let entry = u64::from_le_bytes(word(entry));
            if entry & 1 == 0 {
                self.add_bias(entry)?;
                // No overflow, here or below: the address was that of a word of the image, and
                // the table is no longer than the file.
                next = Some(entry + WORD_BYTES);
                continue;
            }
            let first = next.ok_or(ElfError::RelrBitmap)?;
            for bit in 0..BITMAP_WORDS {
                if (entry >> (bit + 1)) & 1 == 1 {
                    self.add_bias(first + bit * WORD_BYTES)?;
                }
            }
            next = Some(first + BITMAP_WORDS * WORD_BYTES);
        }
        Ok(())
    }

    fn add_bias(&mut self, address: u64) -> Result<(), ElfError> {
        let bias = self.bias;
        let target = self.target(address)?;
        *target = u64::from_le_bytes(*target).wrapping_add(bias).to_le_bytes();
        Ok(())
    }

    /// The word at `address`, which must lie among the file's bytes of data. Code is not changed.
    /// Zeroed memory has no bytes to change, and no linker relocates it.
    fn target(&mut self, address: u64) -> Result<&mut [u8; 8], ElfError> {
        let outside = ElfError::RelocationOutside(address);
        let Some(placed) = address.checked_add(self.bias) else {
            return Err(outside);
        };
        let Some(index) = position(self.segments, placed) else {
            return Err(outside);
        };
        let segment = &mut self.segments[index];
        if segment.protection == SegmentProtection::ReadExecute {
            return Err(ElfError::RelocatedCode(address));
        }
        segment
            .within(placed, WORD_BYTES)
            .and_then(|range| segment.contents.get_mut(range))
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(outside)
    }
}
