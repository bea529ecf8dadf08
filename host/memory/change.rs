//! Changes of the map: what the guest may touch.
//!
//! All of them work by the worker's page table, from outside: the worker takes no turn. What is
//! wrong with a request is found before anything is changed; where the kernel fails half-way, the
//! pages concerned are absent.

use std::ops::Range;

use linux_raw::Errno;
use vmctx::PAGE_BYTES;

use super::paging::named;
use super::table::Page;
use super::template::Template;
use super::{Memory, PAGE_LENGTH, address_of, bytes_of, whole_pages};
use crate::error::{Error, Misuse, Stage};
use crate::module::Protection;

/// Up to how many zero pages are put there at once. Where more are wanted, the kernel fills each at
/// its first touch.
const EAGER_PAGES: u32 = 512;

/// The flags of a protection.
pub(super) fn rights(protection: Protection) -> Page {
    match protection {
        Protection::None => Page::HIDDEN,
        Protection::Read => Page::READ,
        Protection::ReadWrite => Page::READ | Page::WRITE,
    }
}

/// Whether a page counts for the limits.
pub(super) fn is_held(page: Page) -> bool {
    page.intersects(Page::READ | Page::WRITE | Page::HIDDEN) && !page.contains(Page::FIXED)
}

impl Memory {
    /// Zero pages where nothing is.
    pub(crate) fn map_zero(
        &mut self,
        address: u64,
        length: u64,
        protection: Protection,
    ) -> Result<(), Error> {
        let pages = self.free_pages(address, length)?;
        self.hold(&pages)?;
        let count = pages.end - pages.start;
        let done = match protection {
            Protection::ReadWrite if count <= EAGER_PAGES => self
                .put("UFFDIO_ZEROPAGE", &pages, |memory| {
                    memory.paging()?.zero(&pages).map_err(Refused::Kernel)
                })
                .map(|()| Page::PRESENT),
            Protection::ReadWrite => self
                .paging()
                .and_then(|paging| paging.release(&pages))
                .map(|()| Page::NATIVE),
            // Whoever reads it first has it put there, protected.
            Protection::Read | Protection::None => Ok(Page::empty()),
        };
        self.settle(&pages, rights(protection), done)
    }

    /// Pages with these contents where nothing is; the rest of the last page is zero.
    pub(crate) fn map_data(
        &mut self,
        address: u64,
        contents: &[u8],
        protection: Protection,
    ) -> Result<(), Error> {
        let length = (contents.len() as u64).next_multiple_of(PAGE_BYTES);
        let pages = self.free_pages(address, length)?;
        self.hold(&pages)?;
        if protection == Protection::None {
            let done = self.put_in_file(address, contents);
            let done = done.map(|()| Page::PRESENT);
            self.settle(&pages, Page::READ, done)?;
            let hidden = self.protect(address, length, Protection::None);
            if hidden.is_err() {
                let _ = self.take_away(&pages);
            }
            return hidden;
        }
        let protected = protection == Protection::Read;
        let done = self.put("UFFDIO_COPY", &pages, |memory| {
            memory.copy_in(&pages, contents, protected)
        });
        self.settle(&pages, rights(protection), done.map(|()| Page::PRESENT))
    }

    /// The whole pages of the contents, then the last one by way of a page of ours.
    fn copy_in(&self, pages: &Range<u32>, contents: &[u8], protected: bool) -> Result<(), Refused> {
        let paging = self.paging()?;
        let (whole, rest) = contents.split_at(contents.len() - contents.len() % PAGE_LENGTH);
        let last = pages.end - u32::from(!rest.is_empty());
        let before = pages.start..last;
        if !whole.is_empty() {
            copy_slice(paging, &before, whole, protected)?;
        }
        if !rest.is_empty() {
            let mut page = [0; PAGE_LENGTH];
            page[..rest.len()].copy_from_slice(rest);
            copy_slice(paging, &(last..pages.end), &page, protected)?;
        }
        Ok(())
    }

    /// A template where nothing is.
    pub(crate) fn map_template(
        &mut self,
        address: u64,
        template: &Template,
        protection: Protection,
    ) -> Result<(), Error> {
        // A forked child has a handle of its parent's templates, and not what is behind it.
        if !template.mapping().is_ours() {
            return Err(Error::misuse(Stage::Memory, Misuse::Forked));
        }
        let pages = self.free_pages(address, template.bytes())?;
        self.hold(&pages)?;
        self.overlays.put(&pages, template);
        self.settle(&pages, rights(protection), Ok(Page::LAZY))
    }

    /// Pages that are a trap to touch, where nothing is.
    pub(crate) fn guard(&mut self, address: u64, length: u64) -> Result<(), Error> {
        let pages = self.free_pages(address, length)?;
        self.changed = true;
        self.table.set(pages, Page::GUARD);
        Ok(())
    }

    /// Nothing is there any more.
    pub(crate) fn unmap(&mut self, address: u64, length: u64) -> Result<(), Error> {
        let pages = whole_pages(address, length)?;
        self.paging()?;
        self.refuse_fixed(&pages)?;
        self.changed = true;
        self.take_away(&pages)
    }

    /// The pages of a request that wants nothing to be there yet.
    fn free_pages(&self, address: u64, length: u64) -> Result<Range<u32>, Error> {
        let pages = whole_pages(address, length)?;
        self.paging()?;
        match self
            .table
            .runs_of(pages.clone(), |page| !page.is_empty())
            .next()
        {
            None => Ok(pages),
            Some(taken) => {
                let misuse = Misuse::Overlap(address_of(taken.start));
                Err(Error::misuse(Stage::Memory, misuse))
            }
        }
    }

    pub(super) fn refuse_fixed(&self, pages: &Range<u32>) -> Result<(), Error> {
        let is_fixed = |page: Page| page.contains(Page::FIXED);
        match self.table.runs_of(pages.clone(), is_fixed).next() {
            None => Ok(()),
            Some(fixed) => {
                let misuse = Misuse::Fixed(address_of(fixed.start));
                Err(Error::misuse(Stage::Memory, misuse))
            }
        }
    }

    pub(super) fn hold(&mut self, pages: &Range<u32>) -> Result<(), Error> {
        let taken = self.budget.take(bytes_of(pages));
        taken.map_err(|misuse| Error::misuse(Stage::Memory, misuse))
    }

    /// Puts pages there that are in nobody's page table, but perhaps in the file already.
    fn put(
        &mut self,
        call: &'static str,
        pages: &Range<u32>,
        put: impl Fn(&Self) -> Result<(), Refused>,
    ) -> Result<(), Error> {
        let first = put(self);
        let done = match first {
            // A kernel that makes large pages puts neighbours there too.
            Err(Refused::Kernel(Errno::EEXIST)) => {
                self.give_back(pages)?;
                put(self)
            }
            done => done,
        };
        match done {
            Ok(()) => Ok(()),
            Err(Refused::Kernel(errno)) => named(call, Err(errno)),
            Err(Refused::Before(error)) => Err(error),
        }
    }

    /// Notes what has become of absent pages: they are there, or as they were.
    pub(super) fn settle(
        &mut self,
        pages: &Range<u32>,
        rights: Page,
        done: Result<Page, Error>,
    ) -> Result<(), Error> {
        self.changed = true;
        match done {
            Ok(how) => {
                if how.contains(Page::PRESENT) {
                    self.present += u64::from(pages.end - pages.start);
                    self.touched = true;
                }
                self.table.set(pages.clone(), rights | how);
                Ok(())
            }
            Err(error) => {
                // What the kernel still refuses leaves pages that the guest cannot reach.
                let _ = self.paging().and_then(|paging| paging.watch(pages));
                let _ = self.take_away(pages);
                self.budget.give(bytes_of(pages));
                Err(error)
            }
        }
    }

    /// Makes pages absent, whatever they are.
    fn take_away(&mut self, pages: &Range<u32>) -> Result<(), Error> {
        self.watch_natives(pages)?;
        self.give_back(pages)?;
        let held = self.table.count(pages.clone(), is_held) * PAGE_BYTES;
        self.budget.give(held);
        self.overlays.remove(pages);
        self.table.set(pages.clone(), Page::empty());
        Ok(())
    }
}

/// Why pages could not be put there.
enum Refused {
    Kernel(Errno),
    Before(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Before(error)
    }
}

/// As many pages as there are bytes.
fn copy_slice(
    paging: &super::Paging,
    pages: &Range<u32>,
    from: &[u8],
    protected: bool,
) -> Result<(), Refused> {
    debug_assert_eq!(bytes_of(pages), from.len() as u64);
    paging
        .copy_from_slice(pages, from, protected)
        .map_err(Refused::Kernel)
}
