//! What is said of an instance's memory is what the kernel says of it.

use cellwall::{Engine, Instance, Protection};
use linux_raw::memfd;

use super::{BOTH, INITIAL, NOWHERE, PAGE, guest, instance, stats};
use crate::harness::{CONSTANTS, DATA, STACK, config, proc};
use crate::memory::tenants::traces::Traces;

/// What the kernel has for this instance in its memory file.
fn file_bytes(instance: &Instance) -> u64 {
    let traces = Traces::of(instance);
    memfd::allocated_bytes(traces.file("cellwall-memory")).expect("fstat")
}

/// What the worker has of that file in its page table.
fn worker_bytes(instance: &Instance) -> u64 {
    let smaps = proc(instance, "smaps");
    let mut is_memory = false;
    let mut kib = 0;
    for line in smaps.lines() {
        let first = line.split_whitespace().next().expect("a word");
        if first.contains('-') {
            is_memory = line.contains("/memfd:cellwall-memory");
        } else if is_memory && first == "Rss:" {
            let size = line.trim_start_matches("Rss:").trim_end_matches("kB");
            kib += size.trim().parse::<u64>().expect("a size");
        }
    }
    kib * 1024
}

#[test]
fn the_kernel_says_the_same() {
    for fixed in [false, true] {
        let engine = Engine::new(&config().fixed_memory(fixed)).expect("an engine");
        let mut one = instance(&engine);
        let same = |one: &mut Instance, hidden: u64| {
            let now = stats(one);
            assert_eq!(now.resident, file_bytes(one) + hidden);
            assert!(
                now.resident <= now.mapped && now.resident <= now.peak,
                "{now:?}"
            );
            assert!(worker_bytes(one) <= file_bytes(one));
            now
        };
        assert_eq!(same(&mut one, 0).dirty, 0);
        // What the guest alone touches is in its page table: with the page of its stack, of which
        // this is the first.
        for pages in [1, 5, 15] {
            guest::fill(&mut one, &(DATA..DATA + pages * PAGE));
            let now = same(&mut one, 0);
            assert_eq!(
                (now.resident, worker_bytes(&one)),
                ((pages + 1) * PAGE, now.resident)
            );
            assert_eq!((now.dirty, now.peak), (now.resident, now.resident));
        }
        // A look takes nothing, a write takes a page.
        let before = stats(&mut one);
        one.read(CONSTANTS, 8).expect("memory");
        one.read(STACK, 8).expect("memory");
        assert_eq!(stats(&mut one), before);
        one.store(STACK, 1u64).expect("memory");
        assert_eq!(same(&mut one, 0).resident, before.resident + PAGE);
        if engine.can_change_maps() {
            one.map_zero(NOWHERE, 64 * PAGE, BOTH).expect("pages");
            assert_eq!(same(&mut one, 0).resident, before.resident + 65 * PAGE);
            one.map_zero(NOWHERE + 0x100_0000, 4096 * PAGE, BOTH)
                .expect("pages");
            assert_eq!(same(&mut one, 0).resident, before.resident + 65 * PAGE);
            one.protect(NOWHERE, 16 * PAGE, Protection::None)
                .expect("hidden");
            assert_eq!(
                same(&mut one, 16 * PAGE).resident,
                before.resident + 65 * PAGE
            );
            one.unmap(NOWHERE, 32 * PAGE).expect("unmapped");
            let now = same(&mut one, 0);
            assert_eq!(now.resident, before.resident + 33 * PAGE);
            assert!(now.peak >= before.resident + 65 * PAGE);
        }
        one.reset().expect("a reset");
        let now = same(&mut one, 0);
        assert_eq!((now.dirty, now.mapped), (0, INITIAL));
    }
}
