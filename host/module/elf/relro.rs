//! `PT_GNU_RELRO`: data that is read-only once its addresses are written.

use std::ops::Range;

use super::error::ElfError;
use super::header::{Part, Program};
use super::segments::{placed, position};
use super::{Segment, SegmentProtection, page_ceil, page_floor};

/// Makes the whole pages of `relro` read-only.
///
/// Its first page counts as whole when no segment has bytes there before it, and its last page
/// does not count unless it ends with it: what dynamic loaders do, but never at the cost of data
/// that the guest expects to write.
pub(super) fn protect(
    segments: &mut Vec<Segment>,
    relro: &Part,
    program: &Program,
) -> Result<(), ElfError> {
    if relro.memory_bytes == 0 {
        return Ok(());
    }
    let outside = || ElfError::RelroOutside(relro.place(), relro.memory_bytes);
    let span = placed(relro.address, relro.memory_bytes, program.bias).ok_or_else(outside)?;
    let index = position(segments, span.start).ok_or_else(outside)?;
    let segment = &segments[index];
    if span.end > segment.end() || segment.protection != SegmentProtection::ReadWrite {
        return Err(outside());
    }
    let start = if begins_page(program, span.start) {
        page_floor(span.start)
    } else {
        page_ceil(span.start)
    };
    let end = page_floor(span.end);
    if start < end {
        split(segments, index, &(start..end));
    }
    Ok(())
}

/// Whether no byte of the file's segments lies in the page of `address` before it.
fn begins_page(program: &Program, address: u64) -> bool {
    let page = page_floor(address);
    program.loads.iter().all(|load| {
        // In range: the segments have been placed before.
        let start = load.address + program.bias;
        start >= address || start + load.memory_bytes <= page
    })
}

/// Cuts `pages` out of the segment at `index` and makes them read-only.
fn split(segments: &mut Vec<Segment>, index: usize, pages: &Range<u64>) {
    let mut before = segments.remove(index);
    let mut inside = cut(&mut before, pages.start);
    let after = cut(&mut inside, pages.end);
    inside.protection = SegmentProtection::Read;
    let parts = [before, inside, after].into_iter();
    segments.splice(index..index, parts.filter(|part| part.length != 0));
}

/// Leaves `segment` what lies before `address`, one of its page boundaries, and gives the rest.
fn cut(segment: &mut Segment, address: u64) -> Segment {
    let kept = address - segment.address;
    let contents = usize::try_from(kept)
        .ok()
        .filter(|&kept| kept < segment.contents.len())
        .map_or_else(Vec::new, |kept| segment.contents.split_off(kept));
    let rest = Segment {
        address,
        length: segment.length - kept,
        protection: segment.protection,
        contents,
    };
    segment.length = kept;
    rest
}
