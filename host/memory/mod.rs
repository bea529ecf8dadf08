//! Guest memory as the host runs it: a memory file, and what of it the guest may touch.
//!
//! | file | what |
//! |---|---|
//! | `table` | what the host knows of each page |
//! | `paging` | the worker's userfaultfd |
//! | `budget` | how much an instance and an engine may hold |
//! | `origin` | where contents are that nobody has touched yet |
//! | `access` | reading and writing, checked against what the guest itself may do |
//! | `change` | mapping and unmapping |
//! | `heap` | room that becomes memory as its end is moved |
//! | `protect` | what the guest may do with what is mapped |
//! | `fault` | what a fault of the guest's means |
//! | `renew` | back to an origin: reset and restore |
//! | `snapshot` | memory kept for later, in memory and in a file |
//! | `template` | contents that many instances share |
//! | `stats` | what it takes |
//! | `code` | code that the host writes while the worker waits |

mod access;
mod budget;
mod change;
mod code;
mod fault;
mod heap;
mod origin;
mod paging;
mod protect;
mod renew;
pub(crate) mod snapshot;
mod stats;
mod table;
pub(crate) mod template;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use linux_raw::fd::OwnedFd;
use linux_raw::memfd as raw;
use vmctx::{PAGE_BYTES, map};

pub(crate) use self::access::As;
pub use self::access::Word;
use self::budget::Budget;
pub(crate) use self::budget::EngineBudget;
use self::code::Code;
pub(crate) use self::fault::Verdict;
use self::origin::{Origin, Overlays};
use self::paging::Paging;
pub(crate) use self::paging::{NEEDED_FEATURES, offered};
pub use self::stats::MemoryStats;
pub(crate) use self::table::{Page, Table};
use crate::core::Core;
use crate::error::{Error, KernelResult as _, Misuse, RegionFault, Stage};
use crate::lineage::Lineage;
use crate::mapping::{Mapping, Sharing};
use crate::memfd;
use crate::module::Module;

/// A page's length, for arrays.
pub(crate) const PAGE_LENGTH: usize = 4096;
static_assertions::const_assert!(PAGE_LENGTH as u64 == PAGE_BYTES);

/// The contents of a page that the guest must not see for now.
type Hidden = Box<[u8; PAGE_LENGTH]>;

/// A sparse memfd whose file offsets are guest addresses, and the host's mapping of it.
pub(crate) struct MemoryFile {
    fd: OwnedFd,
    mapping: Mapping,
}

impl MemoryFile {
    pub(crate) fn new(lineage: &Arc<Lineage>) -> Result<Self, Error> {
        let (stage, bytes) = (Stage::Start, map::GUEST.end);
        let fd = memfd::writable(c"cellwall-memory", bytes, stage)?;
        let mapping = Mapping::new(&fd, bytes, Sharing::ReadWrite, stage, lineage)?;
        Ok(Self { fd, mapping })
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Gives all of it back to the machine: it is as new. No process has it mapped any more.
    pub(crate) fn empty(&self) -> Result<(), Error> {
        raw::punch_hole(&self.fd, 0, map::GUEST.end).at(Stage::Memory, "fallocate")
    }
}

/// An instance's memory.
///
/// The host touches its mapping only where a page is known to be in the file: elsewhere a read
/// would allocate, and a write could raise SIGBUS where it now gives an error.
pub(crate) struct Memory {
    module: Module,
    file: Arc<MemoryFile>,
    table: Table,
    /// Where the kernel lets us; otherwise the map is as the worker made it.
    paging: Option<Paging>,
    origin: Origin,
    overlays: Overlays,
    hidden: BTreeMap<u32, Hidden>,
    code: Option<Code>,
    budget: Budget,
    /// How many pages a reset keeps and fills anew, instead of giving them back.
    kept_pages: u64,
    /// How many pages are marked [`Page::PRESENT`].
    present: u64,
    /// Whether some of them may be gone: what the kernel has filled and nobody has written it drops
    /// again when memory is short, without swap and without a word.
    droppable: bool,
    /// The most bytes that the file had when we looked, before each time that some were given back.
    peak: u64,
    /// Where the heap ends now.
    heap_end: u64,
    /// Whether the map is another than the origin's.
    changed: bool,
    /// Whether a guest may have run since it was last as at the origin.
    touched: bool,
}

impl Memory {
    /// Takes nothing of what the engine allows any more. It is about to be dropped.
    pub(crate) fn release_budget(&mut self) {
        self.budget.give(self.budget.used());
    }

    /// Makes the memory of an instance of `module` of an empty file, with its initial contents; and
    /// the worker's end of the instance's own code, if it has any. A worker that the host pages for
    /// has nothing of it yet: [`begin_paging`](Self::begin_paging).
    pub(crate) fn new(
        core: &Core,
        module: &Module,
        file: &Arc<MemoryFile>,
    ) -> Result<(Self, Option<OwnedFd>), Error> {
        let stage = Stage::Start;
        let mut budget = Budget::new(&core.budget, core.config.memory_limit);
        budget
            .take(module.initial_bytes())
            .map_err(|misuse| Error::misuse(stage, misuse))?;
        let (code, code_end) = match module.code_window() {
            Some(span) => Code::new(span).map(|(code, end)| (Some(code), Some(end)))?,
            None => (None, None),
        };
        let mut memory = Self {
            origin: Origin::of_module(module),
            table: module.table().clone(),
            heap_end: module.heap().map_or(0, |heap| heap.start),
            module: module.clone(),
            file: Arc::clone(file),
            paging: None,
            overlays: Overlays::default(),
            hidden: BTreeMap::new(),
            code,
            budget,
            kept_pages: core
                .config
                .pool
                .as_ref()
                .map_or(renew::KEPT_PAGES, |pool| pool.idle_memory / PAGE_BYTES),
            present: 0,
            droppable: false,
            peak: 0,
            changed: false,
            touched: false,
        };
        memory.fill_eager_pages()?;
        memory.fill_entropy()?;
        memory.touched = false; // that was the host
        Ok((memory, code_end))
    }

    /// Takes over the page table of a worker that is locked down, by its userfaultfd: watches all
    /// that the kernel is not to fill by itself.
    pub(crate) fn begin_paging(&mut self, faults: OwnedFd) -> Result<(), Error> {
        let paging = Paging::new(faults)?;
        for run in self.table.runs_of(GUEST_PAGES, is_watched) {
            paging.watch(&run)?;
        }
        self.paging = Some(paging);
        Ok(())
    }

    /// Whether a guest may have run since it was last as at the origin.
    pub(crate) fn has_been_touched(&self) -> bool {
        self.touched
    }

    /// Code for the worker's window.
    pub(crate) fn write_code(&mut self, address: u64, code: &[u8]) -> Result<(), Error> {
        let length = code.len() as u64;
        let refuse = |misuse| Error::misuse(Stage::Memory, misuse);
        let Some(window) = &mut self.code else {
            return Err(refuse(Misuse::OutsideCodeWindow { address, length }));
        };
        let growth = window.growth(address, length)?;
        self.budget.take(growth).map_err(refuse)?;
        window.write(address, code).inspect_err(|_| {
            self.budget.give(growth);
        })
    }

    /// How much the instance's own code holds.
    fn code_bytes(&self) -> u64 {
        self.code.as_ref().map_or(0, Code::bytes)
    }

    /// The host's mapping of the file.
    fn mapping(&self) -> &Mapping {
        &self.file.mapping
    }

    fn paging(&self) -> Result<&Paging, Error> {
        self.paging
            .as_ref()
            .ok_or_else(|| Error::misuse(Stage::Memory, Misuse::FixedMap))
    }

    /// Says that a guest is about to run.
    pub(crate) fn is_touched_from_here(&mut self) {
        self.touched = true;
    }
}

/// The pages that a guest may have.
#[expect(clippy::cast_possible_truncation, reason = "page numbers below 2^20")]
const GUEST_PAGES: Range<u32> =
    (map::GUEST.start / PAGE_BYTES) as u32..(map::GUEST.end / PAGE_BYTES) as u32;

/// What the kernel does not do by itself: all but what is mapped for good or natively.
fn is_watched(page: Page) -> bool {
    !page.intersects(Page::FIXED | Page::NATIVE)
}

/// How many bytes a map holds.
pub(crate) fn held_bytes(table: &Table) -> u64 {
    table.count(GUEST_PAGES, change::is_held) * PAGE_BYTES
}

/// Whether there can be a seed: within one page of the instance's own memory.
pub(crate) fn check_seed(table: &Table, seed: &map::Span) -> Result<(), Misuse> {
    let length = seed.end.saturating_sub(seed.start);
    let page = page_of(seed.start).filter(|page| {
        let room = address_of(*page) + PAGE_BYTES - seed.start;
        (1..=room).contains(&length) && change::is_held(table.get(*page))
    });
    let address = seed.start;
    page.map(drop).ok_or(Misuse::Entropy { address, length })
}

/// The address of a page.
fn address_of(page: u32) -> u64 {
    u64::from(page) * PAGE_BYTES
}

/// How many bytes pages have.
fn bytes_of(pages: &Range<u32>) -> u64 {
    u64::from(pages.end.saturating_sub(pages.start)) * PAGE_BYTES
}

/// The page of an address, if it is a guest's.
fn page_of(address: u64) -> Option<u32> {
    let page = u32::try_from(address / PAGE_BYTES).ok()?;
    GUEST_PAGES.contains(&page).then_some(page)
}

/// Whole pages inside the guest's addresses, for a change of the map.
fn whole_pages(address: u64, length: u64) -> Result<Range<u32>, Error> {
    let end = address.saturating_add(length);
    let refuse = |fault| {
        let start = address;
        Err(Error::misuse(
            Stage::Memory,
            Misuse::Region { start, end, fault },
        ))
    };
    if length == 0 {
        return refuse(RegionFault::Empty);
    }
    if !address.is_multiple_of(PAGE_BYTES) || !length.is_multiple_of(PAGE_BYTES) {
        return refuse(RegionFault::Unaligned);
    }
    if address.checked_add(length).is_none() {
        return refuse(RegionFault::Wraps);
    }
    if !map::holds(&map::GUEST, &(address..end)) {
        return refuse(RegionFault::Outside);
    }
    // Both are inside the guest's addresses now, which have few enough pages.
    let page = |at: u64| u32::try_from(at / PAGE_BYTES).unwrap_or(GUEST_PAGES.end);
    Ok(page(address)..page(end))
}
