//! What an engine has counted after a known sequence.

mod spans;

use std::time::Duration;

use cellwall::{
    Blame, Config, Death, Engine, Instance, Interrupt, Kills, Metrics, Module, PageFault, Paged,
    PoolConfig, Protection,
};
use iced_x86::code_asm::{dword_ptr, ecx, qword_ptr, rax, rdi};
use linux_raw::Errno;
use linux_raw::nr;
use linux_raw::seccomp::{Cond, Is, Program, Refusal, compile_refusing, length_refusing};

use crate::harness::{
    alone, assemble, both, call, calls_or_traps, config, eventually, forbid, kill, parts, start,
};

/// Where nothing is until a pager maps it.
const PAGED: u64 = 0x3000_0000;
const PAGE: u64 = 4096;

/// A guest that makes a hostcall, or traps with an argument.
fn module(engine: &Engine) -> Module {
    let module = parts(&assemble(calls_or_traps)).build(engine);
    module.expect("a module")
}

fn new(engine: &Engine, module: &Module) -> Instance {
    engine.instantiate(module).expect("an instance")
}

/// A hostcall, answered: two turns.
fn two_turns(instance: &mut Instance) {
    call(instance, &[0]);
    assert!(matches!(instance.run().unwrap(), Interrupt::Hostcall(_)));
    instance.answer(5).unwrap();
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(5));
}

/// The counts that are no times.
fn counts(metrics: &Metrics) -> [u64; 6] {
    [
        metrics.spawns.count(),
        metrics.failed_spawns,
        metrics.reuses.count(),
        metrics.resets.count(),
        metrics.turns,
        metrics.faults,
    ]
}

fn kills(kills: Kills) -> [u64; 5] {
    let Kills {
        dropped,
        unresponsive,
        forged,
        spoiled,
        died,
        ..
    } = kills;
    [dropped, unresponsive, forged, spoiled, died]
}

#[test]
fn starts_turns_and_resets() {
    both(|config| {
        let engine = Engine::new(config).unwrap();
        assert_eq!(engine.metrics(), Metrics::default());
        let module = module(&engine);
        let mut one = new(&engine, &module);
        two_turns(&mut one);
        one.reset().unwrap();
        two_turns(&mut one);
        call(&mut one, &[1]);
        assert!(matches!(one.run().unwrap(), Interrupt::Trap(_)));
        let snapshot = one.snapshot().unwrap();
        one.restore(&snapshot).unwrap();
        let two = new(&engine, &module);
        // Turns are an instance's own until it is dropped.
        assert_eq!(counts(&engine.metrics()), [2, 0, 0, 2, 0, 0]);
        drop(one);
        let metrics = engine.metrics();
        assert_eq!(counts(&metrics), [2, 0, 0, 2, 5, 0]);
        assert_eq!(kills(metrics.kills), [1, 0, 0, 0, 0]);
        drop(two);
        let metrics = engine.metrics();
        assert_eq!(counts(&metrics), [2, 0, 0, 2, 5, 0]);
        assert_eq!(kills(metrics.kills), [2, 0, 0, 0, 0]);
        let longest = metrics.spawns.percentile(100).unwrap();
        assert!(longest > Duration::from_micros(1) && longest < 2 * Duration::from_secs(5));
    });
}

#[test]
fn failed_starts() {
    both(|config| {
        let engine = Engine::new(&config.clone().engine_memory_limit(PAGE)).unwrap();
        let module = module(&engine);
        for _ in 0..3 {
            assert!(engine.instantiate(&module).is_err());
        }
        assert_eq!(counts(&engine.metrics()), [0, 3, 0, 0, 0, 0]);
        assert_eq!(kills(engine.metrics().kills), [0; 5]);
    });
}

#[test]
fn one_turn_in_many_is_timed() {
    let engine = Engine::new(&config()).unwrap();
    let mut instance = new(&engine, &module(&engine));
    for _ in 0..3 * 1024 / 2 {
        two_turns(&mut instance);
    }
    drop(instance);
    let metrics = engine.metrics();
    assert_eq!((metrics.turns, metrics.timed_turns.count()), (3 * 1024, 3));
    assert!(metrics.timed_turns.percentile(50).unwrap() >= Duration::from_nanos(64));
}

#[test]
fn page_faults() {
    let engine = Engine::new(&config()).unwrap();
    if !engine.can_change_maps() {
        return absence::absent("userfaultfd", "there are no page faults");
    }
    let code = assemble(|code| {
        code.mov(rax, qword_ptr(rdi)).unwrap();
        code.mov(rax, qword_ptr(rdi + 0x1000)).unwrap();
        code.mov(rax, qword_ptr(rdi + 0x2000)).unwrap();
        code.ret().unwrap();
    });
    let module = parts(&code).dynamic_paging().build(&engine).unwrap();
    let mut instance = new(&engine, &module);
    instance.set_pager(|fault: &PageFault, instance: &mut Instance| {
        instance.map_zero(fault.page(), PAGE, Protection::Read)?;
        Ok(Paged::Retry)
    });
    call(&mut instance, &[PAGED]);
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(0));
    drop(instance);
    let metrics = engine.metrics();
    assert!(metrics.faults >= 3, "{}", metrics.faults);
    // The entry, and the return from each.
    assert_eq!(metrics.turns, 1 + metrics.faults);
}

#[test]
fn the_ends_of_workers() {
    both(|config| {
        let ends = |config: &Config, end: fn(&Engine), expected: [u64; 5]| {
            let engine = Engine::new(config).unwrap();
            end(&engine);
            assert_eq!(kills(engine.metrics().kills), expected);
        };
        let dies: fn(&Engine) = |engine| {
            let mut instance = new(engine, &module(engine));
            kill(instance.process_id(), "-KILL");
            call(&mut instance, &[0]);
            assert!(matches!(instance.run().unwrap(), Interrupt::Died(_)));
        };
        let forges: fn(&Engine) = |engine| {
            let mut instance = start(engine, |code| {
                let mut again = code.create_label();
                code.mov(rax, cellwall::abi::TURN_LINE).unwrap();
                code.mov(ecx, 0x7f).unwrap();
                code.xchg(dword_ptr(rax), ecx).unwrap();
                code.set_label(&mut again).unwrap();
                code.jmp(again).unwrap();
            });
            call(&mut instance, &[]);
            let error = instance.run().unwrap_err();
            assert!(matches!(error.blame, Blame::Forged(_)), "{error}");
        };
        let does_not_stop: fn(&Engine) = |engine| {
            let mut instance = new(engine, &module(engine));
            kill(instance.process_id(), "-STOP");
            instance.set_deadline(Duration::from_millis(5));
            call(&mut instance, &[0]);
            let end = instance.run().unwrap();
            assert_eq!(end, Interrupt::Died(Death::Unresponsive));
        };
        ends(config, dies, [0, 0, 0, 0, 1]);
        ends(config, forges, [0, 0, 1, 0, 0]);
        ends(config, does_not_stop, [0, 1, 0, 0, 0]);
        // A pool has nothing to keep of them.
        let pooled = config.clone().pool(PoolConfig::new());
        ends(&pooled, dies, [0, 0, 0, 0, 1]);
        ends(&pooled, forges, [0, 0, 1, 0, 0]);
        ends(&pooled, does_not_stop, [0, 1, 0, 0, 0]);
    });
}

#[test]
fn what_the_pool_gives_again() {
    both(|config| {
        // Where there may be no more, one that is just being cleaned is waited for.
        let pool = PoolConfig::new().most(1);
        let engine = Engine::new(&config.clone().pool(pool)).unwrap();
        let module = module(&engine);
        for _ in 0..5 {
            two_turns(&mut new(&engine, &module));
        }
        let metrics = engine.metrics();
        assert_eq!(counts(&metrics), [1, 0, 4, 0, 10, 0]);
        assert_eq!(kills(metrics.kills), [0; 5]);
    });
}

#[test]
fn what_the_pool_does_not_keep() {
    both(|config| {
        let engine = Engine::new(&config.clone().pool(PoolConfig::new().idle(1))).unwrap();
        let module = module(&engine);
        drop([new(&engine, &module), new(&engine, &module)]);
        // At once, or when the one that is being cleaned comes back.
        let ended = || kills(engine.metrics().kills) == [1, 0, 0, 0, 0];
        eventually(Duration::from_secs(10), "one is one too many", ended);
        assert_eq!(counts(&engine.metrics()), [2, 0, 0, 0, 0, 0]);
    });
}

const NO_BARRIER: [Refusal; 1] = [Refusal {
    call: nr::MEMBARRIER,
    // MEMBARRIER_CMD_GLOBAL_EXPEDITED: what an eviction takes. Workers register by another one.
    when: &[Cond {
        arg: 0,
        is: Is::Equal(2),
    }],
    errno: Errno::EPERM,
}];
static NO_EVICTION: Program<{ length_refusing(&NO_BARRIER) }> = compile_refusing(&NO_BARRIER);

/// What cannot be wiped is nobody's any more.
#[test]
fn one_that_cannot_be_made_as_new() {
    alone("metrics::one_that_cannot_be_made_as_new", || {
        forbid(&NO_EVICTION);
        both(|config| {
            let engine = Engine::new(config).unwrap();
            let module = module(&engine);
            let mut instance = new(&engine, &module);
            two_turns(&mut instance);
            let error = instance.reset().unwrap_err();
            let expected = Blame::Kernel {
                call: "membarrier",
                errno: Errno::EPERM,
            };
            assert_eq!(error.blame, expected, "{error}");
            assert!(!instance.is_alive());
            drop(instance);
            assert_eq!(kills(engine.metrics().kills), [0, 0, 0, 1, 0]);

            // Whoever cleans it, the pool's thread or the next caller, finds out.
            let pool = PoolConfig::new().most(1);
            let engine = Engine::new(&config.clone().pool(pool)).unwrap();
            for ended in 1..=5 {
                two_turns(&mut new(&engine, &module));
                let spoiled = || kills(engine.metrics().kills) == [0, 0, 0, ended, 0];
                eventually(Duration::from_secs(10), "each is used once", spoiled);
            }
        });
    });
}
