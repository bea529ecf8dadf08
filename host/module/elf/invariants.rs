//! What every image keeps, written down a second time so that a mistake in the loader shows.

use vmctx::PAGE_BYTES;
use vmctx::map::{self, GUEST};

use super::{Image, MEMORY_BYTES_MAX, SEGMENTS_MAX, Segment, SegmentProtection};

impl Image {
    /// Says which promise the image breaks, if any.
    ///
    /// [`load`](super::load) asks this of its own result in builds with debug assertions, the
    /// fuzz target's among them.
    pub(super) fn check_invariants(&self) -> Result<(), &'static str> {
        let mut end = GUEST.start;
        let mut memory_bytes = 0;
        for segment in &self.segments {
            segment.check_invariants()?;
            if segment.address < end {
                return Err("segments overlap or do not ascend");
            }
            end = segment.end();
            memory_bytes += segment.length;
        }
        if self.segments.is_empty() || self.segments.len() > SEGMENTS_MAX {
            return Err("no segments, or too many");
        }
        if memory_bytes > MEMORY_BYTES_MAX {
            return Err("too much memory");
        }
        if end != self.end() {
            return Err("the end is not that of the last segment");
        }
        let in_code = self.segments.iter().any(|segment| {
            segment.protection == SegmentProtection::ReadExecute
                && (segment.address..segment.end()).contains(&self.entry)
        });
        if !in_code {
            return Err("the entry lies outside code");
        }
        Ok(())
    }
}

impl Segment {
    fn check_invariants(&self) -> Result<(), &'static str> {
        let whole_pages =
            self.address.is_multiple_of(PAGE_BYTES) && self.length.is_multiple_of(PAGE_BYTES);
        if !whole_pages || self.length == 0 {
            return Err("a segment is not whole pages");
        }
        let end = self.address.checked_add(self.length);
        if !end.is_some_and(|end| map::holds(&GUEST, &(self.address..end))) {
            return Err("a segment leaves the guest's addresses");
        }
        let contents = self.contents.len() as u64;
        if contents > self.length {
            return Err("a segment's contents exceed its memory");
        }
        if self.protection == SegmentProtection::ReadExecute && contents != self.length {
            return Err("an executable segment has zeroed memory");
        }
        Ok(())
    }
}
