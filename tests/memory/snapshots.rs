//! Memory kept for later: on the same instance and on others, shared until touched, in files; and
//! that a reset comes to what a new instance is.

mod files;
mod fresh;

use cellwall::{Access, Engine, Instance, Interrupt, Module, Protection, Snapshot, Template};

use super::tenants::guest::{self, Program, finish, run};
use super::tenants::{PATTERN, engines};
use crate::harness::{DATA, DATA_BYTES, STACK, STACK_BYTES};

const PAGE: u64 = 0x1000;
/// 16 MiB, of which every page is another.
const LARGE: u64 = 0x1000_0000;
const LARGE_BYTES: u64 = 16 << 20;
const HEAP: u64 = 0x80_0000;
const HEAP_BYTES: u64 = 0x10_0000;
const NOWHERE: u64 = 0x2000_0000;

fn module(engine: &Engine) -> Module {
    let builder = guest::builder()
        .zeroed(DATA, DATA_BYTES, Protection::ReadWrite)
        .heap(HEAP, HEAP_BYTES)
        .zeroed(LARGE, LARGE_BYTES, Protection::ReadWrite)
        .stack(STACK, STACK_BYTES);
    builder.build(engine).expect("a module")
}

fn instance(engine: &Engine, module: &Module) -> Instance {
    engine.instantiate(module).expect("an instance")
}

fn kept(instance: &mut Instance) -> Snapshot {
    instance.snapshot().expect("a snapshot")
}

/// A word that tells its place.
fn number(at: u64, seed: u64) -> u64 {
    (at + 1) ^ (seed << 40)
}

/// Contents of such words.
fn numbers(bytes: u64, seed: u64) -> Vec<u8> {
    let words = (0..bytes / 8).map(|word| number(word * 8, seed));
    words.flat_map(u64::to_le_bytes).collect()
}

fn read(instance: &mut Instance, address: u64, bytes: u64) -> Vec<u8> {
    instance.read(address, bytes).expect("memory")
}

fn word(instance: &mut Instance, address: u64) -> u64 {
    finish(instance, Program::Read, &[address])
}

fn resident(instance: &mut Instance) -> u64 {
    instance.memory_stats().expect("stats").resident
}

#[test]
fn an_instance_goes_back_and_forth() {
    for engine in engines() {
        let module = module(&engine);
        let mut one = instance(&engine, &module);
        let contents = numbers(LARGE_BYTES, 1);
        one.write(LARGE, &contents).expect("memory");
        one.store(DATA, 1u64).expect("memory");
        let first = kept(&mut one);
        assert_eq!(first.bytes(), LARGE_BYTES + PAGE);
        one.zero(LARGE, LARGE_BYTES).expect("memory");
        one.store(DATA, 2u64).expect("memory");
        let second = kept(&mut one);
        assert_eq!(second.bytes(), PAGE);
        for _ in 0..3 {
            one.restore(&first).expect("a restore");
            assert_eq!(word(&mut one, DATA), 1);
            assert_eq!(word(&mut one, LARGE + 8 * PAGE), number(8 * PAGE, 1));
            guest::fill(&mut one, &(LARGE..LARGE + 40 * PAGE));
            one.restore(&first).expect("the same again");
            assert!(read(&mut one, LARGE, LARGE_BYTES) == contents);
            one.restore(&second).expect("a restore");
            assert_eq!(
                (word(&mut one, DATA), word(&mut one, LARGE + 8 * PAGE)),
                (2, 0)
            );
            one.reset().expect("a reset");
            assert_eq!((word(&mut one, DATA), word(&mut one, LARGE)), (0, 0));
        }
    }
}

/// Each page is shared until it is touched, and then a copy.
#[test]
fn many_instances_share_what_they_do_not_touch() {
    const INSTANCES: u64 = 12;
    for engine in engines() {
        let module = module(&engine);
        let mut warm = instance(&engine, &module);
        let contents = numbers(LARGE_BYTES, 2);
        warm.write(LARGE, &contents).expect("memory");
        let snapshot = kept(&mut warm);
        let mut instances: Vec<Instance> =
            (0..INSTANCES).map(|_| instance(&engine, &module)).collect();
        for one in &mut instances {
            one.restore(&snapshot).expect("a restore");
            let before = resident(one);
            assert!(read(one, LARGE, LARGE_BYTES) == contents);
            assert_eq!(resident(one), before, "a look takes no memory");
            if engine.can_change_maps() {
                assert_eq!(before, 0, "nothing is copied before it is touched");
            }
        }
        for (number, one) in (1..).zip(&mut instances) {
            // A page of the stack comes with the call.
            word(one, LARGE);
            let before = resident(one);
            for page in 0..number {
                let address = LARGE + page * 7 * PAGE;
                finish(one, Program::Write, &[address, PATTERN]);
            }
            if engine.can_change_maps() {
                assert_eq!(resident(one), before + (number - 1) * PAGE);
            }
        }
        for (number, one) in (1..).zip(&mut instances) {
            let found = read(one, LARGE, LARGE_BYTES);
            let mut expected = contents.clone();
            for page in 0..number {
                let at = usize::try_from(page * 7 * PAGE).expect("a length");
                expected[at..at + 8].copy_from_slice(&PATTERN.to_le_bytes());
            }
            assert!(found == expected, "instance {number}");
        }
    }
}

/// A snapshot of an instance that has touched only some of another snapshot.
#[test]
fn snapshots_are_made_of_snapshots() {
    for engine in engines() {
        let module = module(&engine);
        let mut one = instance(&engine, &module);
        let mut contents = numbers(LARGE_BYTES, 3);
        one.write(LARGE, &contents).expect("memory");
        let mut snapshot = kept(&mut one);
        for generation in 0..4u64 {
            let mut next = instance(&engine, &module);
            next.restore(&snapshot).expect("a restore");
            for page in (generation..4096).step_by(97) {
                let address = LARGE + page * PAGE + 16;
                let at = usize::try_from(address - LARGE).expect("a length");
                contents[at..at + 8].copy_from_slice(&generation.to_le_bytes());
                if page % 2 == 0 {
                    finish(&mut next, Program::Write, &[address, generation]);
                } else {
                    next.store(address, generation).expect("memory");
                }
            }
            snapshot = kept(&mut next);
        }
        // All that it came from is gone.
        drop(one);
        let mut last = instance(&engine, &module);
        drop((engine, module));
        last.restore(&snapshot).expect("a restore");
        drop(snapshot);
        assert!(read(&mut last, LARGE, LARGE_BYTES) == contents);
        assert_eq!(word(&mut last, LARGE + 16), 0);
        last.reset().expect("a reset");
        assert_eq!(word(&mut last, LARGE), 0);
    }
}

/// What was changed of the map comes back with the contents: rights, hidden pages, guards, heap.
fn with_another_map(engine: &Engine, instance: &mut Instance) {
    let both = Protection::ReadWrite;
    let template = Template::new(engine, &numbers(4 * PAGE, 7)).expect("a template");
    instance.grow_heap(5 * 0x1000 + 24).expect("a heap");
    instance.store(HEAP + 5 * PAGE, 5u64).expect("memory");
    instance
        .map_data(NOWHERE, &numbers(3 * PAGE, 4), both)
        .expect("pages");
    instance
        .map_template(NOWHERE + 4 * PAGE, &template, both)
        .expect("a template");
    instance.store(NOWHERE + 4 * PAGE, 9u64).expect("memory");
    instance
        .guard(NOWHERE + 9 * PAGE, 2 * PAGE)
        .expect("a guard");
    instance
        .map_zero(NOWHERE + 0x10_0000, 0x40_0000, both)
        .expect("pages");
    instance
        .write(LARGE, &numbers(8 * PAGE, 5))
        .expect("memory");
    instance
        .protect(LARGE + PAGE, PAGE, Protection::Read)
        .expect("read-only");
    instance
        .protect(LARGE + 2 * PAGE, PAGE, Protection::None)
        .expect("hidden");
    instance.unmap(LARGE + 3 * PAGE, PAGE).expect("unmapped");
}

fn has_that_map(instance: &mut Instance) {
    assert_eq!(
        instance.grow_heap(0).expect("the end"),
        HEAP + 5 * PAGE + 24
    );
    let of = |address, access| instance.is_accessible(address, 8, access);
    for (address, reads, writes) in [
        (HEAP + 5 * PAGE, true, true),
        (HEAP + 6 * PAGE, false, false),
        (NOWHERE, true, true),
        (NOWHERE + 3 * PAGE, false, false),
        (NOWHERE + 4 * PAGE, true, true),
        (NOWHERE + 9 * PAGE, false, false),
        (NOWHERE + 0x10_0000, true, true),
        (NOWHERE + 0x50_0000, false, false),
        (LARGE, true, true),
        (LARGE + PAGE, true, false),
        (LARGE + 2 * PAGE, false, false),
        (LARGE + 3 * PAGE, false, false),
        (LARGE + 4 * PAGE, true, true),
    ] {
        assert_eq!(of(address, Access::Read), reads, "{address:#x}");
        assert_eq!(of(address, Access::Write), writes, "{address:#x}");
    }
    for (address, expected) in [
        (HEAP + 5 * PAGE, 5),
        (NOWHERE, number(0, 4)),
        (NOWHERE + 4 * PAGE, 9),
        (NOWHERE + 5 * PAGE, number(PAGE, 7)),
        (NOWHERE + 0x20_0000, 0),
        (LARGE + PAGE, number(PAGE, 5)),
        (LARGE + 4 * PAGE, number(4 * PAGE, 5)),
    ] {
        assert_eq!(word(instance, address), expected, "{address:#x}");
    }
    let mut hidden = [0; 8];
    instance
        .read_as_host(LARGE + 2 * PAGE, &mut hidden)
        .expect("memory");
    assert_eq!(u64::from_le_bytes(hidden), number(2 * PAGE, 5));
    for address in [
        HEAP + 6 * PAGE,
        NOWHERE + 9 * PAGE,
        LARGE + 2 * PAGE,
        LARGE + 3 * PAGE,
    ] {
        let read = run(instance, Program::Read, &[address]);
        assert!(matches!(read, Interrupt::Trap(_)), "{address:#x}: {read}");
    }
    let written = run(instance, Program::Write, &[LARGE + PAGE, 1]);
    assert!(matches!(written, Interrupt::Trap(_)), "{written}");
    instance
        .protect(LARGE + 2 * PAGE, PAGE, Protection::Read)
        .expect("shown");
    assert_eq!(word(instance, LARGE + 2 * PAGE), number(2 * PAGE, 5));
}

#[test]
fn a_map_is_restored_with_its_contents() {
    for engine in engines().into_iter().filter(Engine::can_change_maps) {
        let module = module(&engine);
        let mut one = instance(&engine, &module);
        with_another_map(&engine, &mut one);
        let mapped = one.memory_stats().expect("stats").mapped;
        let snapshot = kept(&mut one);
        // And one of an instance that has touched nothing of it.
        let mut two = instance(&engine, &module);
        two.restore(&snapshot).expect("a restore");
        let derived = kept(&mut two);
        assert_eq!(derived.bytes(), snapshot.bytes());
        for snapshot in [&snapshot, &derived] {
            for one in [&mut one, &mut two] {
                one.restore(snapshot).expect("a restore");
                assert_eq!(one.memory_stats().expect("stats").mapped, mapped);
                has_that_map(one);
            }
        }
        one.reset().expect("a reset");
        assert_eq!(one.grow_heap(0).expect("the end"), HEAP);
        assert!(!one.is_accessible(NOWHERE, 1, Access::Read));
        assert!(one.is_accessible(LARGE, LARGE_BYTES, Access::Write));
        assert_eq!(
            engine.memory_held(),
            mapped + one.memory_stats().expect("stats").mapped
        );
    }
}

/// A seed is fresh in every instance, after every reset, and after every restore.
#[test]
fn seeds_do_not_repeat() {
    const SEED: u64 = DATA + 0x108;
    for engine in engines() {
        let builder = guest::builder()
            .zeroed(DATA, DATA_BYTES, Protection::ReadWrite)
            .stack(STACK, STACK_BYTES)
            .entropy(SEED, 32);
        let module = builder.build(&engine).expect("a module");
        let mut seeds = std::collections::BTreeSet::new();
        let mut drawn = 0;
        let mut draw = |instance: &mut Instance| {
            // Once as the guest sees it, all of it as the host does.
            assert_ne!(word(instance, SEED), 0);
            let seed = read(instance, SEED, 32);
            for part in seed.chunks(8) {
                seeds.insert(part.to_vec());
                drawn += 1;
            }
            for around in [SEED - 8, SEED + 32] {
                assert_eq!(word(instance, around), 0);
            }
        };
        let mut one = instance(&engine, &module);
        let mut two = instance(&engine, &module);
        let snapshot = kept(&mut one);
        for _ in 0..8 {
            for instance in [&mut one, &mut two] {
                draw(instance);
                instance.reset().expect("a reset");
                draw(instance);
                instance.restore(&snapshot).expect("a restore");
                draw(instance);
                instance.restore(&snapshot).expect("a restore");
            }
        }
        assert_eq!(seeds.len(), drawn);
    }
}
