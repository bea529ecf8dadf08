#![expect(unsafe_code, reason = "the only door to the shared words")]
//! The shared pages: made here, mapped here, and read nowhere else.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use linux_raw::fd::OwnedFd;
use linux_raw::io;
use vmctx::map::{self, SHARED_BYTES, shared_offset};
use vmctx::{Alleged, GuestPage, HOSTCALL_ARGS, HostPage, Options, PAGE_BYTES, TurnLine, VERSION};

use crate::error::{Error, KernelResult as _, Stage};
use crate::interrupt::Hostcall;
use crate::lineage::Lineage;
use crate::mapping::{Mapping, Sharing};
use crate::memfd;
use crate::module::Module;
use crate::wishes::Wishes;

use super::wait::Patience;

/// The pages of one worker or of many, one after the other.
pub(crate) struct Slab {
    host: Mapping,
    /// What [`vmctx::map::SHARED`] is.
    shared: Mapping,
    /// The file of it, which tells how much of it has been touched.
    shared_fd: OwnedFd,
}

/// The descriptors that workers map the pages from.
pub(crate) struct WorkerEnds {
    /// Opened read-only: it cannot be mapped writable.
    pub(crate) host_page: OwnedFd,
    pub(crate) shared_pages: OwnedFd,
}

impl Slab {
    /// For so many workers. Nothing of it takes memory before it is touched.
    pub(crate) fn new(
        lineage: &Arc<Lineage>,
        places: u32,
        stage: Stage,
    ) -> Result<(Arc<Self>, WorkerEnds), Error> {
        let bytes = u64::from(places) * PAGE_BYTES;
        let shared_bytes = u64::from(places) * SHARED_BYTES;
        let host_fd = memfd::unsealed(c"cellwall-host-page", bytes, stage)?;
        let shared_fd = memfd::writable(c"cellwall-shared-pages", shared_bytes, stage)?;
        let map = |fd, bytes| Mapping::new(fd, bytes, Sharing::ReadWrite, stage, lineage);
        let host = map(&host_fd, bytes)?;
        memfd::leave_to_mappings(&host_fd, stage)?;
        let shared = map(&shared_fd, shared_bytes)?;
        let ends = WorkerEnds {
            host_page: memfd::read_only(&host_fd, stage)?,
            shared_pages: memfd::another(&shared_fd, stage)?,
        };
        let slab = Self {
            host,
            shared,
            shared_fd,
        };
        Ok((Arc::new(slab), ends))
    }

    /// The pages of one worker. The place must be within what the slab was made for.
    pub(crate) fn pages(self: &Arc<Self>, place: u32) -> Pages {
        let shared = u64::from(place) * SHARED_BYTES;
        let host = u64::from(place) * PAGE_BYTES;
        assert!(
            host < self.host.bytes(),
            "the slab has no place number {place}"
        );
        let at = |mapping: &Mapping, offset: u64| {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            // SAFETY: the place is within the slab, as has just been asserted.
            unsafe { mapping.start().add(offset) }
        };
        let shared_at = |address| at(&self.shared, shared + shared_offset(address));
        Pages {
            line: shared_at(map::TURN_PAGE.start).cast(),
            guest: shared_at(map::GUEST_PAGE.start).cast(),
            host_page: at(&self.host, host).cast(),
            slab: Arc::clone(self),
            host,
            shared,
        }
    }
}

/// The host's view of one worker's pages.
pub(crate) struct Pages {
    // The three pages, mapped as long as the slab is.
    line: NonNull<TurnLine>,
    guest: NonNull<GuestPage>,
    host_page: NonNull<HostPage>,
    slab: Arc<Slab>,
    /// Where they begin in each mapping.
    host: u64,
    shared: u64,
}

// SAFETY: all words behind the pointers are atomics, in a mapping that any thread may use.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// Tells a process how to lock down, which it reads once.
    pub(crate) fn describe_wall(&self, wishes: &Wishes) {
        let page = self.host_page();
        wishes.write(page);
        page.version.store(VERSION, Relaxed);
    }

    /// Tells the worker what to map, too, and how long to spin, which it reads at every wait.
    pub(crate) fn describe(&self, module: &Module, wishes: &Wishes, spin: u32, yields: u32) {
        self.describe_wall(wishes);
        let page = self.host_page();
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
    }

    /// Wipes all that a worker can write here but the state word: what a guest has left in its
    /// report, on the worker's stacks, and in the rest of each page. Only while the turn is ours:
    /// then the worker reads nothing of it but an order to enter, and writes nothing.
    pub(crate) fn wipe(&self) -> Result<(), Error> {
        self.set_args(&[0; HOSTCALL_ARGS]);
        self.set_value(0);
        self.line().number.store(0, Relaxed);
        let turn = shared_offset(map::TURN_PAGE.start);
        let line = turn + size_of::<TurnLine>() as u64;
        self.zero_shared(line..SHARED_BYTES);
        self.wipe_touched(0..turn)
    }

    /// Makes the pages as new. No process has them mapped any more.
    pub(crate) fn renew(&self) -> Result<(), Error> {
        self.slab.host.zero(self.host, PAGE_BYTES);
        self.forget_worker()
    }

    /// Wipes all that a worker has written while it locked itself down: another one takes its
    /// place, and is described already. The first is dead.
    pub(crate) fn forget_worker(&self) -> Result<(), Error> {
        self.wipe_touched(0..SHARED_BYTES)
    }

    /// Wipes what has been touched of a part of the shared pages: what is in the file.
    fn wipe_touched(&self, part: std::ops::Range<u64>) -> Result<(), Error> {
        let stage = Stage::Memory;
        let file = &self.slab.shared_fd;
        let (mut at, end) = (self.shared + part.start, self.shared + part.end);
        while let Some(data) = io::seek_data(file, at).at(stage, "lseek")?
            && data < end
        {
            at = io::seek_hole(file, data).at(stage, "lseek")?.min(end);
            self.slab.shared.zero(data, at - data);
        }
        Ok(())
    }

    fn zero_shared(&self, part: std::ops::Range<u64>) {
        let length = part.end - part.start;
        self.slab.shared.zero(self.shared + part.start, length);
    }

    /// How long the worker is to spin for an order from now on, in rounds, and how often to yield.
    pub(super) fn set_patience(&self, patience: Patience) {
        let page = self.host_page();
        page.spin_iterations
            .store(patience.spin_iterations, Relaxed);
        page.spin_yields.store(patience.yields, Relaxed);
    }

    /// What the guest may still use up, as it says itself.
    pub(super) fn gas(&self) -> i64 {
        Alleged::new(self.guest().gas.left.load(Relaxed))
            .opaque()
            .cast_signed()
    }

    pub(super) fn set_gas(&self, gas: i64) {
        self.guest().gas.left.store(gas.cast_unsigned(), Relaxed);
    }

    /// What wakes a host that waits for this worker, from another thread.
    pub(super) fn doorbell(&self) -> Doorbell {
        Doorbell {
            line: self.line,
            _slab: Arc::clone(&self.slab),
        }
    }

    /// Asks the worker for one more thing, before it starts.
    pub(crate) fn ask_for(&self, option: Options) {
        self.host_page().options.fetch_or(option.bits(), Relaxed);
    }

    #[inline]
    pub(super) fn state(&self) -> &AtomicU32 {
        &self.line().state
    }

    /// Says whether frames of signals may be wiped from now on.
    pub(super) fn set_evicted(&self, evicted: bool) {
        // Relaxed: the signal, or the exchange of the state, comes after it.
        self.host_page().evicted.store(evicted.into(), Relaxed);
    }

    pub(super) fn set_entry(&self, entry: u64, stack: u64) {
        self.host_page().entry.store(entry, Relaxed);
        self.host_page().stack.store(stack, Relaxed);
    }

    #[inline]
    pub(super) fn set_args(&self, args: &[u64; HOSTCALL_ARGS]) {
        for (word, arg) in self.line().args.iter().zip(args) {
            word.store(*arg, Relaxed);
        }
    }

    #[inline]
    pub(super) fn set_value(&self, value: u64) {
        self.line().value.store(value, Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        Alleged::new(self.line().value.load(Relaxed)).opaque()
    }

    /// Each word is read once; what it means is for the embedder to judge.
    #[inline]
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
    #[inline]
    pub(crate) fn guest(&self) -> &GuestPage {
        // SAFETY: the page is mapped while `self` lives. All words of a guest page are atomics,
        // for which any bits are a value.
        unsafe { self.guest.as_ref() }
    }

    #[inline]
    fn line(&self) -> &TurnLine {
        // SAFETY: the page is mapped while `self` lives. All words of a turn line are atomics, for
        // which any bits are a value.
        unsafe { self.line.as_ref() }
    }

    #[inline]
    fn host_page(&self) -> &HostPage {
        // SAFETY: the page is mapped while `self` lives. All its words are atomics.
        unsafe { self.host_page.as_ref() }
    }
}

/// The state word alone, for as long as somebody may want to wake who waits for it. It must not be
/// touched in a forked child, which does not have it.
pub(crate) struct Doorbell {
    line: NonNull<TurnLine>,
    /// What keeps it mapped.
    _slab: Arc<Slab>,
}

// SAFETY: all words behind the pointer are atomics, in a mapping that any thread may use.
unsafe impl Send for Doorbell {}
// SAFETY: as above.
unsafe impl Sync for Doorbell {}

impl Doorbell {
    #[inline]
    pub(super) fn state(&self) -> &AtomicU32 {
        // SAFETY: the line is mapped while `self` lives. All its words are atomics.
        let line = unsafe { self.line.as_ref() };
        &line.state
    }
}
