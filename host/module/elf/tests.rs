//! The loader against files made here, good and bad.

mod accepted;
mod layout;
mod random;
mod refused;
mod replay;
mod writer;

use super::{ElfError, Image, Segment, SegmentProtection, load};

/// Loads `file` and checks what every image promises.
fn load_checked(file: &[u8]) -> Result<Image, ElfError> {
    let image = load(file)?;
    assert_eq!(image.check_invariants(), Ok(()));
    let contents: usize = image.segments.iter().map(|part| part.contents.len()).sum();
    assert!(contents <= file.len() + image.segments.len() * 2 * 4096);
    Ok(image)
}

/// The segment that has `address`.
fn segment(image: &Image, address: u64) -> &Segment {
    let holds = |part: &&Segment| (part.address..part.end()).contains(&address);
    image.segments.iter().find(holds).expect("no such address")
}

/// The word at `address`, zeroed memory included.
fn word(image: &Image, address: u64) -> u64 {
    let part = segment(image, address);
    let start = usize::try_from(address - part.address).unwrap();
    let mut bytes = [0; 8];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = part.contents.get(start + at).copied().unwrap_or(0);
    }
    u64::from_le_bytes(bytes)
}

/// The address, length and protection of each segment.
fn shape(image: &Image) -> Vec<(u64, u64, SegmentProtection)> {
    let shape = |part: &Segment| (part.address, part.length, part.protection);
    image.segments.iter().map(shape).collect()
}
