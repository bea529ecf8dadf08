#![expect(
    unsafe_code,
    reason = "keeps its free lists in the memory that it manages"
)]
//! Which part of a heap is free.
//!
//! Small blocks, up to 32 KiB, have power-of-two sizes and a list of free ones for each size;
//! taking and giving back are a few instructions. Larger ones are whole pages from a list of
//! holes in ascending order, which melt together when neighbours become free. Beyond the last
//! hole lies what was never handed out: it is still zero, as the host gave it, so that large
//! zeroed buffers cost nothing until they are used.
//!
//! Blocks have no headers: their owners say how large they are when they give them back.

use core::alloc::Layout;
use core::ptr;

/// The granularity of large blocks.
const PAGE: usize = 4096;
/// The smallest block: two words, and what 16-byte vectors need.
const SMALLEST_BITS: u32 = 4;
/// How many sizes of small blocks there are.
const CLASSES: usize = 12;
/// The largest small block.
const SMALL_MAX: usize = 1 << (SMALLEST_BITS as usize + CLASSES - 1);
/// How much is cut into small blocks at a time.
const SPAN: usize = 2 * SMALL_MAX;

/// A free small block, in its own first word. 0 ends the list.
type Next = usize;

/// A free range of whole pages, in its own first words.
#[derive(Clone, Copy)]
struct Hole {
    bytes: usize,
    /// The next one's address, above this one's end; 0 ends the list.
    next: usize,
}

/// Small blocks of one size.
#[derive(Clone, Copy)]
struct Class {
    /// The first free block that was in use before.
    free: Next,
    /// What is left of the span that blocks are cut from.
    span: usize,
    span_end: usize,
}

/// A heap's free lists.
pub(crate) struct Heap {
    classes: [Class; CLASSES],
    /// The first hole's address, or 0.
    holes: usize,
    /// Everything from here to `end` is free, without a list.
    top: usize,
    end: usize,
    /// Everything from here on has never been handed out, and is zero.
    fresh: usize,
}

/// How a layout is served.
enum Size {
    /// By a class of small blocks.
    Small(usize),
    /// By this many bytes of whole pages.
    Large(usize),
    /// Not at all: more than any heap has.
    Absurd,
}

impl Heap {
    /// A heap without memory.
    pub(crate) const fn empty() -> Self {
        let class = Class {
            free: 0,
            span: 0,
            span_end: 0,
        };
        Self {
            classes: [class; CLASSES],
            holes: 0,
            top: 0,
            end: 0,
            fresh: 0,
        }
    }

    /// A heap of the memory from `start` to `end`.
    ///
    /// # Safety
    ///
    /// The memory must be mapped, zero, exposed, and nobody else's for as long as the heap or any
    /// block of it is in use.
    pub(crate) unsafe fn give(&mut self, start: usize, end: usize) {
        let start = start.next_multiple_of(PAGE);
        let end = (end & !(PAGE - 1)).max(start);
        *self = Self {
            top: start,
            end,
            fresh: start,
            ..Self::empty()
        };
    }

    /// The address of a free block, or 0; and whether it is known to be zero.
    pub(crate) fn take(&mut self, layout: Layout) -> (usize, bool) {
        match size(layout) {
            Size::Small(class) => (self.take_small(class), false),
            Size::Large(bytes) => {
                let fresh = self.fresh;
                let block = self.take_pages(bytes, layout.align());
                (block, block >= fresh)
            }
            Size::Absurd => (0, false),
        }
    }

    /// Takes a block back.
    ///
    /// # Safety
    ///
    /// The block must come from [`take`](Self::take) or [`resize`](Self::resize) with this layout,
    /// and nobody may use it any more.
    pub(crate) unsafe fn put(&mut self, block: usize, layout: Layout) {
        match size(layout) {
            Size::Small(class) => {
                let next = self.classes[class].free;
                // SAFETY: the block was handed out by this heap, is free by the caller's promise,
                // and has at least 16 bytes.
                unsafe { ptr::with_exposed_provenance_mut::<Next>(block).write(next) };
                self.classes[class].free = block;
            }
            Size::Large(bytes) => self.put_pages(block, bytes),
            Size::Absurd => {}
        }
    }

    /// Makes a block smaller or larger where it is, if that is possible, and says whether it was.
    ///
    /// # Safety
    ///
    /// The block must come from this heap with this layout, and nobody may use what it loses.
    pub(crate) unsafe fn resize(&mut self, block: usize, layout: Layout, new: Layout) -> bool {
        match (size(layout), size(new)) {
            (Size::Small(class), Size::Small(new)) => class == new,
            (Size::Large(bytes), Size::Large(new)) if new <= bytes => {
                if new < bytes {
                    self.put_pages(block + new, bytes - new);
                }
                true
            }
            (Size::Large(bytes), Size::Large(new)) => self.extend(block + bytes, new - bytes),
            _ => false,
        }
    }

    fn take_small(&mut self, index: usize) -> usize {
        let bytes = 1 << (SMALLEST_BITS as usize + index);
        let class = &mut self.classes[index];
        if class.free != 0 {
            let block = class.free;
            // SAFETY: free blocks of a class hold the address of the next, written by `put`.
            class.free = unsafe { ptr::with_exposed_provenance::<Next>(block).read() };
            return block;
        }
        if class.span == class.span_end {
            let span = self.take_pages(SPAN, PAGE);
            if span == 0 {
                return 0;
            }
            self.classes[index] = Class {
                free: 0,
                span,
                span_end: span + SPAN,
            };
        }
        let class = &mut self.classes[index];
        let block = class.span;
        class.span += bytes;
        block
    }

    /// The first hole that fits, else what lies beyond all holes. 0 if neither does.
    fn take_pages(&mut self, bytes: usize, align: usize) -> usize {
        let align = align.max(PAGE);
        let mut before = 0;
        let mut at = self.holes;
        while at != 0 {
            let hole = self.hole(at);
            let block = at.next_multiple_of(align);
            let (front, end) = (block - at, at + hole.bytes);
            if front + bytes <= hole.bytes {
                // What remains in front and behind stays in the list.
                let rest = end - (block + bytes);
                let mut next = hole.next;
                if rest > 0 {
                    self.set_hole(block + bytes, Hole { bytes: rest, next });
                    next = block + bytes;
                }
                if front > 0 {
                    self.set_hole(at, Hole { bytes: front, next });
                    next = at;
                }
                self.link(before, next);
                return block;
            }
            (before, at) = (at, hole.next);
        }

        let Some(block) = self.top.checked_next_multiple_of(align) else {
            return 0;
        };
        match block.checked_add(bytes) {
            Some(end) if end <= self.end => {
                let gap = (self.top, block - self.top);
                self.top = end;
                self.fresh = self.fresh.max(end);
                if gap.1 > 0 {
                    self.put_pages(gap.0, gap.1);
                }
                block
            }
            _ => 0,
        }
    }

    /// Puts pages into the list, melts them with their neighbours, and gives the last hole back
    /// to what lies beyond if it touches it.
    fn put_pages(&mut self, at: usize, bytes: usize) {
        let mut before = 0;
        let mut next = self.holes;
        let mut before_before = 0;
        while next != 0 && next < at {
            before_before = before;
            before = next;
            next = self.hole(next).next;
        }
        let (mut at, mut bytes) = (at, bytes);
        if next != 0 && at + bytes == next {
            let hole = self.hole(next);
            bytes += hole.bytes;
            next = hole.next;
        }
        if before != 0 && before + self.hole(before).bytes == at {
            bytes += self.hole(before).bytes;
            at = before;
            before = before_before;
        }
        if at + bytes == self.top {
            self.top = at;
            self.link(before, next);
        } else {
            self.set_hole(at, Hole { bytes, next });
            self.link(before, at);
        }
    }

    /// Takes exactly the `bytes` at `at`, if they are free.
    fn extend(&mut self, at: usize, bytes: usize) -> bool {
        if at == self.top {
            let fits = bytes <= self.end - self.top;
            if fits {
                self.top += bytes;
                self.fresh = self.fresh.max(self.top);
            }
            return fits;
        }
        let mut before = 0;
        let mut next = self.holes;
        while next != 0 && next < at {
            (before, next) = (next, self.hole(next).next);
        }
        if next != at || self.hole(at).bytes < bytes {
            return false;
        }
        let hole = self.hole(at);
        if hole.bytes == bytes {
            self.link(before, hole.next);
        } else {
            let rest = Hole {
                bytes: hole.bytes - bytes,
                next: hole.next,
            };
            self.set_hole(at + bytes, rest);
            self.link(before, at + bytes);
        }
        true
    }

    /// Makes `next` follow the hole `before`, or the head of the list for 0.
    fn link(&mut self, before: usize, next: usize) {
        if before == 0 {
            self.holes = next;
        } else {
            let bytes = self.hole(before).bytes;
            self.set_hole(before, Hole { bytes, next });
        }
    }

    fn hole(&self, at: usize) -> Hole {
        // SAFETY: only addresses of the list of holes come here; a hole is a free range of this
        // heap's pages, and `set_hole` wrote its first words.
        unsafe { ptr::with_exposed_provenance::<Hole>(at).read() }
    }

    fn set_hole(&mut self, at: usize, hole: Hole) {
        // SAFETY: only free pages of this heap become holes, and nobody else uses those.
        unsafe { ptr::with_exposed_provenance_mut::<Hole>(at).write(hole) };
    }
}

fn size(layout: Layout) -> Size {
    let (bytes, align) = (layout.size(), layout.align());
    let small = bytes.max(align).max(1 << SMALLEST_BITS);
    // A small block is aligned to its size, but a span only to its page.
    if small <= SMALL_MAX && align <= PAGE {
        let bits = small.next_power_of_two().trailing_zeros();
        return Size::Small((bits - SMALLEST_BITS) as usize);
    }
    match bytes.checked_next_multiple_of(PAGE) {
        Some(bytes) => Size::Large(bytes.max(PAGE)),
        None => Size::Absurd,
    }
}

#[cfg(test)]
mod tests;
