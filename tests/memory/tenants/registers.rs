//! Every register that a guest is entered with is a fresh worker's, whatever the one before left.

use cellwall::{Engine, Instance, Module, Protection};

use super::guest::{self, DUMP, DUMP_BYTES, Program, cpu_has, finish};
use super::{ENDS, PATTERN, engines, fill_worker, traces};
use crate::harness::{DATA, DATA_BYTES, STACK, STACK_BYTES, engine};

fn module(engine: &Engine) -> Module {
    let builder = guest::builder()
        .zeroed(DATA, DATA_BYTES, Protection::ReadWrite)
        .stack(STACK, STACK_BYTES);
    builder.build(engine).expect("a module")
}

/// What a guest finds, without what is in memory: it is emptied before.
fn found(instance: &mut Instance) -> Vec<u8> {
    instance.zero(DUMP, DUMP_BYTES as u64).expect("memory");
    guest::registers(instance)
}

#[test]
fn registers_are_a_fresh_worker_s() {
    for engine in engines() {
        let module = module(&engine);
        let fresh = found(&mut engine.instantiate(&module).expect("an instance"));
        assert_eq!(traces::first(&fresh, PATTERN), None);
        let mut instance = engine.instantiate(&module).expect("an instance");
        for end in ENDS {
            fill_worker(&mut instance, end);
            instance.reset().expect("a reset");
            assert_eq!(found(&mut instance), fresh, "{end:?}, reset");

            fill_worker(&mut instance, end);
            // Its memory is kept with a guest in the middle of something.
            let kept = instance.snapshot().expect("a snapshot");
            instance.restore(&kept).expect("a restore");
            assert_eq!(found(&mut instance), fresh, "{end:?}, restored");

            // Called anew without either: what is in memory stays, registers do not.
            fill_worker(&mut instance, end);
            assert_eq!(found(&mut instance), fresh, "{end:?}, called anew");
        }
    }
}

/// The dump shows what it is to show: within one call nothing is cleared.
#[test]
fn the_dump_sees_what_a_tenant_leaves() {
    let engine = engine();
    let mut instance = engine.instantiate(&module(&engine)).expect("an instance");
    let fresh = found(&mut instance);
    finish(&mut instance, Program::TaintAndDump, &[PATTERN]);
    let tainted = guest::dump_of(&mut instance);
    let words = |bytes: &[u8]| {
        let words = bytes.chunks_exact(8);
        words.filter(|word| **word == PATTERN.to_le_bytes()).count()
    };
    // General, MMX and vector registers, segment bases.
    let expected = 15
        + 8
        + match () {
            () if cpu_has("avx512f") => 32 * 8 + 8,
            () if cpu_has("avx") => 16 * 4,
            () => 16 * 2,
        }
        + if cpu_has("fsgsbase") { 2 } else { 0 };
    assert_eq!((words(&fresh), words(&tainted)), (0, expected));
    // Flags and selectors, and the two control words.
    for at in [0x80, 0x88, 0x100, 0x100 + 24] {
        assert_ne!(fresh[at..at + 8], tainted[at..at + 8], "{at:#x}");
    }
}
