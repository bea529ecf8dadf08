//! What the guest may do with what is mapped.

use std::ops::Range;

use linux_raw::Errno;

use super::change::{is_held, rights};
use super::paging::named;
use super::table::Page;
use super::{GUEST_PAGES, Hidden, Memory, PAGE_LENGTH, address_of, whole_pages};
use crate::error::{Error, Misuse, Stage};
use crate::module::Protection;

/// How many pages change hands together: each change of hands is one more mapping of the worker's,
/// of which the kernel allows 65,530 (vm.max_map_count).
const BLOCK_PAGES: u32 = 512;

impl Memory {
    /// Other rights for what is mapped or hidden. The contents stay.
    pub(crate) fn protect(
        &mut self,
        address: u64,
        length: u64,
        protection: Protection,
    ) -> Result<(), Error> {
        let pages = whole_pages(address, length)?;
        self.paging()?;
        self.refuse_fixed(&pages)?;
        if let Some(hole) = self
            .table
            .runs_of(pages.clone(), |page| !is_held(page))
            .next()
        {
            let misuse = Misuse::NotMapped(address_of(hole.start));
            return Err(Error::misuse(Stage::Memory, misuse));
        }
        self.changed = true;
        if protection == Protection::None {
            return self.hide(&pages);
        }
        self.show(&pages, rights(protection))?;
        match protection {
            Protection::ReadWrite => self.let_write(&pages),
            _ => self.forbid_writes(&pages),
        }
    }

    /// From now on touches of these pages come to the host, also where they did not before.
    pub(super) fn watch_natives(&mut self, pages: &Range<u32>) -> Result<(), Error> {
        let is_native = |page: Page| page.contains(Page::NATIVE);
        let first = pages.start & !(BLOCK_PAGES - 1);
        let end = pages.end.next_multiple_of(BLOCK_PAGES).min(GUEST_PAGES.end);
        let runs: Vec<_> = self.table.runs_of(first..end, is_native).collect();
        for run in runs {
            self.paging()?.watch(&run)?;
            self.table.update(run, |page| page - Page::NATIVE);
        }
        Ok(())
    }

    /// Takes contents out of the guest's reach: no remote call takes a page out of the worker's
    /// page table and leaves it in the file.
    fn hide(&mut self, pages: &Range<u32>) -> Result<(), Error> {
        self.watch_natives(pages)?;
        self.discover(pages)?;
        let hidden = |page: Page| (page - (Page::READ | Page::WRITE)) | Page::HIDDEN;
        let is_there = |page: Page| page.contains(Page::PRESENT);
        let there: Vec<_> = self.table.runs_of(pages.clone(), is_there).collect();
        // One run after the other: a failure in between loses nothing.
        for run in there {
            let mut kept = Vec::new();
            for page in run.clone() {
                let mut contents = room()?;
                self.mapping()
                    .read(address_of(page), contents.as_mut_slice());
                kept.push((page, contents));
            }
            self.give_back(&run)?;
            self.hidden.extend(kept);
            self.table.update(run, hidden);
        }
        self.table.update(pages.clone(), hidden);
        self.resident().map(drop)
    }

    /// Puts hidden contents back into the file, where the guest's touch finds them by way of the
    /// host.
    fn show(&mut self, pages: &Range<u32>, rights: Page) -> Result<(), Error> {
        let kept: Vec<u32> = self
            .hidden
            .range(pages.clone())
            .map(|(page, _)| *page)
            .collect();
        for page in kept {
            if let Some(contents) = self.hidden.get(&page) {
                self.put_in_file(address_of(page), contents.as_slice())?;
            }
            self.hidden.remove(&page);
            self.mark_present(page);
        }
        self.table.update(pages.clone(), |page| {
            if page.contains(Page::HIDDEN) {
                (page - Page::HIDDEN) | rights
            } else {
                page
            }
        });
        Ok(())
    }

    fn let_write(&mut self, pages: &Range<u32>) -> Result<(), Error> {
        self.mark_in_page_table(pages, false)?;
        self.table.update(pages.clone(), |page| page | Page::WRITE);
        Ok(())
    }

    fn forbid_writes(&mut self, pages: &Range<u32>) -> Result<(), Error> {
        self.watch_natives(pages)?;
        self.mark_in_page_table(pages, true)?;
        self.table.update(pages.clone(), |page| page - Page::WRITE);
        Ok(())
    }

    /// Changes whether the worker may write what it may have in its page table: what is in the
    /// file. A mark on anything else would only take page tables.
    fn mark_in_page_table(&mut self, pages: &Range<u32>, protected: bool) -> Result<(), Error> {
        self.discover(pages)?;
        let is_other =
            |page: Page| page.contains(Page::PRESENT) && page.contains(Page::WRITE) == protected;
        let runs: Vec<_> = self.table.runs_of(pages.clone(), is_other).collect();
        for run in runs {
            named(
                "UFFDIO_WRITEPROTECT",
                self.paging()?.protect(&run, protected),
            )?;
        }
        Ok(())
    }
}

/// Room for a page among our own memory, of which there may be none: how much is hidden is often
/// the guest's to say.
fn room() -> Result<Hidden, Error> {
    let none = || Error::kernel(Stage::Memory, "allocation", Errno::ENOMEM);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(PAGE_LENGTH).map_err(|_| none())?;
    bytes.resize(PAGE_LENGTH, 0);
    bytes.into_boxed_slice().try_into().map_err(|_| none())
}
