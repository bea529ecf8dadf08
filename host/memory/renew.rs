//! Back to an origin: the module's initial state, or a snapshot's.
//!
//! What a guest may have changed is what is in the memory file, and the kernel says at once whether
//! that is more than the host knows of. Few pages are filled anew where they are, which saves the
//! next guest their faults; many are given back. Nothing is searched in the worker's page table.

use linux_raw::random;
use vmctx::PAGE_BYTES;

use super::access::As;
use super::change::is_held;
use super::origin::Origin;
use super::snapshot::Snapshot;
use super::table::{PAGES, Page};
use super::{GUEST_PAGES, Memory, PAGE_LENGTH, address_of, bytes_of};
use crate::error::{Error, KernelResult as _, Misuse, Stage};
use crate::module::Source;

/// How many pages are kept and filled anew without a pool: giving back as many and faulting them in
/// again costs three times as much. 16 MiB of data, and a stack.
pub(super) const KEPT_PAGES: u64 = 4096 + 256;

/// How many bytes are copied at once into the memory file.
const PIECE_BYTES: usize = 1 << 20;

impl Memory {
    /// Back to the module's initial state.
    pub(crate) fn reset(&mut self) -> Result<(), Error> {
        self.renew(Origin::of_module(&self.module))
    }

    /// Whether there can be a return to this snapshot.
    pub(crate) fn check_restore(&self, snapshot: &Snapshot) -> Result<(), Error> {
        if !snapshot.module().is(&self.module) {
            return Err(Error::misuse(Stage::Memory, Misuse::OtherModule));
        }
        if self.paging.is_none() && !snapshot.has_map_of(&self.module) {
            return Err(Error::misuse(Stage::Memory, Misuse::FixedMap));
        }
        Ok(())
    }

    /// To a snapshot of an instance of the same module.
    pub(crate) fn restore(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        self.renew(Origin::Snapshot(snapshot.clone()))
    }

    fn renew(&mut self, origin: Origin) -> Result<(), Error> {
        if self.changed || !origin.is(&self.origin) {
            self.rebuild(origin)?;
        } else {
            self.discover(&GUEST_PAGES)?;
            self.fill_anew()?;
            // Where the map is fixed, it moves without a change of the map.
            self.heap_end = self.origin.heap_end();
        }
        let code_bytes = self.code_bytes();
        if let Some(code) = &mut self.code {
            code.clear()?;
            self.budget.give(code_bytes);
        }
        self.fill_entropy()?;
        self.touched = false;
        Ok(())
    }

    /// The map is the origin's: only contents have changed.
    fn fill_anew(&mut self) -> Result<(), Error> {
        if self.present > self.kept_pages {
            self.give_back_the_rest()?;
        }
        let is_present = |page: Page| page.contains(Page::PRESENT);
        for run in self.table.runs_of(GUEST_PAGES, is_present) {
            let mut zeros = run.start;
            for page in run.clone() {
                let Some((from, offset)) = self.origin.page(page) else {
                    continue;
                };
                self.zero_present(zeros..page);
                zeros = page + 1;
                self.mapping()
                    .copy_from(address_of(page), from, offset, PAGE_BYTES);
            }
            self.zero_present(zeros..run.end);
        }
        self.droppable = false; // all of them have been written just now
        Ok(())
    }

    fn zero_present(&self, pages: std::ops::Range<u32>) {
        if !pages.is_empty() {
            self.mapping()
                .zero(address_of(pages.start), bytes_of(&pages));
        }
    }

    /// Gives back what is more than is kept. What the kernel would fill with zeros there, but is
    /// not zero at the origin, stays.
    fn give_back_the_rest(&mut self) -> Result<(), Error> {
        let is_present = |page: Page| page.contains(Page::PRESENT);
        let runs: Vec<_> = self.table.runs_of(GUEST_PAGES, is_present).collect();
        let mut kept = 0;
        for run in runs {
            let room = u32::try_from(self.kept_pages - kept).unwrap_or(0);
            let from = run.start.saturating_add(room).min(run.end);
            kept += u64::from(from - run.start);
            let stays = |memory: &Self, page| {
                let is_native = memory.table.get(page).contains(Page::NATIVE);
                (is_native || memory.paging.is_none()) && memory.origin.page(page).is_some()
            };
            let mut start = from;
            for page in from..run.end {
                if stays(self, page) {
                    self.give_back_run(start..page)?;
                    start = page + 1;
                }
            }
            self.give_back_run(start..run.end)?;
            for page in from..run.end {
                if !is_present(self.table.get(page)) && self.origin.page(page).is_some() {
                    self.table.update(page..page + 1, |page| page | Page::LAZY);
                }
            }
        }
        Ok(())
    }

    fn give_back_run(&mut self, pages: std::ops::Range<u32>) -> Result<(), Error> {
        if pages.is_empty() {
            return Ok(());
        }
        self.give_back(&pages)
    }

    /// Another map, or another origin: all contents go, and the map is made as it was.
    fn rebuild(&mut self, origin: Origin) -> Result<(), Error> {
        let target = origin.table().clone();
        let (held, wanted) = (
            self.budget.used() - self.code_bytes(),
            target.count(GUEST_PAGES, is_held) * PAGE_BYTES,
        );
        if wanted > held {
            let taken = self.budget.take(wanted - held);
            taken.map_err(|misuse| Error::misuse(Stage::Memory, misuse))?;
        }
        // Until it is done it is neither the one nor the other.
        self.changed = true;
        self.follow_natives(&target)?;
        self.give_back(&(0..PAGES))?;
        self.droppable = false;
        self.hidden.clear();
        self.overlays.clear();
        self.table = target;
        if wanted < held {
            self.budget.give(held - wanted);
        }
        self.heap_end = origin.heap_end();
        self.origin = origin;
        self.fill_eager_pages()?;
        self.changed = false;
        Ok(())
    }

    /// Hands over to the kernel what is native in the other map, and takes back what is not.
    fn follow_natives(&self, target: &super::Table) -> Result<(), Error> {
        let Some(paging) = &self.paging else {
            return Ok(());
        };
        let is_native = |page: Page| page.contains(Page::NATIVE);
        for run in self.table.runs_of(GUEST_PAGES, is_native) {
            for part in target.runs_of(run, super::is_watched) {
                paging.watch(&part)?;
            }
        }
        for run in target.runs_of(GUEST_PAGES, is_native) {
            for part in self.table.runs_of(run, super::is_watched) {
                paging.release(&part)?;
            }
        }
        Ok(())
    }

    /// Puts those contents into the file that the worker gets from the kernel: what is native, and
    /// everything where the map is fixed.
    pub(super) fn fill_eager_pages(&mut self) -> Result<(), Error> {
        if let Origin::Module(module) = &self.origin {
            let module = module.clone();
            for region in module.regions() {
                if let Source::Memory { offset, initial } = region.source
                    && initial > 0
                    && !self.is_lazy_at(region.span.start)
                {
                    self.fill_from_image(&module, region.span.start, offset, initial)?;
                }
            }
        } else if self.paging.is_none() {
            let is_lazy = |page: Page| page.contains(Page::LAZY);
            let lazy: Vec<_> = self.table.runs_of(GUEST_PAGES, is_lazy).collect();
            for page in lazy.into_iter().flatten() {
                self.bring_in(page)?;
            }
        }
        Ok(())
    }

    fn is_lazy_at(&self, address: u64) -> bool {
        super::page_of(address).is_some_and(|page| self.table.get(page).contains(Page::LAZY))
    }

    fn fill_from_image(
        &mut self,
        module: &crate::module::Module,
        address: u64,
        offset: u64,
        bytes: u64,
    ) -> Result<(), Error> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut buffer = vec![0; bytes.min(PIECE_BYTES)];
        let mut done = 0;
        while done < bytes {
            let piece = &mut buffer[..(bytes - done).min(PIECE_BYTES)];
            module.image().mapping().read(offset + done as u64, piece);
            self.put_in_file(address + done as u64, piece)?;
            done += piece.len();
        }
        let pages = super::whole_pages(address, (bytes as u64).next_multiple_of(PAGE_BYTES))?;
        for page in pages {
            self.mark_present(page);
        }
        Ok(())
    }

    /// Fills the guest's seed with fresh random bytes, unless the snapshot has no memory there.
    pub(super) fn fill_entropy(&mut self) -> Result<(), Error> {
        let Some(span) = self.module.entropy() else {
            return Ok(());
        };
        if super::check_seed(&self.table, &span).is_err() {
            return Ok(());
        }
        let mut bytes = [0; PAGE_LENGTH];
        let length = usize::try_from(span.end - span.start).unwrap_or(0);
        let Some(seed) = bytes.get_mut(..length) else {
            return Ok(());
        };
        random::fill(seed).at(Stage::Memory, "getrandom")?;
        self.write(span.start, seed, As::Host)
    }
}
