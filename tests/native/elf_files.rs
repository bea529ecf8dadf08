//! Real guest files, whole and cut: what is refused, and that refusing starts nothing.

use cellwall::elf::ElfError;
use cellwall::native::{Options, Program};
use cellwall::{Blame, Engine, Error, Interrupt, Misuse, Stage};

use super::runner::{bytes, image};
use crate::harness::{alone, children};

/// The size of a file header and of a program header.
pub(crate) const HEADER: usize = 64;
pub(crate) const PART: usize = 56;

/// A number of so many bytes.
pub(crate) fn number(file: &[u8], at: usize, size: usize) -> u64 {
    let digits = file[at..at + size].iter().rev();
    digits.fold(0, |number, &digit| number << 8 | u64::from(digit))
}

/// Where each program header is.
pub(crate) fn parts(file: &[u8]) -> Vec<usize> {
    let first = bytes(number(file, 32, 8));
    let count = bytes(number(file, 56, 2));
    (0..count).map(|index| first + index * PART).collect()
}

/// Where the last byte is that a segment to be loaded takes from the file.
fn taken(file: &[u8]) -> usize {
    let loads = parts(file)
        .into_iter()
        .filter(|&at| number(file, at, 4) == 1);
    let ends = loads.map(|at| bytes(number(file, at + 8, 8) + number(file, at + 32, 8)));
    ends.max().expect("a segment")
}

/// Why a file is no guest.
pub(crate) fn reason(error: Error) -> ElfError {
    assert_eq!(error.stage, Stage::Module, "{error}");
    let text = error.to_string();
    let said = text.strip_prefix("building the module: not a valid guest: ");
    assert!(said.is_some_and(|reason| reason.len() > 10), "{text}");
    match error.blame {
        Blame::Caller(Misuse::Elf(reason)) => reason,
        other => panic!("{other}"),
    }
}

/// What loading says, which must not start anything.
fn load(engine: &Engine, file: &[u8]) -> Result<Program, Error> {
    let before = children();
    let loaded = Program::load(engine, file, &Options::new());
    assert_eq!(children(), before, "a process was started");
    loaded
}

/// In a process of its own, whose children are this test's.
#[test]
fn cut_off_anywhere() {
    alone("native::elf_files::cut_off_anywhere", || {
        let engine = crate::harness::engine();
        for guest in cellwall_guests::all() {
            let file = guest.image;
            let headers = parts(file).last().unwrap() + PART;
            let taken = taken(file);
            assert!(headers < taken && taken <= file.len(), "{}", guest.name);
            let mut cuts: Vec<usize> = (0..=headers).collect();
            cuts.extend((headers..taken).step_by(taken / 64));
            cuts.push(taken - 1);
            for cut in cuts {
                let refused = load(&engine, &file[..cut]);
                let reason = reason(refused.err().unwrap_or_else(|| panic!("cut at {cut}")));
                let expected = match reason {
                    ElfError::Truncated(length) => length == cut && cut < HEADER,
                    ElfError::HeadersOutsideFile(64, _, length) => {
                        length == cut && (HEADER..headers).contains(&cut)
                    }
                    ElfError::OutsideFile(..) => (headers..taken).contains(&cut),
                    // The segments before the one that is cut already take what there is.
                    _ => false,
                };
                assert!(expected, "{} cut at {cut}: {reason}", guest.name);
            }
            // What follows is for debuggers; nobody here looks at it.
            for cut in [taken, file.len()] {
                assert!(load(&engine, &file[..cut]).is_ok(), "{}", guest.name);
            }
        }
        assert_eq!(children(), 0, "nothing was ever started");
        // That the count is one at all shows the first guest that does start.
        let program = load(&engine, image("hello")).unwrap();
        let instance = engine.instantiate(program.module()).unwrap();
        assert_eq!(children(), 1);
        drop(instance);
    });
}

/// A guest that is cut where only debuggers look runs as before.
#[test]
fn sections_are_not_needed() {
    let file = image("hello");
    let mut cut = file[..taken(file)].to_vec();
    // Nor is what the header says of them.
    cut[40..48].fill(0xff);
    cut[58..64].fill(0xff);
    let guest = super::runner::Native::load(&cut, &Options::new());
    let run = guest.run(&[]);
    run.assert_output("without sections", b"Hello from a Cellwall guest!\n");
}

#[test]
fn other_peoples_programs_are_refused() {
    let engine = crate::harness::engine();
    let load = |file: &[u8]| reason(Program::load(&engine, file, &Options::new()).err().unwrap());
    // This test itself: a dynamic executable of this very machine.
    let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let said = load(&this);
    assert!(
        matches!(said, ElfError::Interpreter(_) | ElfError::ThreadLocal(_)),
        "{said}"
    );
    assert_eq!(load(b""), ElfError::Truncated(0));
    assert_eq!(load(&[b'#'; 200]), ElfError::Magic(*b"####"));
    assert_eq!(load(&[0; 4096]), ElfError::Magic([0; 4]));
    // A file that was made for this and compressed.
    let packed = super::gunzip::gzip(image("hello"), 6);
    assert!(matches!(load(&packed), ElfError::Magic([0x1f, 0x8b, ..])));
    let script = format!("#!/bin/sh\n{}", "true\n".repeat(100));
    assert!(matches!(load(script.as_bytes()), ElfError::Magic(_)));
}

/// An engine does not remember what it refused.
#[test]
fn a_good_file_after_bad_ones() {
    let engine = crate::harness::engine();
    let file = image("spin");
    for cut in 0..200 {
        assert!(Program::load(&engine, &file[..cut], &Options::new()).is_err());
    }
    let program = Program::load(&engine, image("hello"), &Options::new()).unwrap();
    let mut instance = engine.instantiate(program.module()).unwrap();
    program.enter(&mut instance, &["after"]).unwrap();
    assert!(matches!(instance.run().unwrap(), Interrupt::Hostcall(_)));
}
