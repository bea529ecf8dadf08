//! The pool keeps a tenant's worker for the next, who finds it as new.

use std::thread::sleep;
use std::time::Duration;

use cellwall::{Config, Engine, Instance, Interrupt, MemoryStats, PoolConfig};

use super::guest::{self, DUMP, DUMP_BYTES, Program, run};
use super::traces::Traces;
use super::{
    AMOUNTS, Amount, ENDS, End, NOWHERE, PATTERN, fill_code, fill_module, fill_more, fill_worker,
    live, look, look_at_memory, module,
};
use crate::harness::{both, config};

/// How long until the pool's thread has cleaned what nobody wants at once, and before.
const RESTS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(30)];

/// Pools of one worker, for both kinds of workers and both kinds of maps.
fn engines(change: impl Fn(Config) -> Config) -> Vec<Engine> {
    let mut engines = Vec::new();
    both(|config| {
        let pool = PoolConfig::new().most(1).wait(Duration::from_secs(10));
        let config = change(config.clone()).pool(pool);
        for config in [config.clone().fixed_memory(true), config] {
            engines.push(Engine::new(&config).expect("an engine"));
        }
    });
    engines
}

/// What an embedder sees of a new instance before it does anything.
fn first_look(instance: &mut Instance) -> (MemoryStats, i64) {
    assert_eq!(instance.registers(), None);
    (instance.memory_stats().expect("stats"), instance.gas())
}

/// Whether that is as it was with the first one. Pages are kept: that is what a pool is for.
fn is_first(now: (MemoryStats, i64), first: (MemoryStats, i64), what: &str) {
    let (stats, gas) = now;
    assert_eq!(
        (stats.mapped, stats.dirty, gas),
        (first.0.mapped, 0, first.1),
        "{what}"
    );
    assert_eq!(stats.peak, stats.resident, "{what}");
}

/// What the guest finds in its registers.
fn registers(instance: &mut Instance) -> Vec<u8> {
    instance.zero(DUMP, DUMP_BYTES as u64).expect("memory");
    guest::registers(instance)
}

/// Leaves what is the instance's own, and not its worker's.
fn set_all(instance: &mut Instance) {
    instance.set_deadline(Duration::from_nanos(1));
    instance.set_gas(-7);
    instance.watch_gas(Duration::from_millis(1));
    instance.set_pager(|_: &_, _: &mut Instance| panic!("the pager of another instance"));
}

/// None of that is there: the guest runs, and its fault is the caller's.
fn nothing_is_set(instance: &mut Instance, engine: &Engine, what: &str) {
    let touched = run(instance, Program::Read, &[NOWHERE]);
    let is_caller_s = match touched {
        Interrupt::PageFault(_) => engine.can_change_maps(),
        Interrupt::Trap(_) => !engine.can_change_maps(),
        _ => false,
    };
    assert!(is_caller_s, "{what}: {touched}");
}

#[test]
fn the_next_tenant_of_a_pooled_worker_finds_nothing() {
    for engine in engines(|config| config) {
        let module = module(&engine);
        let mut fresh = engine.instantiate(&module).expect("an instance");
        let (worker, first) = (fresh.process_id(), first_look(&mut fresh));
        let fresh_registers = registers(&mut fresh);
        drop(fresh);
        for (number, rest) in RESTS.into_iter().cycle().take(ENDS.len()).enumerate() {
            let (amount, end) = (AMOUNTS[number % AMOUNTS.len()], ENDS[number]);
            let what = format!("{amount:?}, {end:?}, {rest:?}");
            let mut old = engine.instantiate(&module).expect("an instance");
            live(&mut old, &engine, amount, end, number % 2 == 1);
            set_all(&mut old);
            drop(old);
            sleep(rest);
            let mut new = engine.instantiate(&module).expect("an instance");
            assert_eq!(new.process_id(), worker, "{what}");
            is_first(first_look(&mut new), first, &what);
            look(&mut new, &engine, &what);
            assert_eq!(registers(&mut new), fresh_registers, "{what}");
            nothing_is_set(&mut new, &engine, &what);
        }
    }
}

/// Who serves one tenant alone gets memory, settings and registers as new, and not the pages that
/// the worker itself writes.
#[test]
fn a_single_tenant_of_a_pooled_worker_finds_its_memory_as_new() {
    for engine in engines(|config| config.single_tenant(true)) {
        let module = module(&engine);
        let mut fresh = engine.instantiate(&module).expect("an instance");
        let (worker, first) = (fresh.process_id(), first_look(&mut fresh));
        let fresh_registers = registers(&mut fresh);
        drop(fresh);
        for (number, rest) in RESTS.into_iter().cycle().take(ENDS.len()).enumerate() {
            let what = format!("{:?}, {rest:?}", ENDS[number]);
            let mut old = engine.instantiate(&module).expect("an instance");
            fill_module(&mut old, Amount::Scattered);
            if number % 2 == 1 {
                fill_more(&mut old, &engine);
            }
            fill_code(&mut old);
            fill_worker(&mut old, ENDS[number]);
            set_all(&mut old);
            drop(old);
            sleep(rest);
            let mut new = engine.instantiate(&module).expect("an instance");
            assert_eq!(new.process_id(), worker, "{what}");
            let traces = Traces::of(&new).found(PATTERN);
            let is_own = |name: &str| name != "cellwall-shared-pages";
            assert!(
                !traces.iter().any(|(name, _)| is_own(name)),
                "{what}: {traces:x?}"
            );
            is_first(first_look(&mut new), first, &what);
            look_at_memory(&mut new, &engine, &what);
            assert_eq!(registers(&mut new), fresh_registers, "{what}");
            nothing_is_set(&mut new, &engine, &what);
        }
    }
}

/// A handle that somebody has kept stops nobody else.
#[test]
fn an_old_handle_does_not_interrupt_the_next() {
    let pool = PoolConfig::new().most(1);
    let engine = Engine::new(&config().pool(pool)).expect("an engine");
    let module = module(&engine);
    let mut old = engine.instantiate(&module).expect("an instance");
    let (handle, worker) = (old.interrupt_handle(), old.process_id());
    fill_worker(&mut old, End::Finished);
    handle.interrupt();
    drop(old);
    let mut new = engine.instantiate(&module).expect("an instance");
    assert_eq!(new.process_id(), worker);
    for _ in 0..100 {
        handle.interrupt();
        assert_eq!(
            run(&mut new, Program::Read, &[super::STACK]),
            Interrupt::Finished(0)
        );
    }
}
