//! A snapshot as a file. Numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `cellsnap` |
//! | 4 | version of the format: 1 |
//! | 4 | bytes of a page: 4096 |
//! | 32 | digest of the module |
//! | 8 | where the heap ends, 0 for a module without one |
//! | 4 | how many runs of the map follow |
//! | 4 | how many runs of contents follow those |
//! | 4 | how many pages follow those |
//! | 12 each | pages of the map that are alike: the first, how many, flags (2), zero (2) |
//! | 8 each | neighbouring pages with contents: the first, how many |
//! | 4096 each | those pages |
//! | 32 | SHA-256 of all before |
//!
//! A page in no run of the map is absent, one in no run of contents is zero. Runs ascend, and are
//! as long as they can be: a snapshot has one file.
//!
//! The checksum tells of accidents, not of attackers: whoever writes a file can make it right. So
//! all that a file says is judged by itself, before anything of that size is kept, and what it
//! comes to is a map that an instance of the module could have made.

#[cfg(test)]
mod tests;

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::ops::Range;

use sha2::{Digest as _, Sha256};
use static_assertions::const_assert;
use vmctx::PAGE_BYTES;

use super::{Collected, GUEST_PAGES, Page, Snapshot, Table, is_held};
use crate::engine::Engine;
use crate::error::{Error, Misuse, Stage};
use crate::mapping::MappedPage;
use crate::memory::held_bytes;
use crate::module::Module;

const MAGIC: [u8; 8] = *b"cellsnap";

/// The one version of the format that is read and written.
const VERSION: u32 = 1;

/// How many bytes a page has in a file.
const FILE_PAGE_BYTES: u32 = 4096;
const_assert!(FILE_PAGE_BYTES as u64 == PAGE_BYTES);

/// How many bytes are read or written at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// What the map of a file says of a page. Who fills it is decided when it is loaded.
const FLAGS: Page = Page::READ
    .union(Page::WRITE)
    .union(Page::EXECUTE)
    .union(Page::FIXED)
    .union(Page::GUARD)
    .union(Page::HIDDEN);

/// What a page of the instance's own can be.
const OWN: [Page; 4] = [
    Page::READ,
    Page::READ.union(Page::WRITE),
    Page::HIDDEN,
    Page::GUARD,
];

/// Why a file is no snapshot that can be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It does not begin as one.
    #[error("the file does not begin as a snapshot does")]
    NotASnapshot,
    /// Another version of the format.
    #[error("version {found} of the format; only version {known} is known")]
    Version {
        /// The file's.
        found: u32,
        /// The one that can be read.
        known: u32,
    },
    /// A snapshot of an instance of another module.
    #[error("it is of another module: code, data or memory map differ")]
    OtherModule,
    /// It is not what was saved.
    #[error("it is damaged: its checksum is of other bytes")]
    Damaged,
    /// It ends too early.
    #[error("it is cut short")]
    Truncated,
    /// It goes on after its end.
    #[error("bytes follow its end")]
    TrailingBytes,
    /// It describes memory that no instance of the module can have.
    #[error("it contradicts itself or the module: {0}")]
    Inconsistent(&'static str),
    /// It could not be read: what the reader said.
    #[error("it could not be read: {0}")]
    Read(String),
}

use SnapshotError::Inconsistent;

/// Writes a snapshot, and flushes `into`.
pub(super) fn save(snapshot: &Snapshot, into: impl Write) -> io::Result<()> {
    let (module, inner) = (snapshot.module(), &snapshot.inner);
    if !module.is_ours() {
        // A forked child has the handle, but not the contents.
        return Err(io::Error::other(Error::misuse(
            Stage::Memory,
            Misuse::Forked,
        )));
    }
    let mut table = inner.table.clone();
    table.update(GUEST_PAGES, |page| page & FLAGS);
    let runs = || table.runs(GUEST_PAGES).filter(|(_, page)| !page.is_empty());
    let pages = inner
        .runs
        .iter()
        .map(|run| run.pages.end - run.pages.start)
        .sum();

    let mut out = Hashed::new(BufWriter::with_capacity(BUFFER_BYTES, into));
    out.put(&MAGIC)?;
    out.put(&VERSION.to_le_bytes())?;
    out.put(&FILE_PAGE_BYTES.to_le_bytes())?;
    out.put(module.digest())?;
    out.put(&inner.heap_end.to_le_bytes())?;
    for number in [count(runs()), count(inner.runs.iter()), pages] {
        out.put(&number.to_le_bytes())?;
    }
    for (run, flags) in runs() {
        out.put_run(&run)?;
        out.put(&flags.bits().to_le_bytes())?;
        out.put(&[0; 2])?;
    }
    for run in &inner.runs {
        out.put_run(&run.pages)?;
    }
    if let Some(contents) = &inner.contents {
        let mut page = [0; MappedPage::BYTES];
        for number in 0..pages {
            contents.read(u64::from(number) * PAGE_BYTES, &mut page);
            out.put(&page)?;
        }
    }
    let checksum = out.checksum();
    out.put(&checksum)?;
    out.inner.flush()
}

/// How many runs there are: never more than a guest has pages.
fn count(runs: impl Iterator) -> u32 {
    runs.map(|_| 1).sum()
}

/// Reads a snapshot of an instance of `module`, up to the end of `from`.
pub(super) fn load(engine: &Engine, module: &Module, from: impl Read) -> Result<Snapshot, Error> {
    if !engine.lineage().is_ours() || !module.is_ours() {
        return Err(Error::misuse(Stage::Memory, Misuse::Forked));
    }
    let mut from = Hashed::new(BufReader::with_capacity(BUFFER_BYTES, from));
    let header = Header::read(&mut from, module).map_err(refuse)?;
    let table = read_table(&mut from, header.table_runs, module).map_err(refuse)?;
    let (bytes, limit) = (held_bytes(&table), engine.config().memory_limit);
    if bytes > limit {
        return Err(refuse(Misuse::MemoryLimit { bytes, limit }));
    }
    // No more pages come than are held, so the limit is also one on what is kept of them.
    let runs = read_contents(&mut from, &header, &table).map_err(refuse)?;
    let mut collected = Collected::new(header.pages.into())?;
    let mut contents = [0; MappedPage::BYTES];
    for page in runs.into_iter().flatten() {
        from.fill(&mut contents).map_err(refuse)?;
        collected.push(page, &contents)?;
    }
    check_end(&mut from).map_err(refuse)?;
    collected.finish(module, table, header.heap_end)
}

fn refuse(reason: impl Into<Misuse>) -> Error {
    Error::misuse(Stage::Memory, reason)
}

/// What comes first, as far as it is not the same in every file of a module.
struct Header {
    heap_end: u64,
    table_runs: u32,
    content_runs: u32,
    pages: u32,
}

impl Header {
    fn read(from: &mut Hashed<impl Read>, module: &Module) -> Result<Self, SnapshotError> {
        if from.array()? != MAGIC {
            return Err(SnapshotError::NotASnapshot);
        }
        let (found, known) = (from.number()?, VERSION);
        if found != known {
            return Err(SnapshotError::Version { found, known });
        }
        if from.number()? != FILE_PAGE_BYTES {
            return Err(Inconsistent("its pages are not of 4096 bytes"));
        }
        if from.array()? != *module.digest() {
            return Err(SnapshotError::OtherModule);
        }
        let header = Self {
            heap_end: from.array().map(u64::from_le_bytes)?,
            table_runs: from.number()?,
            content_runs: from.number()?,
            pages: from.number()?,
        };
        let most = GUEST_PAGES.end - GUEST_PAGES.start;
        if header.table_runs > most || header.content_runs > header.pages || header.pages > most {
            return Err(Inconsistent("it announces more than a guest has pages"));
        }
        let is_heap_end = match module.heap() {
            Some(heap) => (heap.start..=heap.end).contains(&header.heap_end),
            None => header.heap_end == 0,
        };
        if !is_heap_end {
            return Err(Inconsistent("the heap ends where the module's cannot"));
        }
        Ok(header)
    }
}

/// The map: any that the host could have made of the module's.
fn read_table(
    from: &mut Hashed<impl Read>,
    runs: u32,
    module: &Module,
) -> Result<Table, SnapshotError> {
    let is_fixed = |page: Page| page.contains(Page::FIXED);
    let modules = module.table();
    let mut table = Table::new();
    let mut end = GUEST_PAGES.start;
    for _ in 0..runs {
        let run = from.run(end)?;
        let flags = Page::from_bits_retain(from.array().map(u16::from_le_bytes)?);
        if from.array()? != [0; 2] {
            return Err(Inconsistent("bytes are not zero that mean nothing"));
        }
        let is_legal = if is_fixed(flags) {
            modules.all(run.clone(), |page| page == flags)
        } else {
            OWN.contains(&flags)
        };
        if !is_legal {
            return Err(Inconsistent("pages have flags that they cannot have"));
        }
        // The first run does not begin before a guest's pages, where nothing is.
        if run.start == end && table.get(run.start - 1) == flags {
            return Err(Inconsistent("two runs of the map are one"));
        }
        end = run.end;
        table.set(run, flags);
    }
    let mut fixed = modules.runs_of(GUEST_PAGES, is_fixed);
    if !fixed.all(|run| table.all(run, is_fixed)) {
        return Err(Inconsistent(
            "code or constants of the module's are missing",
        ));
    }
    Ok(table)
}

/// Which pages have contents: pages that are held.
fn read_contents(
    from: &mut Hashed<impl Read>,
    header: &Header,
    table: &Table,
) -> Result<Vec<Range<u32>>, SnapshotError> {
    let mut runs: Vec<Range<u32>> = Vec::new(); // it grows with what has been read
    let mut pages = 0;
    for _ in 0..header.content_runs {
        let end = runs.last().map(|run| run.end);
        let run = from.run(end.unwrap_or(GUEST_PAGES.start))?;
        if end == Some(run.start) {
            return Err(Inconsistent("two runs of contents are one"));
        }
        if !table.all(run.clone(), is_held) {
            return Err(Inconsistent("there are contents for pages that have none"));
        }
        pages += run.end - run.start;
        runs.push(run);
    }
    if pages != header.pages {
        return Err(Inconsistent(
            "the runs of contents have not as many pages as follow",
        ));
    }
    Ok(runs)
}

/// The checksum, and nothing after it.
fn check_end(from: &mut Hashed<impl Read>) -> Result<(), SnapshotError> {
    let checksum = from.checksum();
    if from.array()? != checksum {
        return Err(SnapshotError::Damaged);
    }
    match from.array::<1>() {
        Ok(_) => Err(SnapshotError::TrailingBytes),
        Err(SnapshotError::Truncated) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A reader or writer, and the hash of what has passed.
struct Hashed<T> {
    inner: T,
    hash: Sha256,
}

impl<T> Hashed<T> {
    fn new(inner: T) -> Self {
        let hash = Sha256::new();
        Self { inner, hash }
    }

    fn checksum(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }
}

impl<T: Write> Hashed<T> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.inner.write_all(bytes)
    }

    fn put_run(&mut self, run: &Range<u32>) -> io::Result<()> {
        self.put(&run.start.to_le_bytes())?;
        self.put(&(run.end - run.start).to_le_bytes())
    }
}

impl<T: Read> Hashed<T> {
    fn fill(&mut self, into: &mut [u8]) -> Result<(), SnapshotError> {
        self.inner
            .read_exact(into)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => SnapshotError::Truncated,
                _ => SnapshotError::Read(error.to_string()),
            })?;
        self.hash.update(into);
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u32, SnapshotError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Pages of a guest's, at least one, from `after` on.
    fn run(&mut self, after: u32) -> Result<Range<u32>, SnapshotError> {
        let (start, count) = (self.number()?, self.number()?);
        let end = start.saturating_add(count);
        if after <= start && start < end && end <= GUEST_PAGES.end {
            Ok(start..end)
        } else {
            Err(Inconsistent(
                "a run is empty, out of order, or not of a guest's pages",
            ))
        }
    }
}
