//! What the host knows of each guest page.
//!
//! Most of 4 GiB is absent and most of the rest is alike, so neighbours that are alike are kept
//! as one. Nothing here touches memory or asks the kernel.

#[cfg(test)]
mod tests;

use std::iter;
use std::ops::Range;

use bitflags::bitflags;
use static_assertions::const_assert;
use vmctx::{PAGE_BYTES, map};

use crate::interrupt::Access;

/// How many pages a guest has: page `n` begins at guest address `n * PAGE_BYTES`.
pub(crate) const PAGES: u32 = 1 << 20;

/// How many pages a chunk has: what one page-table page of the CPU maps.
const CHUNK_PAGES: u32 = 512;

/// How many chunks a table has.
const CHUNKS: u32 = PAGES / CHUNK_PAGES;

/// How many pages are compared at once.
const BLOCK_PAGES: usize = 32;

const_assert!(PAGES as u64 * PAGE_BYTES == map::GUEST.end);

bitflags! {
    /// What a guest page is. Without any flag it is absent.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub(crate) struct Page: u16 {
        /// The guest may read it.
        const READ = 1;
        /// The guest may write it.
        const WRITE = 2;
        /// The guest may execute it: fixed code only.
        const EXECUTE = 4;
        /// It was mapped from the module's sealed file when the worker was made, for good.
        const FIXED = 8;
        /// It is in the memory file: the host may touch its own mapping of it.
        const PRESENT = 16;
        /// The kernel fills it at the first touch. Otherwise that touch comes to the host.
        const NATIVE = 32;
        /// Its contents are still at the origin, module image or snapshot, until first touched.
        const LAZY = 64;
        /// It is not there and nobody is asked: touching it is a trap.
        const GUARD = 128;
        /// It is not accessible; the host keeps its contents.
        const HIDDEN = 256;
    }
}

impl Page {
    /// Whether the guest may do this. A guard or hidden page allows nothing, whatever it may
    /// allow later.
    #[inline]
    pub(crate) fn allows(self, access: Access) -> bool {
        let right = match access {
            Access::Read => Self::READ,
            Access::Write => Self::WRITE,
            Access::Execute => Self::EXECUTE,
        };
        self & (right | Self::GUARD | Self::HIDDEN) == right
    }
}

/// The flags of every guest page.
///
/// Pages are numbers below [`PAGES`] and ranges of them end there at the latest: every method
/// panics beyond, so callers check what a guest says first. A range that ends before it begins is
/// empty.
#[derive(Clone)]
pub(crate) struct Table {
    /// As many as are needed: all after them are absent.
    chunks: Vec<Chunk>,
    /// A bit for each chunk: whether anything in it is not absent.
    occupied: [u64; (CHUNKS / u64::BITS) as usize],
}

impl Table {
    /// A table of absent pages.
    pub(crate) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            occupied: [0; (CHUNKS / u64::BITS) as usize],
        }
    }

    /// What a page is.
    #[inline]
    pub(crate) fn get(&self, page: u32) -> Page {
        assert!(page < PAGES, "the guest has no page {page:#x}");
        match self.chunk(page / CHUNK_PAGES) {
            Chunk::Uniform(flags) => *flags,
            Chunk::Mixed(flags) => flags[(page % CHUNK_PAGES) as usize],
        }
    }

    /// Makes all pages of a range the same.
    pub(crate) fn set(&mut self, pages: Range<u32>, to: Page) {
        self.update(pages, |_| to);
    }

    /// Changes each page of a range. `change` is not asked for every page: many are kept as one.
    /// So its answer must depend on nothing but the flags.
    pub(crate) fn update(&mut self, pages: Range<u32>, mut change: impl FnMut(Page) -> Page) {
        check(&pages);
        let mut at = pages.start;
        while at < pages.end {
            let (chunk, first) = (at / CHUNK_PAGES, at % CHUNK_PAGES);
            if self.chunk(chunk).is_absent() && change(Page::empty()).is_empty() {
                at = self.next_occupied(chunk) * CHUNK_PAGES;
                continue;
            }
            let count = (CHUNK_PAGES - first).min(pages.end - at);
            let inside = first as usize..(first + count) as usize;
            self.chunk_mut(chunk).update(inside, &mut change);
            self.note(chunk);
            at += count;
        }
    }

    /// The maximal runs of equal pages in a range, absent ones too, ascending. Together they are
    /// the range.
    pub(crate) fn runs(&self, pages: Range<u32>) -> impl Iterator<Item = (Range<u32>, Page)> {
        merged(self.pieces(pages))
    }

    /// The maximal runs of pages in a range that fit, ascending. Pages of one run may differ.
    pub(crate) fn runs_of(
        &self,
        pages: Range<u32>,
        fits: impl Fn(Page) -> bool,
    ) -> impl Iterator<Item = Range<u32>> {
        let fitting = self.pieces(pages).filter(move |(_, page)| fits(*page));
        merged(fitting.map(|(piece, _)| (piece, ()))).map(|(run, ())| run)
    }

    /// How many pages of a range fit.
    pub(crate) fn count(&self, pages: Range<u32>, fits: impl Fn(Page) -> bool) -> u64 {
        self.pieces(pages)
            .filter(|(_, page)| fits(*page))
            .map(|(piece, _)| u64::from(piece.end - piece.start))
            .sum()
    }

    /// Whether all pages of a range fit. Looks no further than the first that does not.
    #[inline]
    pub(crate) fn all(&self, pages: Range<u32>, fits: impl Fn(Page) -> bool) -> bool {
        if pages.len() == 1 {
            return fits(self.get(pages.start)); // the usual question
        }
        self.pieces(pages).all(|(_, page)| fits(page))
    }

    /// Cuts a range into pieces of equal pages as they are kept, so that neighbours may be equal.
    #[inline]
    fn pieces(&self, pages: Range<u32>) -> impl Iterator<Item = (Range<u32>, Page)> {
        check(&pages);
        let mut rest = pages;
        iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (until, page) = self.piece(&rest);
            let piece = rest.start..until.min(rest.end);
            rest.start = piece.end;
            Some((piece, page))
        })
    }

    /// Where the piece ends that `rest` begins with, and what its pages are. A piece that is one
    /// chunk, or many empty ones, may end after `rest`.
    #[inline]
    fn piece(&self, rest: &Range<u32>) -> (u32, Page) {
        let chunk = rest.start / CHUNK_PAGES;
        let after = (chunk + 1) * CHUNK_PAGES;
        match self.chunk(chunk) {
            Chunk::Uniform(page) if page.is_empty() && after < rest.end => {
                (self.next_occupied(chunk) * CHUNK_PAGES, *page)
            }
            Chunk::Uniform(page) => (after, *page),
            Chunk::Mixed(flags) => {
                let before = after - CHUNK_PAGES;
                let end = rest.end.min(after) - before;
                let flags = &flags[(rest.start - before) as usize..end as usize];
                (rest.start + alike(flags), flags[0])
            }
        }
    }

    /// The first chunk from `chunk` on that has pages which are not absent, or [`CHUNKS`].
    fn next_occupied(&self, chunk: u32) -> u32 {
        let mut word = chunk / u64::BITS;
        let mut bits = self.occupied[word as usize] & (u64::MAX << (chunk % u64::BITS));
        while bits == 0 {
            word += 1;
            match self.occupied.get(word as usize) {
                Some(next) => bits = *next,
                None => return CHUNKS,
            }
        }
        word * u64::BITS + bits.trailing_zeros()
    }

    /// Notes whether anything in a chunk is not absent.
    fn note(&mut self, chunk: u32) {
        let word = &mut self.occupied[(chunk / u64::BITS) as usize];
        let bit = 1 << (chunk % u64::BITS);
        if self.chunks[chunk as usize].is_absent() {
            *word &= !bit;
        } else {
            *word |= bit;
        }
    }

    #[inline]
    fn chunk(&self, chunk: u32) -> &Chunk {
        static ABSENT: Chunk = Chunk::ABSENT;
        self.chunks.get(chunk as usize).unwrap_or(&ABSENT)
    }

    fn chunk_mut(&mut self, chunk: u32) -> &mut Chunk {
        let chunk = chunk as usize;
        if self.chunks.len() <= chunk {
            self.chunks.resize(chunk + 1, Chunk::ABSENT);
        }
        &mut self.chunks[chunk]
    }
}

/// Neighbouring pages. Those that are all equal are never kept as [`Chunk::Mixed`].
#[derive(Clone)]
enum Chunk {
    Uniform(Page),
    Mixed(Box<[Page; CHUNK_PAGES as usize]>),
}

impl Chunk {
    const ABSENT: Self = Self::Uniform(Page::empty());

    fn is_absent(&self) -> bool {
        matches!(self, Self::Uniform(page) if page.is_empty())
    }

    /// Changes the pages at these places of the chunk.
    #[inline]
    fn update(&mut self, places: Range<usize>, change: &mut impl FnMut(Page) -> Page) {
        match self {
            Self::Uniform(page) => {
                let to = change(*page);
                if places.len() == CHUNK_PAGES as usize {
                    *page = to;
                } else if to != *page {
                    let mut mixed = Box::new([*page; CHUNK_PAGES as usize]);
                    mixed[places].fill(to);
                    *self = Self::Mixed(mixed);
                }
            }
            Self::Mixed(mixed) => {
                for page in &mut mixed[places] {
                    *page = change(*page);
                }
                if alike(mixed.as_slice()) == CHUNK_PAGES {
                    *self = Self::Uniform(mixed[0]);
                }
            }
        }
    }
}

/// How many pages are equal to the first, from there on.
#[inline]
fn alike(pages: &[Page]) -> u32 {
    let first = pages[0];
    // Blocks before pages: within a block nothing stops early, so the CPU compares many at once.
    let whole = |block: &&[Page]| block.iter().fold(true, |all, page| all & (*page == first));
    let blocks = pages.chunks_exact(BLOCK_PAGES).take_while(whole).count();
    let rest = pages[blocks * BLOCK_PAGES..].iter();
    let count = blocks * BLOCK_PAGES + rest.take_while(|page| **page == first).count();
    #[expect(clippy::cast_possible_truncation, reason = "no more than a chunk has")]
    let count = count as u32;
    count
}

/// Joins neighbouring ranges that have the same value.
fn merged<T: PartialEq>(
    pieces: impl Iterator<Item = (Range<u32>, T)>,
) -> impl Iterator<Item = (Range<u32>, T)> {
    let mut pieces = pieces.peekable();
    iter::from_fn(move || {
        let (mut run, value) = pieces.next()?;
        while let Some((next, _)) =
            pieces.next_if(|(next, other)| next.start == run.end && *other == value)
        {
            run.end = next.end;
        }
        Some((run, value))
    })
}

/// Panics unless a range is one of guest pages.
#[inline]
fn check(pages: &Range<u32>) {
    assert!(
        pages.start <= PAGES && pages.end <= PAGES,
        "the guest has no pages {pages:#x?}"
    );
}
