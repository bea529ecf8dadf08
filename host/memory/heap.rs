//! The heap: room that becomes memory as the host moves its end.

use std::ops::Range;

use vmctx::PAGE_BYTES;

use super::change::rights;
use super::table::Page;
use super::{Memory, address_of, whole_pages};
use crate::error::{Error, Misuse, Stage};
use crate::module::Protection;

impl Memory {
    /// Moves the end of the heap, and gives where it was before.
    pub(crate) fn grow_heap(&mut self, bytes: i64) -> Result<u64, Error> {
        let refuse = |misuse| Err(Error::misuse(Stage::Memory, misuse));
        let Some(heap) = self.module.heap() else {
            return refuse(Misuse::NoHeap);
        };
        let before = self.heap_end;
        let wanted = before.checked_add_signed(bytes);
        let Some(end) = wanted.filter(|end| (heap.start..=heap.end).contains(end)) else {
            let (used, limit) = (before - heap.start, heap.end - heap.start);
            return refuse(Misuse::HeapLimit { bytes, used, limit });
        };
        // A heap need not end with a page; the room for it does.
        let (from, to) = (
            before.next_multiple_of(PAGE_BYTES),
            end.next_multiple_of(PAGE_BYTES),
        );
        // Where the map is fixed all of the heap is there from the start.
        if self.is_paged() && to > from {
            self.open_room(&whole_pages(from, to - from)?)?;
        } else if self.is_paged() && to < from {
            self.unmap(to, from - to)?;
            self.table.set(whole_pages(to, from - to)?, Page::GUARD);
        }
        self.heap_end = end;
        Ok(before)
    }

    /// Room is a guard, so that nothing else gets in the heap's way.
    fn open_room(&mut self, pages: &Range<u32>) -> Result<(), Error> {
        let is_taken = |page: Page| !page.is_empty() && page != Page::GUARD;
        if let Some(taken) = self.table.runs_of(pages.clone(), is_taken).next() {
            let misuse = Misuse::Overlap(address_of(taken.start));
            return Err(Error::misuse(Stage::Memory, misuse));
        }
        self.hold(pages)?;
        let done = self.paging().and_then(|paging| paging.release(pages));
        let done = done.map(|()| Page::NATIVE);
        let settled = self.settle(pages, rights(Protection::ReadWrite), done);
        if settled.is_err() {
            self.table.set(pages.clone(), Page::GUARD);
        }
        settled
    }
}
