//! What the model says to each request: what it gives, or the error.

use std::ops::Range;

use cellwall::abi::{GUEST, PAGE_BYTES, Span};
use cellwall::{Access, Misuse, Protection, RegionFault};

use super::layout;
use super::map::{Kind, Map, Terms};
use super::space::{By, Space, Stencil};

/// From how many pages on zeros are not there at once.
const LAZY_ZEROS: u64 = 512;

impl Map {
    fn whole_pages(&self, start: u64, length: u64) -> Result<Range<u64>, Misuse> {
        let end = start.saturating_add(length);
        let refuse = |fault| Err(Misuse::Region { start, end, fault });
        if length == 0 {
            return refuse(RegionFault::Empty);
        }
        if !start.is_multiple_of(PAGE_BYTES) || !length.is_multiple_of(PAGE_BYTES) {
            return refuse(RegionFault::Unaligned);
        }
        if start.checked_add(length).is_none() {
            return refuse(RegionFault::Wraps);
        }
        if start < GUEST.start || end > GUEST.end {
            return refuse(RegionFault::Outside);
        }
        if !self.terms.paged {
            return Err(Misuse::FixedMap);
        }
        Ok(start / PAGE_BYTES..end / PAGE_BYTES)
    }

    fn free_pages(&self, address: u64, length: u64) -> Result<Range<u64>, Misuse> {
        let pages = self.whole_pages(address, length)?;
        match self.first(&pages) {
            Some(page) => Err(Misuse::Overlap(page * PAGE_BYTES)),
            None => Ok(pages),
        }
    }

    fn check_limits(&self, held: u64, bytes: u64) -> Result<(), Misuse> {
        let Terms {
            limit,
            engine_limit,
            others,
            ..
        } = self.terms;
        if bytes > 0 && held + bytes > limit {
            let bytes = held + bytes;
            return Err(Misuse::MemoryLimit { bytes, limit });
        }
        let used = held + others;
        if bytes > 0 && used + bytes > engine_limit {
            let limit = engine_limit;
            return Err(Misuse::EngineMemoryLimit { used, bytes, limit });
        }
        Ok(())
    }

    fn map(
        &mut self,
        address: u64,
        length: u64,
        to: Protection,
        contents: &[u8],
    ) -> Result<(), Misuse> {
        let pages = self.free_pages(address, length)?;
        self.check_limits(self.held(), length)?;
        let end = pages.end * PAGE_BYTES;
        self.fill(address, end, Kind::Own(to), contents);
        Ok(())
    }

    fn refuse_fixed(&self, pages: &Range<u64>) -> Result<(), Misuse> {
        let is_fixed = |page: &u64| matches!(self.kind(*page), Some(Kind::Fixed { .. }));
        match pages.clone().find(is_fixed) {
            Some(page) => Err(Misuse::Fixed(page * PAGE_BYTES)),
            None => Ok(()),
        }
    }

    /// Whether there is room for one like this.
    pub(super) fn check_room(&self) -> Result<(), Misuse> {
        self.check_limits(0, self.held())
    }

    /// Back to an origin of the same module.
    pub(super) fn renew(&mut self, origin: &Self) -> Result<(), Misuse> {
        let (held, wanted) = (self.held(), origin.held());
        self.check_limits(held, wanted.saturating_sub(held))?;
        let terms = self.terms;
        *self = origin.clone();
        self.terms = terms;
        Ok(())
    }
}

impl Space for Map {
    fn map_zero(&mut self, address: u64, length: u64, to: Protection) -> Result<(), Misuse> {
        self.map(address, length, to, &[])?;
        if to == Protection::ReadWrite && length <= LAZY_ZEROS * PAGE_BYTES {
            self.are_there(address / PAGE_BYTES..(address + length) / PAGE_BYTES);
        }
        Ok(())
    }

    fn map_data(&mut self, address: u64, contents: &[u8], to: Protection) -> Result<(), Misuse> {
        let length = (contents.len() as u64).next_multiple_of(PAGE_BYTES);
        self.map(address, length, to, contents)?;
        self.are_there(address / PAGE_BYTES..(address + length) / PAGE_BYTES);
        Ok(())
    }

    fn map_template(
        &mut self,
        address: u64,
        stencil: &Stencil,
        to: Protection,
    ) -> Result<(), Misuse> {
        let length = (stencil.contents.len() as u64).next_multiple_of(PAGE_BYTES);
        self.map(address, length, to, &stencil.contents)
    }

    fn guard(&mut self, address: u64, length: u64) -> Result<(), Misuse> {
        let pages = self.free_pages(address, length)?;
        self.fill(address, pages.end * PAGE_BYTES, Kind::Guard, &[]);
        Ok(())
    }

    fn protect(&mut self, address: u64, length: u64, to: Protection) -> Result<(), Misuse> {
        let pages = self.whole_pages(address, length)?;
        self.refuse_fixed(&pages)?;
        let is_own = |page: u64| matches!(self.kind(page), Some(Kind::Own(_)));
        if let Some(page) = pages.clone().find(|page| !is_own(*page)) {
            return Err(Misuse::NotMapped(page * PAGE_BYTES));
        }
        self.set_kind(pages, Kind::Own(to));
        Ok(())
    }

    fn unmap(&mut self, address: u64, length: u64) -> Result<(), Misuse> {
        let pages = self.whole_pages(address, length)?;
        self.refuse_fixed(&pages)?;
        self.remove(&pages);
        Ok(())
    }

    fn grow_heap(&mut self, bytes: i64) -> Result<u64, Misuse> {
        let (heap, before) = (layout::heap(), self.heap_end);
        let end = before.checked_add_signed(bytes);
        let Some(end) = end.filter(|end| (heap.start..=heap.end).contains(end)) else {
            let (used, limit) = (before - heap.start, heap.end - heap.start);
            return Err(Misuse::HeapLimit { used, bytes, limit });
        };
        let from = before.next_multiple_of(PAGE_BYTES);
        let to = end.next_multiple_of(PAGE_BYTES);
        if self.terms.paged && to > from {
            let pages = self.whole_pages(from, to - from)?;
            let is_room = |page: u64| matches!(self.kind(page), None | Some(Kind::Guard));
            if let Some(page) = pages.clone().find(|page| !is_room(*page)) {
                return Err(Misuse::Overlap(page * PAGE_BYTES));
            }
            self.check_limits(self.held(), to - from)?;
            self.remove(&pages);
            self.fill(from, to, Kind::Own(Protection::ReadWrite), &[]);
        } else if self.terms.paged && to < from {
            self.unmap(to, from - to)?;
            self.fill(to, from, Kind::Guard, &[]);
        }
        self.heap_end = end;
        Ok(before)
    }

    fn read(&mut self, address: u64, length: usize, by: By) -> Result<Vec<u8>, Misuse> {
        self.check(address, length as u64, Access::Read, by)?;
        Ok(self.copy_out(address, length))
    }

    fn write(&mut self, address: u64, from: &[u8], by: By) -> Result<(), Misuse> {
        self.check(address, from.len() as u64, Access::Write, by)?;
        self.copy_in(address, from);
        Ok(())
    }

    fn load(&mut self, address: u64, width: usize) -> Result<u64, Misuse> {
        let mut word = [0; 8];
        word[..width].copy_from_slice(&self.read(address, width, By::Guest)?);
        Ok(u64::from_le_bytes(word))
    }

    fn store(&mut self, address: u64, width: usize, value: u64) -> Result<(), Misuse> {
        self.write(address, &value.to_le_bytes()[..width], By::Guest)
    }

    fn zero(&mut self, address: u64, length: u64) -> Result<(), Misuse> {
        self.check(address, length, Access::Write, By::Guest)?;
        self.clear(address, usize::try_from(length).unwrap());
        Ok(())
    }

    fn set_input(&mut self, input: &[u8]) -> Result<(), Misuse> {
        let (region, bytes) = (layout::input(), input.len() as u64);
        let limit = region.end - region.start;
        if bytes > limit {
            return Err(Misuse::InputBytes { bytes, limit });
        }
        self.check(region.start, limit, Access::Write, By::Host)?;
        self.copy_in(region.start, input);
        self.clear(
            region.start + bytes,
            usize::try_from(limit - bytes).unwrap(),
        );
        Ok(())
    }

    fn is_accessible(&self, address: u64, length: u64, access: Access) -> bool {
        self.check(address, length, access, By::Guest).is_ok()
    }

    fn absent_around(&self, address: u64, pages: u32) -> Span {
        let is_absent = |page: u64| self.kind(page).is_none();
        let page = address / PAGE_BYTES;
        if !GUEST.contains(&address) || !is_absent(page) {
            return address..address;
        }
        let pages = u64::from(pages.clamp(1, 512));
        let pages = 1 << pages.ilog2();
        let first = page / pages * pages;
        let block = first.max(GUEST.start / PAGE_BYTES)..first + pages;
        let before = (block.start..page)
            .rev()
            .take_while(|page| is_absent(*page));
        let after = (page..block.end).take_while(|page| is_absent(*page));
        let (before, after) = (before.count() as u64, after.count() as u64);
        (page - before) * PAGE_BYTES..(page + after) * PAGE_BYTES
    }
}
