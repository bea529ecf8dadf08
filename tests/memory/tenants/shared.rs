//! What instances share until they touch it: templates and snapshots, which nobody's writes change.

use cellwall::{Engine, Instance, Module, Protection, Template};

use super::guest::{self, Program, finish};
use super::{NOWHERE, PATTERN, engines};
use crate::harness::{DATA, STACK, STACK_BYTES};

const PAGE: u64 = 0x1000;
/// More than is copied at the start, and more than is kept at a reset.
const BYTES: u64 = 5000 * PAGE;
const REGION: u64 = 0x1000_0000;

fn module(engine: &Engine) -> Module {
    let builder = guest::builder()
        .zeroed(DATA, PAGE, Protection::ReadWrite)
        .zeroed(REGION, BYTES, Protection::ReadWrite)
        .stack(STACK, STACK_BYTES);
    builder.build(engine).expect("a module")
}

/// Every page begins with its own number and this one.
fn mark(instance: &mut Instance, pages: impl Iterator<Item = u64>, mark: u64) {
    for page in pages {
        let address = REGION + page * PAGE;
        instance.store(address, mark + page).expect("memory");
    }
}

fn marks(instance: &mut Instance, page: u64) -> u64 {
    finish(instance, Program::Read, &[REGION + page * PAGE])
}

/// Two tenants' snapshots with pages in different places, restored by turns.
#[test]
fn a_restored_instance_has_no_page_of_another_snapshot() {
    const ONE: u64 = 1 << 32;
    const TWO: u64 = 2 << 32;
    let pages = 64;
    for engine in engines() {
        let module = module(&engine);
        let snapshot = |from: u64, number: u64| {
            let mut tenant = engine.instantiate(&module).expect("an instance");
            mark(&mut tenant, (from..pages).step_by(2), number);
            tenant.snapshot().expect("a snapshot")
        };
        let (even, odd) = (snapshot(0, ONE), snapshot(1, TWO));
        let mut instances: Vec<Instance> = (0..2)
            .map(|_| engine.instantiate(&module).expect("an instance"))
            .collect();
        for round in 0..6 {
            for (number, instance) in instances.iter_mut().enumerate() {
                let is_even = (round + number) % 2 == 0;
                let (snapshot, first, number) = if is_even {
                    (&even, 0, ONE)
                } else {
                    (&odd, 1, TWO)
                };
                instance.restore(snapshot).expect("a restore");
                for page in 0..pages {
                    let expected = if page % 2 == first { number + page } else { 0 };
                    assert_eq!(marks(instance, page), expected, "page {page}");
                }
                // Writes are the instance's own.
                guest::fill(instance, &(REGION..REGION + pages * PAGE));
            }
        }
        for instance in &mut instances {
            instance.reset().expect("a reset");
            assert_eq!(guest::search(instance, &(REGION..REGION + BYTES)), 0);
            assert_eq!((0..pages).map(|page| marks(instance, page)).sum::<u64>(), 0);
        }
    }
}

#[test]
fn nobody_s_writes_change_a_template() {
    for engine in engines().into_iter().filter(Engine::can_change_maps) {
        let module = module(&engine);
        let contents: Vec<u8> = (1..=100u8).flat_map(|page| [page; 0x1000]).collect();
        let template = Template::new(&engine, &contents).expect("a template");
        let mut instances: Vec<Instance> = (0..3)
            .map(|_| engine.instantiate(&module).expect("an instance"))
            .collect();
        let span = NOWHERE..NOWHERE + template.bytes();
        for instance in &mut instances {
            for as_host in [false, true] {
                let mapped = instance.map_template(NOWHERE, &template, Protection::ReadWrite);
                mapped.expect("a template");
                let before = instance.read(NOWHERE, template.bytes()).expect("memory");
                assert!(before == contents);
                if as_host {
                    let pattern = PATTERN.to_le_bytes().repeat(contents.len() / 8);
                    instance.write(NOWHERE, &pattern).expect("memory");
                } else {
                    guest::fill(instance, &span);
                }
                instance.unmap(NOWHERE, template.bytes()).expect("unmapped");
            }
            // Read-only, a guest cannot write it, and the host writes a copy.
            let mapped = instance.map_template(NOWHERE, &template, Protection::Read);
            mapped.expect("a template");
            instance
                .write_as_host(NOWHERE, &PATTERN.to_le_bytes())
                .expect("memory");
            assert_eq!(finish(instance, Program::Read, &[NOWHERE]), PATTERN);
            assert_eq!(finish(instance, Program::Read, &[NOWHERE + PAGE]) & 0xff, 2);
            instance.reset().expect("a reset");
        }
        // What is left of the last one, in an instance that has never touched it.
        let mut last = engine.instantiate(&module).expect("an instance");
        last.map_template(NOWHERE, &template, Protection::ReadWrite)
            .expect("a template");
        assert_eq!(guest::search(&mut last, &span), 0);
        assert!(last.read(NOWHERE, template.bytes()).expect("memory") == contents);
    }
}
