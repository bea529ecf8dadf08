//! Snapshots in files: what is loaded is what was saved, or refused with the reason.

use std::io;

use cellwall::{Blame, Engine, Error, Misuse, Module, Protection, Snapshot, SnapshotError};

use super::{
    DATA, LARGE, LARGE_BYTES, PAGE, guest, has_that_map, instance, kept, module, numbers, read,
    with_another_map,
};
use crate::harness::{STACK, STACK_BYTES};
use crate::memory::tenants::engines;

fn saved(snapshot: &Snapshot) -> Vec<u8> {
    let mut bytes = Vec::new();
    snapshot
        .save(&mut bytes)
        .expect("a vector takes everything");
    bytes
}

fn refusal(loaded: Result<Snapshot, Error>) -> SnapshotError {
    match loaded.expect_err("no snapshot").blame {
        Blame::Caller(Misuse::Snapshot(reason)) => reason,
        other => panic!("{other}"),
    }
}

/// Through a file on disk, by another engine, into instances of the same module made anew.
#[test]
fn what_is_loaded_is_what_was_saved() {
    for engine in engines() {
        let first = module(&engine);
        let mut one = instance(&engine, &first);
        let contents = numbers(LARGE_BYTES, 6);
        one.write(LARGE, &contents).expect("memory");
        let snapshot = kept(&mut one);
        let mut file = tempfile::tempfile().expect("a file");
        snapshot.save(&file).expect("a file");
        let length = file.metadata().expect("a file").len();
        assert!(
            (LARGE_BYTES..LARGE_BYTES + 2 * PAGE).contains(&length),
            "{length}"
        );

        let other = engine.clone();
        drop((snapshot, one, engine));
        let again = module(&other);
        io::Seek::rewind(&mut file).expect("a file");
        let loaded = Snapshot::load(&other, &again, &file).expect("a snapshot");
        assert_eq!(loaded.bytes(), LARGE_BYTES);
        let mut two = instance(&other, &again);
        two.restore(&loaded).expect("a restore");
        assert!(read(&mut two, LARGE, LARGE_BYTES) == contents);
        // It is of the module that it was loaded for, and of no other that is alike.
        let refused = instance(&other, &first)
            .restore(&loaded)
            .expect_err("another module");
        assert_eq!(refused.blame, Blame::Caller(Misuse::OtherModule));
        assert_eq!(saved(&loaded), saved(&kept(&mut two)));
    }
}

#[test]
fn a_map_is_saved_with_its_contents() {
    for engine in engines().into_iter().filter(Engine::can_change_maps) {
        let module = module(&engine);
        let mut one = instance(&engine, &module);
        with_another_map(&engine, &mut one);
        let bytes = saved(&kept(&mut one));
        let loaded = Snapshot::load(&engine, &module, &bytes[..]).expect("a snapshot");
        let mut two = instance(&engine, &module);
        two.restore(&loaded).expect("a restore");
        assert_eq!(
            two.memory_stats().expect("stats").mapped,
            one.memory_stats().unwrap().mapped
        );
        assert_eq!(saved(&kept(&mut two)), bytes);
        has_that_map(&mut two);
    }
}

/// A module of little memory, so that a snapshot is a few pages.
fn small(engine: &Engine, constants: &[u8]) -> Module {
    let builder = guest::builder()
        .zeroed(DATA, 4 * PAGE, Protection::ReadWrite)
        .data(LARGE, constants, Protection::Read)
        .stack(STACK, STACK_BYTES);
    builder.build(engine).expect("a module")
}

#[test]
fn what_is_damaged_is_refused() {
    for engine in engines() {
        let module = small(&engine, b"constants");
        let mut one = instance(&engine, &module);
        one.write(DATA + PAGE, &numbers(2 * PAGE, 1))
            .expect("memory");
        let whole = saved(&kept(&mut one));
        let load = |bytes: &[u8]| Snapshot::load(&engine, &module, bytes);
        load(&whole).expect("a snapshot");

        // Every byte of what describes it, and some of each line of the contents.
        let header = 300.min(whole.len());
        let places = (0..header).chain((header..whole.len()).step_by(61));
        for at in places {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            let reason = refusal(load(&damaged));
            let cannot_be = matches!(
                reason,
                SnapshotError::Read(_) | SnapshotError::TrailingBytes
            );
            assert!(!cannot_be, "byte {at}: {reason}");
        }
        for length in (0..whole.len())
            .step_by(101)
            .chain(whole.len() - 40..whole.len())
        {
            let reason = refusal(load(&whole[..length]));
            assert_eq!(reason, SnapshotError::Truncated, "{length} bytes");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert_eq!(refusal(load(&longer)), SnapshotError::TrailingBytes);
        let twice = [&whole[..], &whole[..]].concat();
        assert_eq!(refusal(load(&twice)), SnapshotError::TrailingBytes);
        assert_eq!(
            refusal(load(b"something else")),
            SnapshotError::NotASnapshot
        );
        // Other contents with the same map are another module.
        let other = small(&engine, b"other constants");
        let reason = refusal(Snapshot::load(&engine, &other, &whole[..]));
        assert_eq!(reason, SnapshotError::OtherModule);
        assert_eq!(
            refusal(Snapshot::load(&engine, &module, Broken)),
            Broken::reason()
        );
        // Nothing of the above has changed the instance.
        assert_eq!(saved(&kept(&mut one)), whole);
    }
}

/// A reader that fails.
struct Broken;

impl Broken {
    fn reason() -> SnapshotError {
        SnapshotError::Read(Self::error().to_string())
    }

    fn error() -> io::Error {
        io::Error::other("the disk is on fire")
    }
}

impl io::Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(Self::error())
    }
}

/// A writer's error is the caller's to see.
#[test]
fn a_full_disk_is_an_error() {
    let engine = crate::harness::engine();
    let module = small(&engine, b"constants");
    let snapshot = kept(&mut instance(&engine, &module));
    let mut little = [0; 40];
    let error = snapshot.save(&mut little[..]).expect_err("no room");
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
}
