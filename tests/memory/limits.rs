//! No instance, and not all of an engine's together, holds more memory than it may.

mod kernel;

use cellwall::{
    Blame, Config, Engine, Error, Instance, Interrupt, MemoryStats, Misuse, Module, PageFault,
    Paged, Protection, Template,
};

use super::tenants::guest::{self, Program, finish, run};
use crate::harness::{DATA, DATA_BYTES, STACK, STACK_BYTES, config};

const PAGE: u64 = 0x1000;
const HEAP: u64 = 0x80_0000;
const HEAP_BYTES: u64 = 0x40_0000;
const NOWHERE: u64 = 0x2000_0000;
/// What an instance holds from the start.
const INITIAL: u64 = DATA_BYTES + STACK_BYTES;
/// What it may hold.
const LIMIT: u64 = 1 << 20;
const BOTH: Protection = Protection::ReadWrite;

fn module(engine: &Engine) -> Module {
    let builder = guest::builder()
        .zeroed(DATA, DATA_BYTES, BOTH)
        .stack(STACK, STACK_BYTES);
    let builder = if engine.can_change_maps() {
        builder.heap(HEAP, HEAP_BYTES).dynamic_paging()
    } else {
        builder
    };
    builder.build(engine).expect("a module")
}

fn instance(engine: &Engine) -> Instance {
    engine.instantiate(&module(engine)).expect("an instance")
}

fn sevens(bytes: u64) -> Vec<u8> {
    vec![7; usize::try_from(bytes).expect("a length")]
}

fn stats(instance: &mut Instance) -> MemoryStats {
    instance.memory_stats().expect("stats")
}

fn misuse<T: std::fmt::Debug>(done: Result<T, Error>) -> Misuse {
    match done.expect_err("over the limit").blame {
        Blame::Caller(misuse) => misuse,
        other => panic!("{other}"),
    }
}

/// An engine that pages, under these limits; or a note that there is none.
fn paging(config: &Config) -> Option<Engine> {
    let engine = Engine::new(config).expect("an engine");
    if engine.can_change_maps() {
        return Some(engine);
    }
    absence::absent("userfaultfd", "the map is fixed here");
    None
}

type Attempt = fn(&mut Instance, &Template) -> Result<(), Error>;

/// Ways to ask for as many bytes as [`TOO_MANY`] says.
const ATTEMPTS: [(&str, Attempt); 7] = [
    ("few zeros", |one, _| one.map_zero(NOWHERE, TOO_MANY, BOTH)),
    ("to read", |one, _| {
        one.map_zero(NOWHERE, TOO_MANY, Protection::Read)
    }),
    ("hidden", |one, _| {
        one.map_zero(NOWHERE, TOO_MANY, Protection::None)
    }),
    ("data", |one, _| {
        one.map_data(NOWHERE, &sevens(TOO_MANY), BOTH)
    }),
    ("hidden data", |one, _| {
        one.map_data(NOWHERE, &sevens(TOO_MANY), Protection::None)
    }),
    ("a template", |one, template| {
        one.map_template(NOWHERE, template, BOTH)
    }),
    ("the heap", |one, _| {
        one.grow_heap(TOO_MANY.cast_signed()).map(drop)
    }),
];
/// A page more than there is room for.
const TOO_MANY: u64 = LIMIT - INITIAL + PAGE;

/// Tries all that is too much: each is refused so, and changes nothing.
fn refuses_everything(one: &mut Instance, engine: &Engine, expected: &Misuse) {
    let template = Template::new(engine, &sevens(TOO_MANY)).expect("a template");
    let before = (stats(one), engine.memory_held());
    for (name, attempt) in ATTEMPTS {
        assert_eq!(misuse(attempt(one, &template)), *expected, "{name}");
        assert_eq!((stats(one), engine.memory_held()), before, "{name}");
        let touched = run(one, Program::Write, &[NOWHERE, 1]);
        assert!(
            matches!(touched, Interrupt::PageFault(_)),
            "{name}: {touched}"
        );
    }
}

#[test]
fn an_instance_holds_no_more_than_it_may() {
    let Some(engine) = paging(&config().memory_limit(LIMIT)) else {
        return;
    };
    let mut one = instance(&engine);
    finish(&mut one, Program::Write, &[DATA, 1]);
    assert_eq!(stats(&mut one).mapped, INITIAL);
    let expected = Misuse::MemoryLimit {
        bytes: LIMIT + PAGE,
        limit: LIMIT,
    };
    refuses_everything(&mut one, &engine, &expected);
    // What is just enough is had, in each way and again once it is given back.
    let room = LIMIT - INITIAL;
    let template = Template::new(&engine, &sevens(room)).expect("a template");
    for way in 0..5 {
        let (start, mapped) = match way {
            0 => (NOWHERE, one.map_zero(NOWHERE, room, BOTH)),
            1 => (NOWHERE, one.map_data(NOWHERE, &sevens(room), BOTH)),
            2 => (NOWHERE, one.map_template(NOWHERE, &template, BOTH)),
            3 => (HEAP, one.grow_heap(room.cast_signed()).map(drop)),
            _ => (NOWHERE, one.map_zero(NOWHERE, room, Protection::None)),
        };
        mapped.expect("what there is room for");
        assert_eq!(
            (stats(&mut one).mapped, engine.memory_held()),
            (LIMIT, LIMIT)
        );
        // What cannot be touched holds memory no less, and a guard none.
        one.protect(DATA, PAGE, Protection::None).expect("hidden");
        one.guard(NOWHERE + 0x100_0000, LIMIT).expect("a guard");
        assert_eq!(stats(&mut one).mapped, LIMIT);
        let full = Misuse::MemoryLimit {
            bytes: LIMIT + PAGE,
            limit: LIMIT,
        };
        assert_eq!(misuse(one.map_zero(NOWHERE + 0x80_0000, PAGE, BOTH)), full);
        if way < 4 {
            one.protect(DATA, PAGE, BOTH).expect("shown");
            guest::fill(&mut one, &(start..start + room));
            assert!(stats(&mut one).resident <= LIMIT);
        }
        match way {
            0 | 1 => one.unmap(NOWHERE, room).expect("unmapped"),
            3 => drop(one.grow_heap(-room.cast_signed()).expect("a smaller heap")),
            _ => one.reset().expect("a reset"),
        }
        assert_eq!(
            (stats(&mut one).mapped, engine.memory_held()),
            (INITIAL, INITIAL)
        );
        one.reset().expect("a reset");
    }
    drop(one);
    assert_eq!(engine.memory_held(), 0);
}

#[test]
fn an_engine_s_instances_hold_no_more_together() {
    const OTHERS: u64 = 0x10_0000;
    let Some(engine) = paging(&config().engine_memory_limit(LIMIT + OTHERS + INITIAL)) else {
        return;
    };
    let module = module(&engine);
    let mut other = engine.instantiate(&module).expect("an instance");
    other.map_zero(NOWHERE, OTHERS, BOTH).expect("pages");
    let mut one = engine.instantiate(&module).expect("an instance");
    finish(&mut one, Program::Write, &[DATA, 1]);
    let limit = LIMIT + OTHERS + INITIAL;
    let expected = Misuse::EngineMemoryLimit {
        used: OTHERS + 2 * INITIAL,
        bytes: TOO_MANY,
        limit,
    };
    refuses_everything(&mut one, &engine, &expected);
    // A snapshot's map counts as it is restored; what was there before stays if it is too much.
    let large = other.snapshot().expect("a snapshot");
    one.map_zero(NOWHERE, LIMIT - INITIAL, BOTH).expect("pages");
    assert_eq!(engine.memory_held(), limit);
    let expected = |bytes| Misuse::EngineMemoryLimit {
        used: limit,
        bytes,
        limit,
    };
    assert_eq!(
        misuse(engine.instantiate(&module).map(drop)),
        expected(INITIAL)
    );
    finish(&mut one, Program::Write, &[NOWHERE, 77]);
    one.write_as_host(DATA, b"mine").expect("memory");
    assert_eq!(
        misuse(one.restore(&large)),
        expected(OTHERS - (LIMIT - INITIAL))
    );
    assert_eq!(finish(&mut one, Program::Read, &[NOWHERE]), 77);
    assert_eq!(one.read(DATA, 4).expect("memory"), b"mine");
    // Once there is room it goes, and everything is given back in the end.
    other.reset().expect("a reset");
    one.restore(&large).expect("a restore");
    assert_eq!(stats(&mut one).mapped, INITIAL + OTHERS);
    assert_eq!(engine.memory_held(), 2 * INITIAL + OTHERS);
    drop(other);
    assert_eq!(engine.memory_held(), INITIAL + OTHERS);
    drop(one);
    assert_eq!(engine.memory_held(), 0);
}

/// A module whose own map no longer fits when it is to be reset.
#[test]
fn a_reset_that_does_not_fit_changes_nothing() {
    let Some(engine) = paging(&config().engine_memory_limit(2 * INITIAL)) else {
        return;
    };
    let module = module(&engine);
    let mut one = engine.instantiate(&module).expect("an instance");
    one.unmap(DATA, DATA_BYTES / 2).expect("unmapped");
    one.store(DATA + DATA_BYTES / 2, 5u64).expect("memory");
    let mut other = engine.instantiate(&module).expect("an instance");
    other
        .map_zero(NOWHERE, DATA_BYTES / 2, BOTH)
        .expect("pages");
    let expected = Misuse::EngineMemoryLimit {
        used: 2 * INITIAL,
        bytes: DATA_BYTES / 2,
        limit: 2 * INITIAL,
    };
    assert_eq!(misuse(one.reset()), expected);
    assert_eq!(finish(&mut one, Program::Read, &[DATA + DATA_BYTES / 2]), 5);
    drop(other);
    one.reset().expect("a reset");
    assert_eq!(finish(&mut one, Program::Read, &[DATA]), 0);
    assert_eq!(engine.memory_held(), INITIAL);
}

/// A snapshot of an instance that may hold more than this one.
#[test]
fn a_restore_is_bound_by_the_instance_s_limit() {
    let Some(large) = paging(&config()) else {
        return;
    };
    let small = Engine::new(&config().memory_limit(LIMIT)).expect("an engine");
    let module = module(&large);
    let mut one = large.instantiate(&module).expect("an instance");
    one.map_zero(NOWHERE, LIMIT, BOTH).expect("pages");
    let snapshot = one.snapshot().expect("a snapshot");
    let mut two = small.instantiate(&module).expect("an instance");
    two.store(DATA, 6u64).expect("memory");
    let expected = Misuse::MemoryLimit {
        bytes: LIMIT + INITIAL,
        limit: LIMIT,
    };
    assert_eq!(misuse(two.restore(&snapshot)), expected);
    assert_eq!(finish(&mut two, Program::Read, &[DATA]), 6);
    assert_eq!(
        (small.memory_held(), stats(&mut two).mapped),
        (INITIAL, INITIAL)
    );
}

/// Without paging all is held from the start.
#[test]
fn a_fixed_map_is_held_from_the_start() {
    let builder = |engine: &Engine| {
        let builder = guest::builder()
            .zeroed(DATA, DATA_BYTES, BOTH)
            .heap(HEAP, HEAP_BYTES);
        builder.stack(STACK, STACK_BYTES).build(engine)
    };
    let all = INITIAL + HEAP_BYTES;
    let config = config().fixed_memory(true);
    let enough = Engine::new(&config.clone().engine_memory_limit(2 * all)).expect("an engine");
    let module = builder(&enough).expect("a module");
    let mut one = enough.instantiate(&module).expect("an instance");
    let two = enough.instantiate(&module).expect("an instance");
    assert_eq!(
        (stats(&mut one).mapped, enough.memory_held()),
        (all, 2 * all)
    );
    let expected = Misuse::EngineMemoryLimit {
        used: 2 * all,
        bytes: all,
        limit: 2 * all,
    };
    assert_eq!(misuse(enough.instantiate(&module).map(drop)), expected);
    for span in [DATA..DATA + DATA_BYTES, HEAP..HEAP + HEAP_BYTES] {
        guest::fill(&mut one, &span);
    }
    assert!(stats(&mut one).resident <= all);
    drop((one, two));
    assert_eq!(enough.memory_held(), 0);
    let little = Engine::new(&config.memory_limit(HEAP_BYTES)).expect("an engine");
    let refused = misuse(builder(&little).map(drop));
    assert!(
        matches!(
            refused,
            Misuse::MemoryLimit {
                limit: HEAP_BYTES,
                ..
            }
        ),
        "{refused}"
    );
}

/// A guest that touches everything, and a pager that maps whatever it touches.
#[test]
fn a_greedy_guest_gets_no_more_than_its_limit() {
    let Some(engine) = paging(&config().memory_limit(LIMIT)) else {
        return;
    };
    let mut one = instance(&engine);
    one.set_pager(|fault: &PageFault, instance: &mut Instance| {
        instance.map_zero(fault.page(), PAGE, BOTH)?;
        Ok(Paged::Retry)
    });
    let words = 4 * LIMIT / 8;
    let mut stopped = run(&mut one, Program::Fill, &[NOWHERE, words, 1]);
    let mut rounds = 0;
    // Whenever it can get no more, it gives back what it has written.
    while let Interrupt::OutOfMemory(fault) = stopped {
        assert_eq!(fault.address, NOWHERE + (LIMIT - INITIAL) * (rounds + 1));
        let now = stats(&mut one);
        assert_eq!(now.mapped, LIMIT);
        assert!(now.resident <= LIMIT && now.peak <= LIMIT, "{now:?}");
        let again = one.run().expect("a turn");
        assert_eq!(again, Interrupt::OutOfMemory(fault));
        let start = NOWHERE + (LIMIT - INITIAL) * rounds;
        one.unmap(start, fault.page() - start).expect("unmapped");
        rounds += 1;
        stopped = one.run().expect("a turn");
    }
    assert_eq!(stopped, Interrupt::Finished(1));
    assert_eq!(rounds, 4 * LIMIT / (LIMIT - INITIAL));
}
