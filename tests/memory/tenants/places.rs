//! A place that is used again has nothing of the module before.

use std::time::Duration;

use cellwall::{Engine, Instance, Interrupt, Module, Protection};
use vmctx::map;

use super::guest::{self, Program, run};
use super::traces::Traces;
use super::{
    Amount, ENDS, FEW, HEAP, HIDDEN, MANY, NOWHERE, PATTERN, TOP, WIDE, WINDOW, WORKERS, engines,
    live, look, module,
};
use crate::harness::{
    DATA, DATA_BYTES, STACK, STACK_BYTES, alone, config, eventually, is_nursed, proc, workers,
};

/// Where a worker's shared pages are in their file, and which memory file it has.
fn place(instance: &Instance) -> (String, String) {
    let maps = proc(instance, "maps");
    let word = |start: u64, number: usize| {
        let start = format!("{start:08x}-");
        let line = maps.lines().find(|line| line.starts_with(&start));
        let word = line.and_then(|line| line.split_whitespace().nth(number));
        word.expect("a mapping").to_owned()
    };
    (word(map::SHARED.start, 2), word(DATA, 4))
}

/// A new instance in this place, which is free a moment after its worker is gone: that is not seen
/// from outside.
fn in_place(its: &(String, String), engine: &Engine, module: &Module) -> Instance {
    let mut others = Vec::new();
    let mut new = None;
    eventually(Duration::from_secs(5), "its place is used again", || {
        let instance = engine.instantiate(module).expect("an instance");
        if place(&instance) == *its {
            new = Some(instance);
        } else {
            others.push(instance);
        }
        new.is_some()
    });
    new.expect("one in its place")
}

/// A module that has less, in the place of one that had everything.
#[test]
fn another_module_has_nothing_of_an_old_one() {
    let config = config();
    if !is_nursed(&config) {
        return absence::absent("full-tier", "no place is used again");
    }
    alone(
        "memory::tenants::places::another_module_has_nothing_of_an_old_one",
        || {
            for engine in engines() {
                let (module, small) = (module(&engine), guest::builder());
                let small = small
                    .zeroed(DATA, DATA_BYTES, Protection::ReadWrite)
                    .stack(STACK, STACK_BYTES);
                let small = small.build(&engine).expect("a module");
                for end in ENDS {
                    let mut old = engine.instantiate(&module).expect("an instance");
                    live(&mut old, &engine, Amount::Most, end, true);
                    let its = place(&old);
                    drop(old);
                    eventually(Duration::from_secs(5), "it is reaped", || {
                        workers().is_empty()
                    });
                    let mut new = in_place(&its, &engine, &small);
                    assert_eq!(Traces::of(&new).found(PATTERN), []);
                    let others = [DATA..DATA + DATA_BYTES, STACK..STACK + STACK_BYTES];
                    for span in WORKERS.iter().chain(&others) {
                        assert_eq!(guest::search(&mut new, span), 0, "{span:x?}");
                    }
                    for address in [WINDOW, FEW, MANY, WIDE, NOWHERE, HEAP, HIDDEN, TOP] {
                        let touched = run(&mut new, Program::Read, &[address]);
                        assert!(
                            matches!(touched, Interrupt::Trap(_)),
                            "{address:#x}: {touched}"
                        );
                    }
                    drop(new);
                    eventually(Duration::from_secs(5), "it is reaped", || {
                        workers().is_empty()
                    });
                }
            }
        },
    );
}

#[test]
fn a_new_instance_has_nothing_of_an_old_one() {
    for engine in engines() {
        let module = module(&engine);
        for end in ENDS {
            let mut old = engine.instantiate(&module).expect("an instance");
            live(&mut old, &engine, Amount::One, end, true);
            drop(old);
            let mut new = engine.instantiate(&module).expect("an instance");
            look(&mut new, &engine, "a new instance");
        }
    }
}
