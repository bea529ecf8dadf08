//! What a fault of the guest's means.

use linux_raw::Errno;
use vmctx::map::Span;

use super::paging::named;
use super::table::Page;
use super::{Memory, PAGE_LENGTH, address_of, page_of};
use crate::error::Error;
use crate::interrupt::Access;

/// What becomes of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The page is there now: the guest tries again.
    Settled,
    /// Nothing is mapped there.
    Absent,
    /// The guest may not do that there.
    Refused,
    /// The guest may, and the kernel is to see to it: it could not, or the report is a lie.
    Unexplained,
}

static ZEROS: [u8; PAGE_LENGTH] = [0; PAGE_LENGTH];

impl Memory {
    /// Whether the guest's touches of absent pages reach us at all.
    pub(crate) fn is_paged(&self) -> bool {
        self.paging.is_some()
    }

    /// Judges a fault as the worker reported it, and settles what the host has put off. The report
    /// may be a lie: then all it gets is a page that it could have had by touching it.
    pub(crate) fn settle_fault(&mut self, address: u64, access: Access) -> Result<Verdict, Error> {
        let (Some(page), Some(_)) = (page_of(address), &self.paging) else {
            return Ok(Verdict::Refused);
        };
        let flags = self.table.get(page);
        // What is fetched from data is no code, whoever would page it in.
        if access == Access::Execute && !flags.contains(Page::EXECUTE) {
            return Ok(Verdict::Refused);
        }
        if flags.is_empty() {
            return Ok(Verdict::Absent);
        }
        if !flags.allows(access) {
            return Ok(Verdict::Refused);
        }
        if flags.intersects(Page::FIXED | Page::NATIVE) {
            return Ok(Verdict::Unexplained);
        }
        self.bring(page, flags)?;
        Ok(Verdict::Settled)
    }

    /// Puts one mapped page into the worker's page table.
    fn bring(&mut self, page: u32, flags: Page) -> Result<(), Error> {
        if flags.contains(Page::PRESENT) {
            return self.let_through(page, flags);
        }
        match self.fill(page, flags) {
            Ok(()) => {}
            // It is in the file: swapped out, or there because its neighbour took a large page.
            Err((_, Errno::EEXIST)) => {
                if flags.contains(Page::LAZY) {
                    self.bring_in(page)?;
                }
                self.let_through(page, flags)?;
            }
            Err((call, errno)) => named(call, Err(errno))?,
        }
        self.table.update(page..page + 1, |page| page - Page::LAZY);
        self.mark_present(page);
        Ok(())
    }

    /// A page that is not in the file: of an origin or a template, or of zeros.
    fn fill(&self, page: u32, flags: Page) -> Result<(), (&'static str, Errno)> {
        let protected = !flags.contains(Page::WRITE);
        let pages = page..page + 1;
        let Some(paging) = &self.paging else {
            return Ok(()); // nothing faults then
        };
        let (call, done) = match self.lazy_contents(page, flags) {
            Some((mapping, offset)) => {
                let from = mapping.page(offset);
                ("UFFDIO_COPY", paging.copy_page(page, &from, protected))
            }
            None if protected => {
                let done = paging.copy_from_slice(&pages, &ZEROS, true);
                ("UFFDIO_COPY", done)
            }
            None => ("UFFDIO_ZEROPAGE", paging.zero(&pages)),
        };
        done.map_err(|errno| (call, errno))
    }

    /// A page that is in the file.
    fn let_through(&mut self, page: u32, flags: Page) -> Result<(), Error> {
        let protected = !flags.contains(Page::WRITE);
        let pages = page..page + 1;
        match self.paging()?.resume(&pages, protected) {
            // It is in the page table already, and the guest may have lied.
            Err(Errno::EEXIST) if protected => Ok(()),
            Err(Errno::EEXIST) => {
                named("UFFDIO_WRITEPROTECT", self.paging()?.protect(&pages, false))
            }
            // The kernel has dropped it, which it does with zeros that nobody has written.
            Err(Errno::EFAULT) if flags.contains(Page::PRESENT) => {
                self.table.update(pages, |page| page - Page::PRESENT);
                self.present -= 1;
                self.bring(page, flags - Page::PRESENT)
            }
            Err(Errno::EINVAL) if protected => self.make_anew(page),
            done => named("UFFDIO_CONTINUE", done),
        }
    }

    /// Before Linux 6.4 a page of the file cannot be let through protected, and must not be
    /// without: a guest that only says that it waits would write it. So it is made anew.
    fn make_anew(&mut self, page: u32) -> Result<(), Error> {
        let pages = page..page + 1;
        let mut contents = [0; PAGE_LENGTH];
        self.mapping().read(address_of(page), &mut contents);
        self.give_back(&pages)?;
        let done = self.paging()?.copy_from_slice(&pages, &contents, true);
        named("UFFDIO_COPY", done)?;
        self.mark_present(page);
        Ok(())
    }

    fn lazy_contents(&self, page: u32, flags: Page) -> Option<super::origin::Place<'_>> {
        if !flags.contains(Page::LAZY) {
            return None;
        }
        self.overlays.page(page).or_else(|| self.origin.page(page))
    }

    /// The absent pages around an address, as addresses: those of the block of `pages` pages, a
    /// power of two, that it lies in, as far as nothing else is between.
    pub(crate) fn absent_around(&self, address: u64, pages: u32) -> Option<Span> {
        let page = page_of(address)?;
        let block = page & !(pages - 1);
        let block = block.max(super::GUEST_PAGES.start)..block + pages;
        let run = self
            .table
            .runs_of(block, |page| page.is_empty())
            .find(|run| run.contains(&page))?;
        Some(address_of(run.start)..address_of(run.end))
    }
}
