//! What is no module is refused with a reason, before any process is started.

use cellwall::abi::CODE_WINDOW;
use cellwall::{Blame, Engine, Error, Interrupt, Misuse, Module, Protection, RegionFault, Stage};

use crate::harness::{call, engine};

fn misuse(result: Result<Module, Error>) -> Misuse {
    let error = result.expect_err("a module that cannot be");
    assert_eq!(error.stage, Stage::Module);
    match error.blame {
        Blame::Caller(misuse) => misuse,
        other => panic!("blames {other}"),
    }
}

#[test]
fn parts_that_cannot_be_mapped() {
    let engine = engine();
    let region = |address, length| {
        let builder = Module::builder().code(&[0xc3]);
        misuse(
            builder
                .zeroed(address, length, Protection::ReadWrite)
                .build(&engine),
        )
    };
    for (address, length) in [
        (0x1_0000, 0),
        (0x1_0001, 1),
        (0, 0x1000),
        (0xf000, 0x1000),
        (0xffff_f000, 0x1001),
        (CODE_WINDOW.start, 0x1000),
        (0x1_4000_0000, 0x1000),
        (u64::MAX, 1),
        (0x1_0000, u64::MAX),
    ] {
        let found = region(address, length);
        assert!(
            matches!(found, Misuse::Region { .. }),
            "{address:#x}+{length:#x}: {found}"
        );
    }
    let overlap = Module::builder()
        .code(&[0xc3])
        .zeroed(0x1_0000, 0x2000, Protection::ReadWrite)
        .data(0x1_1000, b"x", Protection::Read)
        .build(&engine);
    assert_eq!(misuse(overlap), Misuse::Overlap(0x1_1000));
}

#[test]
fn code_that_is_missing_or_misplaced() {
    let engine = engine();
    let nothing = Module::builder()
        .zeroed(0x1_0000, 0x1000, Protection::ReadWrite)
        .build(&engine);
    assert_eq!(misuse(nothing), Misuse::NoCode);
    let without = Module::builder().code(&[0xc3]).build(&engine);
    assert_eq!(misuse(without), Misuse::NoStack);
    let empty = Module::builder().code(&[]).build(&engine);
    assert!(matches!(
        misuse(empty),
        Misuse::Region {
            fault: RegionFault::Empty,
            ..
        }
    ));
    for entry in [0, CODE_WINDOW.start + 0x1000, u64::MAX] {
        let outside = Module::builder().code(&[0xc3]).entry(entry).build(&engine);
        assert_eq!(misuse(outside), Misuse::EntryOutsideCode(entry));
    }
    for address in [CODE_WINDOW.start + 1, CODE_WINDOW.end, 0x1_4000_0000] {
        let misplaced = Module::builder().code_at(address, &[0xc3]).build(&engine);
        assert!(matches!(misuse(misplaced), Misuse::Region { .. }));
    }
}

#[test]
fn limits_are_kept() {
    let engine = Engine::new(&crate::harness::config().memory_limit(0x10_0000)).unwrap();
    let builder = || Module::builder().code(&[0xc3]).stack_pointer(0x2_0000);
    let large = builder()
        .zeroed(0x1_0000, 0x10_0000, Protection::ReadWrite)
        .build(&engine);
    let expected = Misuse::MemoryLimit {
        bytes: 0x10_1000,
        limit: 0x10_0000,
    };
    assert_eq!(misuse(large), expected);
    builder()
        .zeroed(0x1_0000, 0xf_f000, Protection::ReadWrite)
        .build(&engine)
        .unwrap();

    // A module knows no engine: the one that runs it has the last word.
    let roomy = crate::harness::engine();
    let module = builder()
        .zeroed(0x1_0000, 0x10_0000, Protection::ReadWrite)
        .build(&roomy)
        .unwrap();
    let refused = engine.instantiate(&module).unwrap_err();
    assert_eq!(refused.blame, Blame::Caller(expected));
    roomy.instantiate(&module).unwrap();

    let many = (0..64).fold(builder(), |builder, index| {
        builder.zeroed(0x1_0000 + index * 0x2000, 1, Protection::Read)
    });
    assert_eq!(misuse(many.build(&engine)), Misuse::TooManyRegions(65));
}

#[test]
fn as_many_regions_as_possible_work() {
    let engine = engine();
    let module = (0..62)
        .fold(Module::builder().code(&[0xc3]), |builder, index| {
            builder.zeroed(0x1_0000 + index * 0x2000, 1, Protection::Read)
        })
        .stack(0x1000_0000, 0x1000)
        .build(&engine)
        .unwrap();
    let mut instance = engine.instantiate(&module).unwrap();
    call(&mut instance, &[]);
    assert!(matches!(instance.run().unwrap(), Interrupt::Finished(_)));
}

/// Code among the guest's own addresses, as native programs have it, and in several places.
#[test]
fn code_may_lie_among_the_data() {
    let engine = engine();
    let module = Module::builder()
        .code_at(0x40_0000, &[0xb8, 1, 0, 0, 0, 0xc3]) // mov eax, 1; ret
        .code_at(0x40_1000, &[0xb8, 2, 0, 0, 0, 0xc3])
        .code(&[0xb8, 3, 0, 0, 0, 0xc3])
        .stack(0x10_0000, 0x1000)
        .build(&engine)
        .unwrap();
    let mut instance = engine.instantiate(&module).unwrap();
    for (entry, value) in [(0x40_0000, 1), (0x40_1000, 2), (CODE_WINDOW.start, 3)] {
        instance.call(entry, &[]).unwrap();
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(value));
    }
}

#[test]
fn errors_say_where_and_what() {
    let engine = engine();
    let error = Module::builder()
        .code(&[0xc3])
        .zeroed(0x1_0001, 0x10, Protection::Read)
        .build(&engine)
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "building the module: region 0x10001..0x10011 is not page-aligned"
    );
}
