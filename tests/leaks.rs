//! After many instances the host is as it was: descriptors, mappings, children, threads.
//!
//! It runs in a process of its own, since the other tests open and close things meanwhile.

use std::fs;
use std::time::Duration;

use cellwall::Interrupt;
use iced_x86::code_asm::{CodeAssembler, rax, rdi};

use crate::harness::{alone, assemble, call, children, engine, eventually, parts};

const CYCLES: usize = 300;

#[derive(Debug, PartialEq, Eq)]
struct Standing {
    descriptors: usize,
    mappings: usize,
    threads: usize,
    children: usize,
}

fn standing() -> Standing {
    let count = |path: &str| fs::read_dir(path).unwrap().count();
    let lines = |path: &str| fs::read_to_string(path).unwrap().lines().count();
    Standing {
        descriptors: count("/proc/self/fd"),
        mappings: lines("/proc/self/maps"),
        threads: count("/proc/self/task"),
        children: children(),
    }
}

/// Finishes with its argument, or traps on zero.
fn guest(code: &mut CodeAssembler) {
    let mut fine = code.create_label();
    code.test(rdi, rdi).unwrap();
    code.jne(fine).unwrap();
    code.ud2().unwrap();
    code.set_label(&mut fine).unwrap();
    code.mov(rax, rdi).unwrap();
    code.ret().unwrap();
}

fn make_and_drop_many() {
    let engine = engine();
    let module = parts(&assemble(guest)).build(&engine).unwrap();
    let cycle = |round: usize| {
        let mut instance = engine.instantiate(&module).unwrap();
        call(&mut instance, &[(round % 3) as u64]);
        let interrupt = instance.run().unwrap();
        assert!(matches!(
            interrupt,
            Interrupt::Finished(_) | Interrupt::Trap(_)
        ));
    };
    // What is made once and kept.
    (0..10).for_each(cycle);
    eventually(Duration::from_secs(5), "all reaped", || {
        standing().children == 0
    });
    let before = standing();
    (0..CYCLES).for_each(cycle);
    eventually(Duration::from_secs(5), "as before", || standing() == before);
    let threads: Vec<_> = (0..8).collect();
    std::thread::scope(|scope| {
        for _ in &threads {
            scope.spawn(|| (0..CYCLES / 8).for_each(cycle));
        }
    });
    eventually(
        Duration::from_secs(5),
        "as before, without children",
        || {
            let now = standing();
            // The allocator keeps an arena for threads that are gone.
            now.descriptors == before.descriptors
                && now.threads == before.threads
                && now.children == 0
                && now.mappings <= before.mappings + 32
        },
    );
}

#[test]
fn nothing_is_left_behind() {
    alone("leaks::nothing_is_left_behind", make_and_drop_many);
}
