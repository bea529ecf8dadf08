//! Guest memory kept for later.

mod file;

use std::fmt;
use std::io::{Read, Write};
use std::ops::Range;
use std::sync::Arc;

use linux_raw::fd::OwnedFd;
use vmctx::PAGE_BYTES;

pub use self::file::SnapshotError;
use super::change::is_held;
use super::origin::Place;
use super::table::{Page, Table};
use super::{GUEST_PAGES, Memory, PAGE_LENGTH, address_of};
use crate::engine::Engine;
use crate::error::{Error, Stage};
use crate::lineage::Lineage;
use crate::mapping::{Mapping, Sharing};
use crate::memfd;
use crate::module::Module;

/// From how many zero pages in a row on the kernel fills them in a restored instance.
const NATIVE_RUN: u32 = 512;

/// The memory of an instance as it was: map and contents. Cheap to clone; any number of instances
/// of its module can be restored to it, and share each page until they touch it.
///
/// ```
/// use cellwall::{Config, Engine, Module, Protection};
///
/// let engine = Engine::new(&Config::default())?;
/// let module = Module::builder()
///     .code(&[0xc3])
///     .stack(0x10_0000, 0x1_0000)
///     .zeroed(0x20_0000, 0x1000, Protection::ReadWrite)
///     .build(&engine)?;
/// let mut warm = engine.instantiate(&module)?;
/// warm.write(0x20_0000, b"warmed up")?;
/// let snapshot = warm.snapshot()?;
/// let mut another = engine.instantiate(&module)?;
/// another.restore(&snapshot)?;
/// assert_eq!(another.read(0x20_0000, 6)?, b"warmed");
/// # Ok::<(), cellwall::Error>(())
/// ```
#[derive(Clone)]
pub struct Snapshot {
    inner: Arc<Inner>,
}

struct Inner {
    module: Module,
    table: Table,
    heap_end: u64,
    /// The pages that are not zero, one after the other; nothing if there are none.
    contents: Option<Mapping>,
    runs: Vec<Run>,
}

/// Neighbouring pages that are not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    pages: Range<u32>,
    /// Which page of the contents comes first.
    first: u32,
}

impl Snapshot {
    /// Reads a snapshot that [`save`](Self::save) has written, to the end of `from`. It must be of
    /// this very module. Nothing in it is trusted.
    ///
    /// # Errors
    ///
    /// [`Misuse::Snapshot`](crate::Misuse::Snapshot) with the reason: no snapshot, of another
    /// version, of another module, damaged, cut short, or more after its end;
    /// [`Misuse::MemoryLimit`](crate::Misuse::MemoryLimit) and
    /// [`Misuse::Forked`](crate::Misuse::Forked); the kernel's error where it refuses the memory.
    pub fn load(engine: &Engine, module: &Module, from: impl Read) -> Result<Self, Error> {
        file::load(engine, module, from)
    }

    /// Writes the snapshot: map, contents, the module's digest, a checksum.
    ///
    /// # Errors
    ///
    /// Those of `into`.
    pub fn save(&self, into: impl Write) -> std::io::Result<()> {
        file::save(self, into)
    }

    /// How many bytes of contents it keeps: pages that are not zero.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let pages = |run: &Run| u64::from(run.pages.end - run.pages.start);
        self.inner.runs.iter().map(pages).sum::<u64>() * PAGE_BYTES
    }

    /// The module whose instances can be restored to it.
    #[must_use]
    pub fn module(&self) -> &Module {
        &self.inner.module
    }

    pub(super) fn table(&self) -> &Table {
        &self.inner.table
    }

    pub(super) fn heap_end(&self) -> u64 {
        self.inner.heap_end
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Whether its map is the one that the module begins with.
    pub(super) fn has_map_of(&self, module: &Module) -> bool {
        let rights = Page::READ | Page::WRITE | Page::EXECUTE | Page::FIXED | Page::HIDDEN;
        let same = |pages: Range<u32>, flags: Page| {
            let own = &self.inner.table;
            own.all(pages, |page| page & rights == flags & rights)
        };
        module
            .table()
            .runs(GUEST_PAGES)
            .all(|(pages, flags)| same(pages, flags))
    }

    /// Where a page is; nothing for one of zeros.
    pub(super) fn page(&self, page: u32) -> Option<Place<'_>> {
        let runs = &self.inner.runs;
        let after = runs.partition_point(|run| run.pages.start <= page);
        let run = runs.get(after.checked_sub(1)?)?;
        if page >= run.pages.end {
            return None;
        }
        let number = run.first + (page - run.pages.start);
        let offset = u64::from(number) * PAGE_BYTES;
        self.inner
            .contents
            .as_ref()
            .map(|mapping| (mapping, offset))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Snapshot")
            .field("module", &self.inner.module)
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

impl Memory {
    /// Keeps the memory as it is now.
    pub(crate) fn snapshot(&mut self) -> Result<Snapshot, Error> {
        self.discover(&GUEST_PAGES)?;
        let rights = Page::READ | Page::WRITE | Page::EXECUTE | Page::FIXED;
        let kept = rights | Page::GUARD | Page::HIDDEN;
        let mut table = self.table.clone();
        table.update(GUEST_PAGES, |page| page & kept);
        let has_contents = |page: Page| {
            let somewhere = Page::PRESENT | Page::LAZY | Page::HIDDEN;
            is_held(page) && page.intersects(somewhere)
        };
        let most = self.table.count(GUEST_PAGES, has_contents);
        let mut collected = Collected::new(most)?;
        let mut buffer = [0; PAGE_LENGTH];
        for page in self.table.runs_of(GUEST_PAGES, has_contents).flatten() {
            if self.contents_of(page, &mut buffer) && buffer.iter().any(|byte| *byte != 0) {
                collected.push(page, &buffer)?;
            }
        }
        let snapshot = collected.finish(&self.module, table, self.heap_end)?;
        Ok(snapshot)
    }

    /// What is in a page, and whether it is known to be anything but zeros.
    fn contents_of(&self, page: u32, into: &mut [u8; PAGE_LENGTH]) -> bool {
        let flags = self.table.get(page);
        if let Some(kept) = self.hidden.get(&page) {
            into.copy_from_slice(kept.as_slice());
        } else if flags.contains(Page::PRESENT) {
            self.mapping().read(address_of(page), into);
        } else if flags.contains(Page::LAZY)
            && let Some((mapping, offset)) =
                self.overlays.page(page).or_else(|| self.origin.page(page))
        {
            mapping.read(offset, into);
        } else {
            return false;
        }
        true
    }
}

/// Pages on their way into a snapshot, in ascending order.
struct Collected {
    file: OwnedFd,
    pages: u32,
    runs: Vec<Run>,
}

impl Collected {
    /// For so many pages at the most.
    fn new(pages: u64) -> Result<Self, Error> {
        let most = pages * PAGE_BYTES;
        Ok(Self {
            file: memfd::growing(c"cellwall-snapshot", most, Stage::Memory)?,
            pages: 0,
            runs: Vec::new(),
        })
    }

    fn push(&mut self, page: u32, contents: &[u8]) -> Result<(), Error> {
        let offset = u64::from(self.pages) * PAGE_BYTES;
        memfd::write_all(&self.file, contents, offset, Stage::Memory)?;
        match self.runs.last_mut() {
            Some(run) if run.pages.end == page => run.pages.end += 1,
            _ => self.runs.push(Run {
                pages: page..page + 1,
                first: self.pages,
            }),
        }
        self.pages += 1;
        Ok(())
    }

    /// Seals the contents. In `table` are rights alone: who fills a page is decided here.
    fn finish(self, module: &Module, mut table: Table, heap_end: u64) -> Result<Snapshot, Error> {
        for run in &self.runs {
            table.update(run.pages.clone(), |page| page | Page::LAZY);
        }
        let both = Page::READ | Page::WRITE;
        let zeros: Vec<_> = table.runs_of(GUEST_PAGES, |page| page == both).collect();
        for run in zeros {
            if run.end - run.start >= NATIVE_RUN || !module.is_paged() {
                table.update(run, |page| page | Page::NATIVE);
            }
        }
        let lineage: &Arc<Lineage> = module.lineage();
        let contents = match u64::from(self.pages) * PAGE_BYTES {
            0 => None,
            bytes => {
                let fd = memfd::freeze(&self.file, Stage::Memory)?;
                let sharing = Sharing::ReadOnly;
                Some(Mapping::new(&fd, bytes, sharing, Stage::Memory, lineage)?)
            }
        };
        Ok(Snapshot {
            inner: Arc::new(Inner {
                module: module.clone(),
                table,
                heap_end,
                contents,
                runs: self.runs,
            }),
        })
    }
}
