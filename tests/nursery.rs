//! One nursery clones an engine's workers: what it is, what its workers share and do not share, and
//! what is left of one for the next.

mod asked;
mod looks;
mod lost;
mod many;
mod reuse;

use cellwall::{Engine, Instance, Interrupt, Module};

use crate::harness::{alone, call, config, is_nursed, nurseries, parts};

/// Runs `body` in a process of its own, where there are nurseries.
fn alone_with_one(test: &str, body: impl FnOnce()) {
    if !is_nursed(&config()) {
        return absence::absent("full-tier", "a nursery takes namespaces");
    }
    alone(test, body);
}

/// The only one that there is.
fn nursery() -> u32 {
    let nurseries = nurseries();
    let [nursery] = nurseries[..] else {
        panic!("one nursery: {nurseries:?}")
    };
    nursery
}

/// A module whose guest returns.
fn returning(engine: &Engine) -> Module {
    parts(&[0xc3]).build(engine).unwrap()
}

fn works(instance: &mut Instance) {
    call(instance, &[]);
    assert!(matches!(instance.run().unwrap(), Interrupt::Finished(_)));
}
