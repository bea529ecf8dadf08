//! From `PT_LOAD` headers to whole pages with contents.

use std::ops::Range;

use object::elf;
use vmctx::PAGE_BYTES;
use vmctx::map::{self, GUEST};

use super::error::{ElfError, Place};
use super::header::{self, Part, Program};
use super::{
    ALIGNMENT_MAX, FILLER, MEMORY_BYTES_MAX, Segment, SegmentProtection, page_ceil, page_floor,
};

/// A `PT_LOAD` header whose own numbers are in order.
struct Load<'file> {
    place: Place,
    /// The bytes of memory that it asks for, placed.
    span: Range<u64>,
    protection: SegmentProtection,
    /// What the file has for the first of them.
    data: &'file [u8],
}

/// Checks the headers one by one, then each against the one before it, and lays them out.
pub(super) fn build(program: &Program, file: &[u8]) -> Result<Vec<Segment>, ElfError> {
    let mut loads: Vec<Load<'_>> = Vec::with_capacity(program.loads.len());
    let mut memory_bytes = 0;
    let mut file_bytes = 0;
    for part in &program.loads {
        let load = check(part, program.bias, file)?;
        // Neither sum overflows: at most LOADS_MAX terms of at most 4 GiB and the file's size.
        memory_bytes += page_ceil(load.span.end) - page_floor(load.span.start);
        file_bytes += load.data.len();
        if memory_bytes > MEMORY_BYTES_MAX {
            return Err(ElfError::TooLarge(load.place));
        }
        // No linker makes two segments of the same bytes. Without this a small file could make
        // the image many times its own size.
        if file_bytes > file.len() {
            return Err(ElfError::FileBytesShared(load.place));
        }
        if let Some(before) = loads.last() {
            check_neighbours(before, &load)?;
        }
        loads.push(load);
    }
    if loads.is_empty() {
        return Err(ElfError::NothingToLoad);
    }
    check_entry(program, &loads)?;
    let mut segments = Vec::with_capacity(loads.len());
    for load in &loads {
        append(&mut segments, load);
    }
    Ok(segments)
}

/// What can be said of one header alone.
fn check<'file>(part: &Part, bias: u64, file: &'file [u8]) -> Result<Load<'file>, ElfError> {
    let place = part.place();
    let protection = protection(part)?;
    // 0 and 1 both say that no alignment is asked for.
    if part.alignment > 1 && !part.alignment.is_power_of_two() || part.alignment > ALIGNMENT_MAX {
        return Err(ElfError::Alignment(place, part.alignment));
    }
    if part.address % PAGE_BYTES != part.offset % PAGE_BYTES {
        return Err(ElfError::Misaligned(place, part.offset));
    }
    if part.file_bytes > part.memory_bytes {
        return Err(ElfError::FileExceedsMemory(
            place,
            part.file_bytes,
            part.memory_bytes,
        ));
    }
    let zeroed = part.memory_bytes - part.file_bytes;
    if protection == SegmentProtection::ReadExecute && zeroed != 0 {
        return Err(ElfError::ZeroedCode(place, zeroed));
    }
    let data = match part.file_bytes {
        // The offset of a segment that takes nothing may point anywhere, past the end too.
        0 => &[],
        bytes => header::slice(file, part.offset, bytes).ok_or(ElfError::OutsideFile(
            place,
            part.offset,
            bytes,
        ))?,
    };
    let span = placed(part.address, part.memory_bytes, bias)
        .filter(|span| map::holds(&GUEST, span))
        .ok_or(ElfError::OutsideGuest(place, part.memory_bytes))?;
    Ok(Load {
        place,
        span,
        protection,
        data,
    })
}

fn protection(part: &Part) -> Result<SegmentProtection, ElfError> {
    const READ: u32 = elf::PF_R.0;
    const READ_WRITE: u32 = elf::PF_R.0 | elf::PF_W.0;
    const READ_EXECUTE: u32 = elf::PF_R.0 | elf::PF_X.0;
    const WRITE_EXECUTE: u32 = elf::PF_W.0 | elf::PF_X.0;
    match part.flags {
        READ => Ok(SegmentProtection::Read),
        READ_WRITE => Ok(SegmentProtection::ReadWrite),
        READ_EXECUTE => Ok(SegmentProtection::ReadExecute),
        flags if flags & WRITE_EXECUTE == WRITE_EXECUTE => {
            Err(ElfError::WritableAndExecutable(part.place()))
        }
        flags => Err(ElfError::Flags(part.place(), flags)),
    }
}

/// The placed addresses of `bytes` bytes at `address`, if they do not wrap around.
pub(super) fn placed(address: u64, bytes: u64, bias: u64) -> Option<Range<u64>> {
    let start = address.checked_add(bias)?;
    Some(start..start.checked_add(bytes)?)
}

/// What can be said of two headers that follow each other.
fn check_neighbours(before: &Load<'_>, load: &Load<'_>) -> Result<(), ElfError> {
    if load.span.start < before.span.start {
        return Err(ElfError::Unordered(load.place, before.place));
    }
    if load.span.start < before.span.end {
        return Err(ElfError::Overlap(load.place, before.place));
    }
    let shares_page = page_floor(load.span.start) < page_ceil(before.span.end);
    if shares_page && load.protection != before.protection {
        return Err(ElfError::SharedPage(load.place, before.place));
    }
    Ok(())
}

fn check_entry(program: &Program, loads: &[Load<'_>]) -> Result<(), ElfError> {
    // Executable loads have no bytes but the file's.
    let in_code = loads
        .iter()
        .filter(|load| load.protection == SegmentProtection::ReadExecute)
        .any(|load| load.span.contains(&program.entry));
    if in_code {
        Ok(())
    } else {
        Err(ElfError::Entry(program.entry - program.bias))
    }
}

/// Adds the pages of `load`, which comes after all of `segments`.
///
/// It joins the segment before it where that costs no zeros: they have the same protection, and
/// the last page of the one before has contents. Where the two share a page of which the one
/// before has only zeros, the page moves over.
fn append(segments: &mut Vec<Segment>, load: &Load<'_>) {
    let address = page_floor(load.span.start);
    let end = page_ceil(load.span.end);
    if let Some(last) = segments.last_mut()
        && last.protection == load.protection
        && last.end() >= address
    {
        if last.contents.len() > index(last.length - PAGE_BYTES) {
            fill(last, load);
            last.length = end - last.address;
            fill_code(last);
            return;
        }
        last.length = address - last.address;
        if last.length == 0 {
            segments.pop();
        }
    }
    let mut segment = Segment {
        address,
        length: end - address,
        protection: load.protection,
        contents: Vec::new(),
    };
    fill(&mut segment, load);
    fill_code(&mut segment);
    segments.push(segment);
}

/// Copies the file's bytes of `load` to their place in `segment`, behind what is there.
fn fill(segment: &mut Segment, load: &Load<'_>) {
    // Nothing but filler is cut: the bytes of two loads do not overlap.
    let before = index(load.span.start - segment.address);
    segment.contents.resize(before, filler(segment.protection));
    segment.contents.extend_from_slice(load.data);
}

/// Fills the last page of an executable segment, so that no byte of it is zero by accident.
fn fill_code(segment: &mut Segment) {
    if segment.protection == SegmentProtection::ReadExecute {
        segment.contents.resize(index(segment.length), FILLER);
    }
}

const fn filler(protection: SegmentProtection) -> u8 {
    match protection {
        SegmentProtection::ReadExecute => FILLER,
        SegmentProtection::Read | SegmentProtection::ReadWrite => 0,
    }
}

/// An offset within a segment, hence at most 1 GiB.
fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("an offset within a segment fits a usize")
}

/// The file's bytes at `span`, if one segment has them all.
pub(super) fn contents<'image>(
    segments: &'image [Segment],
    span: &Range<u64>,
) -> Option<&'image [u8]> {
    let segment = &segments[position(segments, span.start)?];
    Some(&segment.contents[segment.within(span.start, span.end - span.start)?])
}

/// Which segment `address` lies in.
pub(super) fn position(segments: &[Segment], address: u64) -> Option<usize> {
    let index = segments
        .partition_point(|segment| segment.address <= address)
        .checked_sub(1)?;
    (address < segments[index].end()).then_some(index)
}
