//! A reset comes to what a new instance is, whatever was done.

use cellwall::{Access, Engine, Instance, Protection};

use super::{PAGE, Program, guest, resident, run};
use crate::memory::tenants::{
    Amount, FEW, FEW_BYTES, HEAP, HIDDEN, INPUT, MANY, MANY_BYTES, NOWHERE, ONLY_READ, READ_ONLY,
    SMALL_BYTES, UNREADABLE, WIDE, WIDE_BYTES, WRITABLE, engines, fill_code, fill_module,
    fill_more, module,
};

/// All memory of the module's, as the host sees it.
fn contents(instance: &mut Instance) -> Vec<(u64, Vec<u8>)> {
    let spans = WRITABLE.iter().chain(&ONLY_READ).chain([&UNREADABLE]);
    let read = |span: &vmctx::map::Span| {
        let mut bytes = vec![0; usize::try_from(span.end - span.start).expect("a length")];
        instance
            .read_as_host(span.start, &mut bytes)
            .expect("memory");
        (span.start, bytes)
    };
    spans.map(read).collect()
}

/// The whole map: which pages may be accessed how.
fn map(instance: &Instance) -> Vec<[bool; 3]> {
    let accesses = [Access::Read, Access::Write, Access::Execute];
    let dense = [
        (0, 0x400_0000),
        (WIDE, WIDE_BYTES),
        (NOWHERE - 0x10_0000, 0x100_0000),
        (0xfff0_0000, 0x10_0000),
    ];
    let pages = dense
        .iter()
        .flat_map(|(start, bytes)| (*start..start + bytes).step_by(0x1000));
    let rights = |page| accesses.map(|access| instance.is_accessible(page, PAGE, access));
    pages.map(rights).collect()
}

fn assert_fresh(instance: &mut Instance, engine: &Engine, what: &str) {
    let mut fresh = engine.instantiate(instance.module()).expect("an instance");
    let all = [&mut *instance, &mut fresh].map(contents);
    for ((at, found), (_, expected)) in all[0].iter().zip(&all[1]) {
        assert!(found == expected, "{what}: region {at:#x}");
    }
    assert!(map(instance) == map(&fresh), "{what}: the map");
    let stats = [&mut *instance, &mut fresh].map(|one| one.memory_stats().expect("stats"));
    assert_eq!(stats[0].mapped, stats[1].mapped, "{what}");
    assert_eq!((stats[0].dirty, stats[1].dirty), (0, 0), "{what}");
    // By the guest, which finds memory where it is by other ways than the host.
    for address in [
        FEW,
        MANY,
        MANY + MANY_BYTES - 8,
        READ_ONLY,
        INPUT,
        WIDE,
        HEAP,
        HIDDEN,
    ] {
        let found = run(instance, Program::Read, &[address]);
        assert_eq!(
            found,
            run(&mut fresh, Program::Read, &[address]),
            "{what}: {address:#x}"
        );
        let written = run(instance, Program::Write, &[address, 1]);
        assert_eq!(
            written,
            run(&mut fresh, Program::Write, &[address, 1]),
            "{what}: {address:#x}"
        );
    }
    instance.reset().expect("a reset");
    if engine.can_change_maps() {
        let ends = [instance, &mut fresh].map(|one| one.grow_heap(0).expect("a heap"));
        assert_eq!(ends, [HEAP; 2], "{what}");
    }
}

#[test]
fn a_reset_instance_is_as_a_new_one() {
    for engine in engines() {
        let module = module(&engine);
        let mut one = engine.instantiate(&module).expect("an instance");
        let new = resident(&mut one);
        for (amount, more) in [
            (Amount::One, false),
            (Amount::Most, false),
            (Amount::Scattered, true),
            (Amount::One, true),
        ] {
            fill_module(&mut one, amount);
            if more {
                fill_more(&mut one, &engine);
            }
            fill_code(&mut one);
            one.reset().expect("a reset");
            // Where the map was changed, all is made anew; otherwise some pages are kept.
            if more && engine.can_change_maps() {
                assert_eq!(resident(&mut one), new);
            }
            assert_fresh(&mut one, &engine, &format!("{amount:?}, {more}"));
        }
    }
}

/// Zeros over what the module begins with are given back to the machine, not to the next tenant.
#[test]
fn zeros_are_no_initial_contents() {
    for engine in engines() {
        let module = module(&engine);
        for (start, bytes) in [(FEW, FEW_BYTES), (MANY, MANY_BYTES), (MANY, MANY_BYTES / 2)] {
            let mut one = engine.instantiate(&module).expect("an instance");
            one.zero(start, bytes).expect("memory");
            assert!(
                one.read(start, bytes)
                    .expect("memory")
                    .iter()
                    .all(|byte| *byte == 0)
            );
            assert_eq!(
                run(&mut one, Program::Read, &[start]),
                cellwall::Interrupt::Finished(0)
            );
            one.reset().expect("a reset");
            assert_fresh(&mut one, &engine, &format!("zeros at {start:#x}"));
        }
    }
}

/// Every way to change what the module has, one after the other and then undone by nothing but a
/// reset.
#[test]
fn each_change_of_the_map_is_undone() {
    type Change = fn(&mut Instance);
    const CHANGES: [Change; 8] = [
        |one| one.unmap(MANY, MANY_BYTES).expect("unmapped"),
        |one| one.unmap(FEW + PAGE, PAGE).expect("unmapped"),
        |one| one.unmap(READ_ONLY, SMALL_BYTES).expect("unmapped"),
        |one| one.unmap(WIDE, WIDE_BYTES).expect("unmapped"),
        |one| {
            one.protect(MANY, MANY_BYTES, Protection::None)
                .expect("hidden")
        },
        |one| {
            one.protect(WIDE, WIDE_BYTES, Protection::Read)
                .expect("read-only")
        },
        |one| {
            one.protect(HIDDEN, SMALL_BYTES, Protection::ReadWrite)
                .expect("shown")
        },
        |one| {
            one.unmap(FEW, FEW_BYTES).expect("unmapped");
            one.map_zero(FEW, FEW_BYTES, Protection::Read)
                .expect("pages");
        },
    ];
    for engine in engines().into_iter().filter(Engine::can_change_maps) {
        let module = module(&engine);
        let mut one = engine.instantiate(&module).expect("an instance");
        for (number, change) in CHANGES.into_iter().enumerate() {
            guest::fill(&mut one, &(WIDE..WIDE + 8 * PAGE));
            change(&mut one);
            one.reset().expect("a reset");
            assert_fresh(&mut one, &engine, &format!("change {number}"));
        }
    }
}
