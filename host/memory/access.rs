//! Reading and writing guest memory.
//!
//! A page that is known to be in the memory file is copied from or to the host's mapping of it,
//! without a system call. Any other is read and written through the file, which allocates nothing
//! for a read and gives an error where a touch of the mapping would be a signal.

use std::ops::Range;

use linux_raw::{io, memfd};
use vmctx::PAGE_BYTES;
use vmctx::map::Span;

use super::table::{PAGES, Page};
use super::{Memory, PAGE_LENGTH, address_of, page_of};
use crate::error::{Error, KernelResult as _, Misuse, Stage};
use crate::interrupt::Access;
use crate::memfd::write_all;
use crate::module::Source;

/// From how many pages on it is cheaper to give them back than to fill them with zeros, later
/// faults included.
const GIVE_BACK_PAGES: u64 = 64;

/// On whose behalf memory is accessed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    /// What the guest itself may not do is refused.
    Guest,
    /// The host does as it likes with what is the instance's own.
    Host,
}

/// A number that fits into a register: an integer of 1, 2, 4 or 8 bytes, little-endian as in guest
/// memory.
pub trait Word: Copy + private::Sealed {
    /// As bytes, with unused ones at the end.
    #[doc(hidden)]
    fn to_bytes(self) -> [u8; 8];
    /// From as many bytes as it has.
    #[doc(hidden)]
    fn from_bytes(bytes: [u8; 8]) -> Self;
}

mod private {
    pub trait Sealed {}
}

macro_rules! words {
    ($($word:ty),*) => {$(
        impl private::Sealed for $word {}
        impl Word for $word {
            #[inline]
            fn to_bytes(self) -> [u8; 8] {
                let mut bytes = [0; 8];
                bytes[..size_of::<Self>()].copy_from_slice(&self.to_le_bytes());
                bytes
            }

            #[inline]
            fn from_bytes(bytes: [u8; 8]) -> Self {
                let mut own = [0; size_of::<Self>()];
                own.copy_from_slice(&bytes[..size_of::<Self>()]);
                Self::from_le_bytes(own)
            }
        }
    )*};
}

words!(u8, u16, u32, u64, i8, i16, i32, i64);

/// The pages that an access touches, and nothing if it leaves the guest's addresses.
fn touched(address: u64, length: u64) -> Option<Range<u32>> {
    let last = address.checked_add(length)?.checked_sub(1)?;
    Some(page_of(address)?..page_of(last)? + 1)
}

/// The part of an access that is in one page: from which byte of the page on, and how many.
fn part(address: u64, length: usize) -> (u64, usize) {
    let within = address % PAGE_BYTES;
    let room = usize::try_from(PAGE_BYTES - within).unwrap_or(usize::MAX);
    (within, room.min(length))
}

impl Memory {
    /// Copies guest memory out.
    #[inline]
    pub(crate) fn read(&mut self, address: u64, into: &mut [u8], by: As) -> Result<(), Error> {
        let (_, first) = part(address, into.len());
        if let Some(page) = page_of(address)
            && first == into.len()
            && self.table.get(page).contains(Page::READ | Page::PRESENT)
        {
            self.mapping().read(address, into);
            return Ok(());
        }
        self.read_slowly(address, into, by)
    }

    /// Copies into guest memory.
    #[inline]
    pub(crate) fn write(&mut self, address: u64, from: &[u8], by: As) -> Result<(), Error> {
        let (_, first) = part(address, from.len());
        let ready = Page::WRITE | Page::PRESENT;
        if let Some(page) = page_of(address)
            && first == from.len()
            && self.table.get(page).contains(ready)
        {
            self.touched = true;
            self.mapping().write(address, from);
            return Ok(());
        }
        self.write_slowly(address, from, by)
    }

    #[cold]
    fn read_slowly(&mut self, address: u64, into: &mut [u8], by: As) -> Result<(), Error> {
        let length = into.len() as u64;
        self.check(address, length, Access::Read, by)?;
        if let Some(pages) = touched(address, length) {
            self.discover(&pages)?;
        }
        let (mut at, mut rest) = (address, into);
        while !rest.is_empty() {
            let (_, bytes) = part(at, rest.len());
            let (piece, after) = rest.split_at_mut(bytes);
            self.read_part(at, piece)?;
            rest = after;
            at += bytes as u64;
        }
        Ok(())
    }

    /// Reads what lies in one page, which may be read.
    fn read_part(&mut self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        let Some(page) = page_of(address) else {
            return match &self.code {
                Some(code) if code.holds(address, into.len() as u64) => code.read(address, into),
                _ => {
                    self.read_fixed(address, into);
                    Ok(())
                }
            };
        };
        let flags = self.table.get(page);
        if flags.contains(Page::FIXED) {
            self.read_fixed(address, into);
        } else if flags.contains(Page::PRESENT) {
            self.mapping().read(address, into);
        } else if let Some(kept) = self.hidden.get(&page) {
            let from = usize::try_from(address % PAGE_BYTES).unwrap_or(0);
            into.copy_from_slice(&kept[from..from + into.len()]);
        } else if flags.contains(Page::LAZY) {
            match self.overlays.page(page).or_else(|| self.origin.page(page)) {
                Some((mapping, offset)) => mapping.read(offset + address % PAGE_BYTES, into),
                None => into.fill(0),
            }
        } else {
            into.fill(0);
        }
        Ok(())
    }

    /// Reads code and constants, which are in the module's own file.
    fn read_fixed(&self, address: u64, into: &mut [u8]) {
        if let Some(region) = self.module.region_of(address)
            && let Source::Module { offset } = region.source
        {
            let from = offset + (address - region.span.start);
            self.module.image().mapping().read(from, into);
        }
    }

    #[cold]
    fn write_slowly(&mut self, address: u64, from: &[u8], by: As) -> Result<(), Error> {
        self.check(address, from.len() as u64, Access::Write, by)?;
        self.touched = true;
        let (mut at, mut rest) = (address, from);
        while !rest.is_empty() {
            let (_, bytes) = part(at, rest.len());
            let (piece, after) = rest.split_at(bytes);
            self.write_part(at, piece)?;
            rest = after;
            at += bytes as u64;
        }
        Ok(())
    }

    /// Writes what lies in one page, which is the instance's own.
    fn write_part(&mut self, address: u64, from: &[u8]) -> Result<(), Error> {
        let Some(page) = page_of(address) else {
            return Ok(()); // nothing beyond the guest's pages is the instance's own
        };
        if let Some(kept) = self.hidden.get_mut(&page) {
            let at = usize::try_from(address % PAGE_BYTES).unwrap_or(0);
            kept[at..at + from.len()].copy_from_slice(from);
            return Ok(());
        }
        if self.table.get(page).contains(Page::LAZY) {
            self.bring_in(page)?;
        }
        if self.table.get(page).contains(Page::PRESENT) {
            self.mapping().write(address, from);
            return Ok(());
        }
        self.put_in_file(address, from)?;
        self.mark_present(page);
        Ok(())
    }

    /// Fills bytes with zeros. Many whole pages are given back to the machine instead.
    pub(crate) fn zero(&mut self, address: u64, length: u64, by: As) -> Result<(), Error> {
        static ZEROS: [u8; PAGE_LENGTH] = [0; PAGE_LENGTH];
        self.check(address, length, Access::Write, by)?;
        self.touched = true;
        let end = address + length;
        let mut at = address;
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let (within, bytes) = part(at, left);
            let whole = (end - at) / PAGE_BYTES;
            if within == 0 && whole >= GIVE_BACK_PAGES {
                let first = page_of(at).unwrap_or(0);
                let pages = first..first + u32::try_from(whole).unwrap_or(0);
                // What is not there is left alone by a reset, unless the map is made anew.
                self.changed |= pages.clone().any(|page| self.origin.page(page).is_some());
                self.give_back(&pages)?;
                self.table.update(pages.clone(), |page| page - Page::LAZY);
                self.overlays.remove(&pages);
                at = address_of(pages.end);
            } else {
                self.write_part(at, &ZEROS[..bytes])?;
                at += bytes as u64;
            }
        }
        Ok(())
    }

    /// Fills a region with what the host has for it, which is no more, and the rest with zeros.
    pub(crate) fn replace(&mut self, region: Span, from: &[u8]) -> Result<(), Error> {
        let length = region.end - region.start;
        self.check(region.start, length, Access::Write, As::Host)?;
        self.write(region.start, from, As::Host)?;
        let rest = region.start + from.len() as u64;
        self.zero(rest, region.end - rest, As::Host)
    }

    /// Whether the guest itself could do this to all of the range. Nothing is touched.
    pub(crate) fn allows(&self, address: u64, length: u64, access: Access) -> bool {
        self.fits(address, length, access, As::Guest)
    }

    fn check(&self, address: u64, length: u64, access: Access, by: As) -> Result<(), Error> {
        if self.fits(address, length, access, by) {
            return Ok(());
        }
        let misuse = Misuse::OutOfBounds {
            address,
            length,
            access,
        };
        Err(Error::misuse(Stage::Memory, misuse))
    }

    fn fits(&self, address: u64, length: u64, access: Access, by: As) -> bool {
        if length == 0 {
            return true; // nothing of nothing is out of bounds, wherever it is
        }
        let Some(pages) = touched(address, length) else {
            return self.is_in_code_window(address, length, access);
        };
        let own = Page::READ | Page::WRITE | Page::HIDDEN;
        self.table.all(pages, |page| match (by, access) {
            (As::Guest, _) => page.allows(access),
            (As::Host, Access::Write) => page.intersects(own) && !page.contains(Page::FIXED),
            (As::Host, _) => page.intersects(own),
        })
    }

    /// Code above the guest's addresses: of the module, one region, or the instance's own.
    fn is_in_code_window(&self, address: u64, length: u64, access: Access) -> bool {
        let own = self.code.as_ref();
        if own.is_some_and(|code| code.holds(address, length)) {
            return access != Access::Write;
        }
        let Some(end) = address.checked_add(length) else {
            return false;
        };
        let region = self.module.region_of(address);
        page_of(address).is_none()
            && region.is_some_and(|region| {
                end <= region.span.end
                    && region.allows(access)
                    && matches!(region.source, Source::Module { .. })
            })
    }

    /// Puts the contents of a lazy page into the file. The guest's touch still comes to the host,
    /// who then has only to let it through.
    pub(super) fn bring_in(&mut self, page: u32) -> Result<(), Error> {
        let mut contents = [0; PAGE_LENGTH];
        if let Some((mapping, offset)) = self.overlays.page(page).or_else(|| self.origin.page(page))
        {
            mapping.read(offset, &mut contents);
            self.put_in_file(address_of(page), &contents)?;
            self.mark_present(page);
        }
        self.table.update(page..page + 1, |page| page - Page::LAZY);
        Ok(())
    }

    pub(super) fn put_in_file(&self, address: u64, from: &[u8]) -> Result<(), Error> {
        write_all(&self.file.fd, from, address, Stage::Memory)
    }

    pub(super) fn mark_present(&mut self, page: u32) {
        if !self.table.get(page).contains(Page::PRESENT) {
            self.table
                .set(page..page + 1, self.table.get(page) | Page::PRESENT);
            self.present += 1;
        }
    }

    /// Takes pages out of the file, and with that from the worker: they are zero, or absent, from
    /// now on.
    pub(super) fn give_back(&mut self, pages: &Range<u32>) -> Result<(), Error> {
        self.resident()?;
        let bytes = super::bytes_of(pages);
        memfd::punch_hole(&self.file.fd, address_of(pages.start), bytes)
            .at(Stage::Memory, "fallocate")?;
        self.present -= self
            .table
            .count(pages.clone(), |page| page.contains(Page::PRESENT));
        self.table
            .update(pages.clone(), |page| page - Page::PRESENT);
        for page in self
            .hidden
            .range(pages.clone())
            .map(|(page, _)| *page)
            .collect::<Vec<_>>()
        {
            self.hidden.remove(&page);
        }
        Ok(())
    }

    /// Looks which of these pages are in the file, if there may be others than we know: a guest
    /// fills what the kernel gives it without asking us. The walk has no limit on how many runs it
    /// finds.
    pub(super) fn discover(&mut self, pages: &Range<u32>) -> Result<(), Error> {
        let end = address_of(pages.end);
        let elsewhere = self.hidden.len() as u64 + self.code_bytes() / PAGE_BYTES;
        let known = self.present + elsewhere;
        let in_file = (self.resident()? / PAGE_BYTES).checked_sub(known);
        // A count says nothing where the kernel may have dropped one page and filled another. Nor
        // does it say when the walk is over: a fault that the guest took before it was stopped may
        // be on its way through the kernel, and add a page of zeros meanwhile.
        if in_file == Some(0) && !self.droppable {
            return Ok(());
        }
        let mut at = address_of(pages.start);
        while at < end
            && let Some(data) = io::seek_data(&self.file.fd, at).at(Stage::Memory, "lseek")?
            && data < end
        {
            let first = page_at(data);
            if self.table.get(first).contains(Page::PRESENT) {
                at = address_of(self.end_of_present(first));
                continue;
            }
            let hole = io::seek_hole(&self.file.fd, data).at(Stage::Memory, "lseek")?;
            at = hole.min(end);
            self.mark_found(&(first..page_at(at)));
        }
        Ok(())
    }

    /// The page after those that are known to be in the file from this one on.
    fn end_of_present(&self, first: u32) -> u32 {
        let is_present = |page: Page| page.contains(Page::PRESENT);
        let run = self.table.runs_of(first..PAGES, is_present).next();
        run.map_or(first + 1, |run| run.end)
    }

    /// Notes pages that the kernel has filled.
    fn mark_found(&mut self, pages: &Range<u32>) {
        let is_new = |page: Page| !page.contains(Page::PRESENT);
        let new = self.table.count(pages.clone(), is_new);
        self.table
            .update(pages.clone(), |page| page | Page::PRESENT);
        self.present += new;
        self.droppable = true;
    }
}

/// The page at an offset of the file, which has no more than there are.
fn page_at(offset: u64) -> u32 {
    u32::try_from(offset / PAGE_BYTES).unwrap_or(PAGES)
}
