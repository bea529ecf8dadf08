//! Files of snapshots: kept, spoilt, forged.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::LazyLock;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::super::{Collected, GUEST_PAGES, Page, Snapshot, Table};
use super::{BUFFER_BYTES, FLAGS, SnapshotError};
use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Blame, Error, Misuse};
use crate::memory::held_bytes;
use crate::module::{Module, Protection};

const PAGE: usize = 4096;

/// Where a file has its numbers of runs and pages.
const COUNTS: Range<usize> = 56..68;

// The flags as numbers: those of the code may change, those of the format may not.
const READ: u16 = 1;
const WRITE: u16 = 2;
const BOTH: u16 = READ | WRITE;
const EXECUTE: u16 = 4;
const FIXED: u16 = 8;
const GUARD: u16 = 128;
const HIDDEN: u16 = 256;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(&Config::default()).unwrap());

/// Pages: code at 0x10, constants at 0x20, a stack of two at 0x30, a heap of at most 0x10 at 0x40.
static MODULE: LazyLock<Module> = LazyLock::new(|| {
    Module::builder()
        .code_at(0x1_0000, &[0xc3])
        .data(0x2_0000, &[7; PAGE], Protection::Read)
        .stack(0x3_0000, 0x2000)
        .heap(0x4_0000, 0x1_0000)
        .build(&ENGINE)
        .unwrap()
});

/// First page, how many, flags, zero.
type Run = (u32, u32, u16, u16);

/// A file as the documentation has it, written without the code under test.
#[derive(Clone)]
struct File {
    heap_end: u64,
    map: Vec<Run>,
    contents: Vec<(u32, u32)>,
    /// What each page that follows is full of.
    pages: Vec<u8>,
}

impl File {
    /// Of an instance with a heap of two pages, a hidden page, a guard and some contents.
    fn good() -> Self {
        Self {
            heap_end: 0x4_1008,
            map: vec![
                (0x10, 1, READ | EXECUTE | FIXED, 0),
                (0x20, 1, READ | FIXED, 0),
                (0x30, 2, BOTH, 0),
                (0x40, 2, BOTH, 0),
                (0x42, 1, HIDDEN, 0),
                (0x80, 0x400, BOTH, 0),
                (0xf_fffe, 1, READ, 0),
                (0xf_ffff, 1, GUARD, 0),
            ],
            contents: vec![(0x31, 1), (0x41, 2)],
            pages: vec![0x11, 0x22, 0x33],
        }
    }

    /// The good one, but for this.
    fn but(change: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut file = Self::good();
        change(&mut file);
        file.write()
    }

    fn write(&self) -> Vec<u8> {
        let mut out = b"cellsnap\x01\0\0\0\0\x10\0\0".to_vec();
        out.extend(MODULE.digest());
        out.extend(self.heap_end.to_le_bytes());
        for length in [self.map.len(), self.contents.len(), self.pages.len()] {
            out.extend(u32::try_from(length).unwrap().to_le_bytes());
        }
        for (first, count, flags, zero) in &self.map {
            out.extend([first.to_le_bytes(), count.to_le_bytes()].concat());
            out.extend([flags.to_le_bytes(), zero.to_le_bytes()].concat());
        }
        for (first, count) in &self.contents {
            out.extend([first.to_le_bytes(), count.to_le_bytes()].concat());
        }
        for page in &self.pages {
            out.extend([*page; PAGE]);
        }
        out.extend([0; 32]);
        sign(&mut out);
        out
    }
}

/// Makes the checksum right.
fn sign(file: &mut [u8]) {
    let before = file.len() - 32;
    let checksum = Sha256::digest(&file[..before]);
    file[before..].copy_from_slice(&checksum);
}

fn load(file: impl Read) -> Result<Snapshot, Error> {
    Snapshot::load(&ENGINE, &MODULE, file)
}

fn saved(snapshot: &Snapshot) -> Vec<u8> {
    let mut file = Vec::new();
    snapshot.save(&mut file).unwrap();
    file
}

fn misuse_of(result: Result<Snapshot, Error>) -> Misuse {
    match result.map(drop).map_err(|error| error.blame) {
        Err(Blame::Caller(misuse)) => misuse,
        other => panic!("loaded, or refused otherwise: {other:?}"),
    }
}

fn reason(result: Result<Snapshot, Error>) -> SnapshotError {
    match misuse_of(result) {
        Misuse::Snapshot(reason) => reason,
        other => panic!("refused otherwise: {other:?}"),
    }
}

/// The file contradicts itself, and the reason given begins so.
fn is_inconsistent(file: &[u8], why: &str) {
    match reason(load(file)) {
        SnapshotError::Inconsistent(found) if found.starts_with(why) => {}
        other => panic!("wanted \"{why}\", found {other:?}"),
    }
}

fn page(snapshot: &Snapshot, page: u32) -> Option<[u8; PAGE]> {
    let mut contents = [0; PAGE];
    let (mapping, offset) = snapshot.page(page)?;
    mapping.read(offset, &mut contents);
    Some(contents)
}

#[test]
fn a_file_is_what_the_documentation_says() {
    let good = File::good();
    let snapshot = load(&*good.write()).unwrap();
    assert_eq!(saved(&snapshot), good.write());
    assert_eq!(snapshot.heap_end(), good.heap_end);
    assert!(snapshot.module().is(&MODULE));
    for (number, byte) in [(0x31, 0x11), (0x41, 0x22), (0x42, 0x33)] {
        assert_eq!(page(&snapshot, number), Some([byte; PAGE]));
    }
    assert_eq!(snapshot.bytes(), 3 * 4096);
    let table = snapshot.table();
    for (first, count, flags, _) in good.map {
        let is_so = |page: Page| (page & FLAGS).bits() == flags;
        assert!(table.all(first..first + count, is_so), "{first:#x}");
    }
    assert!(table.get(0x42).contains(Page::LAZY));
    assert!(!table.get(0x40).contains(Page::LAZY));
}

#[test]
fn a_snapshot_comes_back_as_it_was() {
    let map = |table: &Table| table.runs(GUEST_PAGES).collect::<Vec<_>>();
    let kept = [(0x30, 1_u8), (0x31, 2), (0x40, 3)];
    let mut table = MODULE.table().clone();
    table.update(GUEST_PAGES, |page| page & FLAGS);
    table.set(0x40..0x41, Page::READ | Page::WRITE);
    table.set(0x5000..0x9000, Page::READ | Page::WRITE);
    for contents in [&kept[..], &[]] {
        let mut collected = Collected::new(GUEST_PAGES.end.into()).unwrap();
        for (number, byte) in contents {
            collected.push(*number, &[*byte; PAGE]).unwrap();
        }
        let before = collected.finish(&MODULE, table.clone(), 0x4_0123).unwrap();
        let after = load(&*saved(&before)).unwrap();
        assert_eq!(map(after.table()), map(before.table()));
        assert_eq!(after.heap_end(), 0x4_0123);
        assert_eq!(after.bytes(), before.bytes());
        for (number, byte) in contents {
            assert_eq!(page(&after, *number), Some([*byte; PAGE]));
        }
        assert_eq!(saved(&after), saved(&before));
    }
}

#[test]
fn the_beginning_is_judged_first() {
    // No more is there than it takes to tell.
    let good = File::good().write();
    let not_one = reason(load(&b"\x7fELF\x02\x01\x01\0"[..]));
    assert_eq!(not_one, SnapshotError::NotASnapshot);
    let newer = reason(load(&b"cellsnap\x02\0\0\0"[..]));
    assert_eq!(newer, SnapshotError::Version { found: 2, known: 1 });
    is_inconsistent(b"cellsnap\x01\0\0\0\0\x20\0\0", "its pages");
    let other = Module::builder().code(&[0xc3]).stack(0x3_0000, 0x1000);
    let of_other = Snapshot::load(&ENGINE, &other.build(&ENGINE).unwrap(), &good[..48]);
    assert_eq!(reason(of_other), SnapshotError::OtherModule);
}

#[test]
fn the_end_is_judged_too() {
    let good = File::good().write();
    let last = good.len() - 33;
    let mut damaged = good.clone();
    damaged[last] ^= 1;
    assert_eq!(reason(load(&*damaged)), SnapshotError::Damaged);
    let longer = reason(load((&*good).chain(&[0][..])));
    assert_eq!(longer, SnapshotError::TrailingBytes);
    // As somebody damages it who makes the checksum right: that is another snapshot.
    sign(&mut damaged);
    let other = page(&load(&*damaged).unwrap(), 0x42).unwrap();
    assert_eq!(other[PAGE - 1], 0x32);
}

#[test]
fn a_map_that_cannot_be_is_refused() {
    let runs = [
        ("a run is", 0, (0xf, 1, READ, 0)),
        ("a run is", 1, (0x10, 1, READ | FIXED, 0)),
        ("a run is", 2, (0x30, 0, BOTH, 0)),
        ("a run is", 3, (0x31, 2, BOTH, 0)),
        ("a run is", 7, (0xf_ffff, 2, GUARD, 0)),
        ("a run is", 7, (0xf_ffff, u32::MAX, GUARD, 0)),
        ("pages have flags", 1, (0x20, 2, READ | FIXED, 0)),
        ("pages have flags", 6, (0xf_fffe, 1, READ | FIXED, 0)),
        ("bytes are not zero", 2, (0x30, 2, BOTH, 1)),
        ("two runs of the map", 3, (0x32, 2, BOTH, 0)),
        ("code or constants", 1, (0x21, 1, READ, 0)),
    ];
    for (why, at, run) in runs {
        is_inconsistent(&File::but(|file| file.map[at] = run), why);
    }
}

#[test]
fn flags_that_cannot_be_are_refused() {
    let own = [READ, BOTH, GUARD, HIDDEN];
    for flags in (0..1024).chain([1 << 14, 1 << 15, u16::MAX]) {
        // The stack, then the constants.
        for (at, legal) in [(2, &own[..]), (1, &[READ | FIXED])] {
            let file = File::but(|file| {
                file.map[at].2 = flags;
                (file.contents, file.pages) = (vec![], vec![]);
            });
            match legal.contains(&flags) {
                true => assert_eq!(saved(&load(&*file).unwrap()), file),
                false if own.contains(&flags) => is_inconsistent(&file, "code or constants"),
                false => is_inconsistent(&file, "pages have flags"),
            }
        }
    }
}

#[test]
fn contents_that_cannot_be_are_refused() {
    let runs = [
        ("a run is", [(0x41, 2), (0x31, 1)]),
        ("a run is", [(0x31, 0), (0x40, 3)]),
        ("there are contents", [(0x2f, 1), (0x41, 2)]),
        ("there are contents", [(0x20, 1), (0x41, 2)]),
        ("there are contents", [(0x31, 1), (0xf_fffe, 2)]),
        ("two runs of contents", [(0x40, 1), (0x41, 2)]),
        ("the runs of contents", [(0x31, 1), (0x41, 1)]),
        ("the runs of contents", [(0x30, 2), (0x41, 2)]),
    ];
    for (why, runs) in runs {
        is_inconsistent(&File::but(|file| file.contents = runs.to_vec()), why);
    }
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    for heap_end in [0, 0x3_ffff, 0x5_0001, u64::MAX] {
        is_inconsistent(&File::but(|file| file.heap_end = heap_end), "the heap");
    }
    // Refused by the number alone: nothing of what it announces is there.
    for at in COUNTS.step_by(4) {
        for number in [GUEST_PAGES.end - GUEST_PAGES.start + 1, u32::MAX] {
            let mut file = File::good().write()[..COUNTS.end].to_vec();
            file[at..at + 4].copy_from_slice(&number.to_le_bytes());
            is_inconsistent(&file, "it announces");
        }
    }
}

#[test]
fn no_more_memory_than_the_engine_allows() {
    let file = File::good().write();
    let bytes = (2 + 2 + 1 + 0x400 + 1) * 4096; // what is not the module's, but for the guard
    let load = |limit| {
        let small = Engine::new(&Config::default().memory_limit(limit)).unwrap();
        Snapshot::load(&small, &MODULE, &*file)
    };
    load(bytes).unwrap();
    let limit = bytes - 1;
    assert_eq!(misuse_of(load(limit)), Misuse::MemoryLimit { bytes, limit });
}

/// Gives few bytes at once, and fails at its end.
struct Line<'a>(&'a [u8]);

impl Read for Line<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        assert!(into.len() <= BUFFER_BYTES, "that is not in pieces");
        let few = into.len().min(7);
        match self.0.read(&mut into[..few]) {
            Ok(0) => Err(io::Error::other("the line is dead")),
            read => read,
        }
    }
}

#[test]
fn what_readers_and_writers_say_is_passed_on() {
    let file = File::good().write();
    for length in [0, 5, 50, 70, 5000, file.len() - 1, file.len()] {
        let found = reason(load(Line(&file[..length])));
        assert_eq!(found, SnapshotError::Read("the line is dead".into()));
    }
    let snapshot = load(Line(&file).take(file.len() as u64)).unwrap();
    for room in [0, 100, file.len() - 1] {
        let error = snapshot.save(&mut vec![0; room][..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }
    assert_eq!(saved(&snapshot), file);
}

#[test]
fn every_truncation_and_every_flipped_byte_is_refused() {
    let small = |file: &mut File| (file.contents, file.pages) = (vec![(0x41, 1)], vec![5]);
    let good = File::but(small);
    load(&*good).unwrap();
    for at in 0..good.len() {
        let cut = reason(load(&good[..at]));
        assert_eq!(cut, SnapshotError::Truncated, "{at} bytes");
        let mut file = good.clone();
        file[at] ^= 1 << (at % 8);
        misuse_of(load(&*file));
    }
}

/// A file is refused for what it is, or the snapshot of it is written as the very same file.
fn judge(file: &[u8]) {
    match load(file) {
        Err(error) => assert!(matches!(error.blame, Blame::Caller(_)), "{error}"),
        Ok(snapshot) => {
            assert_eq!(saved(&snapshot), file);
            let held = held_bytes(snapshot.table());
            assert!(snapshot.bytes() <= held && held <= ENGINE.config().memory_limit);
        }
    }
}

fn edge() -> impl Strategy<Value = u16> {
    let edges = vec![0, 1, 2, 3, 9, 13, 16, 32, 64, 128, 256, 0x7fff, 0xffff];
    prop_oneof![prop::sample::select(edges), 0..0x100_u16, any::<u16>()]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn another_byte_anywhere_is_refused(at in any::<prop::sample::Index>(), by in 1..=u8::MAX) {
        let mut file = File::good().write();
        let at = at.index(file.len());
        file[at] ^= by;
        misuse_of(load(&*file));
    }

    #[test]
    fn random_bytes(kept in 0..200_usize, rest in prop::collection::vec(any::<u8>(), 0..1024)) {
        judge(&rest);
        judge(&[&File::good().write()[..kept], &rest].concat());
    }

    /// As somebody changes it who makes the checksum right.
    #[test]
    fn forged_files(changes in prop::collection::vec((24..100_usize, edge()), 1..4)) {
        let mut file = File::good().write();
        for (half, to) in changes {
            file[2 * half..2 * half + 2].copy_from_slice(&to.to_le_bytes());
        }
        sign(&mut file);
        judge(&file);
    }
}
