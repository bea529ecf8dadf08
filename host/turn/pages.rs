#![expect(unsafe_code, reason = "the only door to the shared words")]
//! The shared pages: made here, mapped here, and read nowhere else.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use linux_raw::fd::OwnedFd;
use linux_raw::io;
use vmctx::map::SHARED_BYTES;
use vmctx::{
    Alleged, GuestPage, HOSTCALL_ARGS, HostPage, Options, PAGE_BYTES, TurnLine, TurnPage, VERSION,
};

use crate::error::{Error, KernelResult as _, Stage};
use crate::interrupt::Hostcall;
use crate::lineage::Lineage;
use crate::mapping::{Mapping, Sharing};
use crate::memfd;
use crate::module::Module;
use crate::wishes::Wishes;

/// The host's mappings of the three pages.
pub(crate) struct Pages {
    host: Mapping,
    /// What [`vmctx::map::SHARED`] lists: the turn page first, then the guest page.
    shared: Mapping,
    /// The file of it, which tells how much of it has been touched.
    shared_fd: OwnedFd,
}

/// The descriptors that a worker maps the pages from.
pub(crate) struct WorkerEnds {
    /// Opened read-only: it cannot be mapped writable.
    pub(crate) host_page: OwnedFd,
    pub(crate) shared_pages: OwnedFd,
}

impl Pages {
    pub(crate) fn new(lineage: &Arc<Lineage>) -> Result<(Self, WorkerEnds), Error> {
        let host_fd = memfd::unsealed(c"cellwall-host-page", PAGE_BYTES, Stage::Start)?;
        let shared_fd = memfd::writable(c"cellwall-shared-pages", SHARED_BYTES, Stage::Start)?;
        let map = |fd, bytes| Mapping::new(fd, bytes, Sharing::ReadWrite, Stage::Start, lineage);
        let host = map(&host_fd, PAGE_BYTES)?;
        memfd::leave_to_mappings(&host_fd, Stage::Start)?;
        let shared = map(&shared_fd, SHARED_BYTES)?;
        let host_page = memfd::read_only(&host_fd, Stage::Start)?;
        Ok((
            Self {
                host,
                shared_fd: memfd::another(&shared_fd, Stage::Start)?,
                shared,
            },
            WorkerEnds {
                host_page,
                shared_pages: shared_fd,
            },
        ))
    }

    /// Tells the worker what to map and how to lock down, which it reads once, and how long to
    /// spin, which it reads at every wait.
    pub(crate) fn describe(&self, module: &Module, wishes: &Wishes, spin: u32, yields: u32) {
        let page = self.host_page();
        wishes.write(page);
        for (word, region) in page.regions.iter().zip(module.worker_regions()) {
            word.address.store(region.span.start, Relaxed);
            word.length
                .store(region.span.end - region.span.start, Relaxed);
            word.offset.store(region.worker_offset(), Relaxed);
            word.flags.store(region.worker_flags().bits(), Relaxed);
        }
        // A module has at most `REGIONS_MAX` regions, which fits.
        let count = u32::try_from(module.worker_regions().count()).unwrap_or(0);
        page.region_count.store(count, Relaxed);
        page.spin_iterations.store(spin, Relaxed);
        page.spin_yields.store(yields, Relaxed);
        page.version.store(VERSION, Relaxed);
    }

    /// Wipes all that a worker can write here but the state word: what a guest has left in its
    /// report, on the worker's stacks, and in the rest of each page. Only while the turn is ours:
    /// then the worker reads nothing of it but an order to enter, and writes nothing.
    pub(crate) fn wipe(&self) -> Result<(), Error> {
        let stage = Stage::Memory;
        self.set_args(&[0; HOSTCALL_ARGS]);
        self.set_value(0);
        self.line().number.store(0, Relaxed);
        let line = size_of::<TurnLine>() as u64;
        self.shared.zero(line, 2 * PAGE_BYTES - line);
        // Of the stacks, what has been touched is what is in the file.
        let mut at = 2 * PAGE_BYTES;
        while let Some(data) = io::seek_data(&self.shared_fd, at).at(stage, "lseek")? {
            at = io::seek_hole(&self.shared_fd, data).at(stage, "lseek")?;
            self.shared.zero(data, at - data);
        }
        Ok(())
    }

    /// Asks the worker for one more thing, before it starts.
    pub(crate) fn ask_for(&self, option: Options) {
        self.host_page().options.fetch_or(option.bits(), Relaxed);
    }

    pub(super) fn state(&self) -> &AtomicU32 {
        &self.line().state
    }

    pub(super) fn set_entry(&self, entry: u64, stack: u64) {
        self.host_page().entry.store(entry, Relaxed);
        self.host_page().stack.store(stack, Relaxed);
    }

    pub(super) fn set_args(&self, args: &[u64; HOSTCALL_ARGS]) {
        for (word, arg) in self.line().args.iter().zip(args) {
            word.store(*arg, Relaxed);
        }
    }

    pub(super) fn set_value(&self, value: u64) {
        self.line().value.store(value, Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        Alleged::new(self.line().value.load(Relaxed)).opaque()
    }

    /// Each word is read once; what it means is for the embedder to judge.
    pub(super) fn hostcall(&self) -> Hostcall {
        let line = self.line();
        let number = Alleged::new(line.number.load(Relaxed)).opaque();
        let mut args = [0; HOSTCALL_ARGS];
        for (arg, word) in args.iter_mut().zip(&line.args) {
            *arg = Alleged::new(word.load(Relaxed)).opaque();
        }
        Hostcall { number, args }
    }

    /// Where the worker reports.
    pub(crate) fn guest(&self) -> &GuestPage {
        // SAFETY: the mapping is more than two pages long, so that the second is within it.
        let page = unsafe { self.shared.start().add(size_of::<TurnPage>()) };
        // SAFETY: the page is mapped while `self` lives. All words of a guest page are atomics,
        // for which any bits are a value.
        unsafe { page.cast::<GuestPage>().as_ref() }
    }

    fn line(&self) -> &TurnLine {
        // SAFETY: the mapping is pages that are mapped while `self` lives, and the first is a turn
        // page: all its words are atomics, for which any bits are a value.
        let page = unsafe { self.shared.start().cast::<TurnPage>().as_ref() };
        &page.line
    }

    fn host_page(&self) -> &HostPage {
        // SAFETY: the mapping is one page, mapped while `self` lives. All its words are atomics.
        unsafe { self.host.start().cast::<HostPage>().as_ref() }
    }
}
