//! From an ELF file to what the host maps for a native guest.
//!
//! [`load`] is a function of the file's bytes alone: it opens nothing, starts nothing, and either
//! gives an [`Image`] that needs no further checks or says why not. The file is hostile input. The
//! loader takes what it fully understands and refuses all else, so that no guest starts half
//! loaded:
//!
//! - 64-bit little-endian x86-64 executables at a fixed address (`ET_EXEC`) and static-PIEs
//!   (`ET_DYN` with `PT_DYNAMIC` and without `PT_INTERP`), which are placed at [`LOAD_BIAS`].
//! - `PT_LOAD`: readable, readable and writable, or readable and executable. Empty ones do nothing.
//! - `PT_DYNAMIC`: `DT_RELA` with nothing but `R_X86_64_RELATIVE`, and `DT_RELR`. Needed libraries,
//!   other relocations, text relocations, symbol versions, and functions to be run before or after
//!   the entry are refused: a guest is entered once, at its entry, and whoever needs constructors
//!   calls them there (an `ET_EXEC` has no dynamic section that tells, so there it is up to its
//!   start code, as on any system).
//! - `PT_GNU_RELRO` is honoured: its whole pages are read-only in the image.
//! - `PT_GNU_STACK` that asks for an executable stack is refused. Its size is ignored, as Linux
//!   ignores it.
//! - Ignored, since they only describe what `PT_LOAD` brings: `PT_NULL`, `PT_NOTE`,
//!   `PT_GNU_PROPERTY`, `PT_PHDR`, `PT_GNU_EH_FRAME` and `PT_GNU_SFRAME` (nobody unwinds a guest).
//! - `PT_INTERP`, `PT_TLS` and every other program header are refused. Section headers are not
//!   looked at.
//!
//! Memory that no byte of the file belongs to is zero, but in executable pages, where it is
//! [`FILLER`], so that a jump into a hole traps. What the loader allocates is bounded by a small
//! multiple of the file's size and by two pages a segment: zeroed memory is only a length.

mod dynamic;
mod error;
mod header;
mod invariants;
mod relocate;
mod relro;
mod segments;
#[cfg(test)]
mod tests;

use std::ops::Range;

use vmctx::PAGE_BYTES;
use vmctx::host_page::REGIONS_MAX;
use vmctx::map::GUEST;

pub use error::{ElfError, Place};

/// Where address 0 of a static-PIE is placed.
///
/// Above the lowest guest addresses, so that a null pointer with a large offset faults, and low
/// enough to leave nearly everything above the image to heap and stack.
pub const LOAD_BIAS: u64 = 0x40_0000;
/// The largest alignment that a segment may ask for: what [`LOAD_BIAS`] keeps.
pub const ALIGNMENT_MAX: u64 = LOAD_BIAS;
/// The most memory that all segments together may have, in bytes.
pub const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// The most segments of an [`Image`]. The other regions of a worker are the host's: stack, heap.
pub const SEGMENTS_MAX: usize = REGIONS_MAX - 8;
/// The most `PT_LOAD` headers of a file.
const LOADS_MAX: usize = SEGMENTS_MAX;
/// What fills executable pages where the file has no bytes: `int3`.
pub const FILLER: u8 = 0xcc;

// A bias within a page, or one that the largest alignment does not divide, would misplace segments.
const _: () = assert!(ALIGNMENT_MAX.is_power_of_two() && LOAD_BIAS.is_multiple_of(ALIGNMENT_MAX));
const _: () = assert!(LOAD_BIAS.is_multiple_of(PAGE_BYTES) && LOAD_BIAS >= GUEST.start);

/// What the host maps for a native guest: checked, relocated, page-aligned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Image {
    /// Ascending, disjoint, within [`vmctx::map::GUEST`]; at least one, at most [`SEGMENTS_MAX`].
    pub segments: Vec<Segment>,
    /// Where the guest is entered: an address among the file's bytes of an executable segment.
    pub entry: u64,
}

impl Image {
    /// The first address after the last segment, a whole page: heap and stack may follow.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.segments.last().map_or(0, Segment::end)
    }
}

/// Whole pages with one protection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Segment {
    /// The first address, page-aligned.
    pub address: u64,
    /// The length in memory in bytes, whole pages.
    pub length: u64,
    /// What the guest may do there.
    pub protection: SegmentProtection,
    /// What it begins with; the rest of `length` is zero. Executable segments have no rest.
    pub contents: Vec<u8>,
}

impl Segment {
    /// The first address after it.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.address + self.length
    }

    /// Where in `contents` the `bytes` bytes at `address` are, if they are there.
    fn within(&self, address: u64, bytes: u64) -> Option<Range<usize>> {
        let start = usize::try_from(address.checked_sub(self.address)?).ok()?;
        let end = start.checked_add(usize::try_from(bytes).ok()?)?;
        (end <= self.contents.len()).then_some(start..end)
    }
}

/// What a guest may do with a segment. Nothing is ever writable and executable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SegmentProtection {
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
    /// Read and execute.
    ReadExecute,
}

/// Checks `file`, places it and applies its relocations.
///
/// # Errors
///
/// [`ElfError`] with the first reason found why the file cannot run as a guest.
pub fn load(file: &[u8]) -> Result<Image, ElfError> {
    let program = header::read(file)?;
    let mut segments = segments::build(&program, file)?;
    if let Some(dynamic) = &program.dynamic {
        let tables = dynamic::read(&segments, dynamic, program.bias)?;
        relocate::apply(&mut segments, &tables, program.bias)?;
    }
    if let Some(relro) = &program.relro {
        relro::protect(&mut segments, relro, &program)?;
    }
    if segments.len() > SEGMENTS_MAX {
        return Err(ElfError::TooManySegments(segments.len()));
    }
    let image = Image {
        segments,
        entry: program.entry,
    };
    debug_assert_eq!(image.check_invariants(), Ok(()));
    Ok(image)
}

/// The start of the page that `address` lies in.
const fn page_floor(address: u64) -> u64 {
    address - address % PAGE_BYTES
}

/// The end of the last page that a range which ends at `address` touches. Guest addresses only:
/// near the top of the 64-bit space it would overflow.
const fn page_ceil(address: u64) -> u64 {
    address.next_multiple_of(PAGE_BYTES)
}
