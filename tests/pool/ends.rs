//! How workers without an instance end, and starts that fail.

use std::fs;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, sleep};
use std::time::Duration;

use cellwall::{Config, Engine, Instance, PoolConfig};
use linux_raw::Errno;
use linux_raw::process::{Resource, get_limit, set_limit};

use super::{SETTLED, both_pools, die, engine, highest_descriptor, is_exhausted, is_new, module};
use crate::harness::forked::{in_a_child, is_refused};
use crate::harness::{alone, both, children, eventually, exists, workers};

/// Before the pool's thread cleans a worker, and after.
const RESTS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(20)];

/// What a process has of an engine's.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    descriptors: usize,
    threads: usize,
    mappings: usize,
    children: usize,
}

impl Standing {
    fn now() -> Self {
        let count = |path: &str| fs::read_dir(path).unwrap().count();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let ours = maps.lines().filter(|line| line.contains("cellwall"));
        Self {
            descriptors: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
            mappings: ours.count(),
            children: children(),
        }
    }
}

#[test]
fn one_that_has_died_is_given_to_nobody() {
    alone("pool::ends::one_that_has_died_is_given_to_nobody", || {
        both_pools(&PoolConfig::new().most(1), |engine| {
            let module = module(engine);
            for rest in RESTS {
                let instance = engine.instantiate(&module).unwrap();
                let worker = instance.process_id();
                drop(instance);
                sleep(rest);
                die(worker);
                let mut next = engine.instantiate(&module).unwrap();
                assert_ne!(next.process_id(), worker);
                is_new(&mut next);
                drop(next);
                assert!(!exists(worker));
                assert_eq!(workers().len(), 1);
            }
            drop(engine.instantiate(&module).unwrap());
            assert_eq!(engine.metrics().kills.died, 2);
        });
    });
}

/// What an engine of idle workers leaves behind when it is dropped: nothing, at once.
#[test]
fn the_idle_are_gone_when_the_engine_is() {
    alone("pool::ends::the_idle_are_gone_when_the_engine_is", || {
        both(|config| {
            for rest in RESTS {
                let before = Standing::now();
                let engine = engine(config, &PoolConfig::new().spares(1));
                let modules = [module(&engine), module(&engine)];
                for module in &modules {
                    drop([(); 3].map(|()| engine.instantiate(module).unwrap()));
                }
                sleep(rest);
                assert!(workers().len() >= 6);
                drop(modules);
                drop(engine);
                let after = Standing::now();
                assert_eq!((after.children, after.mappings), (0, before.mappings));
                assert_eq!(after.descriptors, before.descriptors);
                // A thread that was joined can be seen for an instant more.
                eventually(SETTLED, "no thread", || Standing::now() == before);
            }
        });
    });
}

#[test]
fn an_engine_is_dropped_while_a_spare_is_made() {
    alone(
        "pool::ends::an_engine_is_dropped_while_a_spare_is_made",
        || {
            both(|config| {
                let before = Standing::now();
                for round in 0..30 {
                    let engine = engine(config, &PoolConfig::new().spares(8));
                    let module = module(&engine);
                    let instance = engine.instantiate(&module).unwrap();
                    sleep(Duration::from_micros(300 * round));
                    drop((module, engine));
                    // The instance has the engine now.
                    drop(instance);
                    assert_eq!(children(), 0, "round {round}");
                }
                eventually(SETTLED, "nothing is left", || Standing::now() == before);
            });
        },
    );
}

#[test]
fn a_forked_child_has_no_pool() {
    alone("pool::ends::a_forked_child_has_no_pool", || {
        both(|config| {
            // As many as there may be: none is made to spare meanwhile, and one that is just being
            // cleaned is waited for.
            let engine = engine(config, &PoolConfig::new().spares(1).most(2));
            let module = module(&engine);
            drop([(); 2].map(|()| engine.instantiate(&module).unwrap()));
            sleep(RESTS[1]);
            let mut held = engine.instantiate(&module).unwrap();
            let before = workers();
            let mut inherited = Some((engine, module, held));
            in_a_child(|| {
                let (engine, module, instance) = inherited.take().unwrap();
                assert!(is_refused(engine.instantiate(&module)));
                drop(instance);
                assert!(is_refused(engine.instantiate(&module)));
                drop((module, engine));
            });
            let (engine, module);
            (engine, module, held) = inherited.unwrap();
            assert_eq!(workers(), before);
            is_new(&mut held);
            drop(held);
            let mut again = [(); 2].map(|()| engine.instantiate(&module).unwrap());
            assert!(again.iter().all(|one| before.contains(&one.process_id())));
            again.iter_mut().for_each(is_new);
        });
    });
}

/// A child has a copy of each lock, as it was when somebody held it.
#[test]
fn forks_meet_a_busy_pool() {
    const FORKS: usize = 200;
    alone("pool::ends::forks_meet_a_busy_pool", || {
        both_pools(&PoolConfig::new().most(4).wait(SETTLED), |engine| {
            let module = module(engine);
            let over = AtomicBool::new(false);
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        while !over.load(Relaxed) {
                            drop(engine.instantiate(&module).unwrap());
                        }
                    });
                }
                let mut held = Some(engine.instantiate(&module).unwrap());
                for _ in 0..FORKS {
                    in_a_child(|| drop(held.take()));
                }
                is_new(held.as_mut().unwrap());
                over.store(true, Relaxed);
            });
        });
    });
}

/// Starts that fail for `why`, more of them than there may be workers; after which there may be as
/// many as before.
fn fail_often(engine: &Engine, most: usize, fail: impl Fn(&dyn Fn() -> Option<Errno>)) {
    let module = module(engine);
    let start = || match engine.instantiate(&module) {
        Ok(_) => None,
        Err(error) => match error.blame {
            cellwall::Blame::Kernel { errno, .. } => Some(errno),
            _ => panic!("{error}"),
        },
    };
    fail(&start);
    let mut all: Vec<Instance> = (0..most)
        .map(|_| engine.instantiate(&module).unwrap())
        .collect();
    all.iter_mut().for_each(is_new);
    assert!(is_exhausted(engine.instantiate(&module), most));
}

#[test]
fn starts_that_fail_take_nobody_s_place() {
    const MOST: usize = 3;
    alone("pool::ends::starts_that_fail_take_nobody_s_place", || {
        both_pools(&PoolConfig::new().most(MOST), |engine| {
            fail_often(engine, MOST, |start| {
                let limit = get_limit(Resource::Files).unwrap();
                let open = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
                set_limit(Resource::Files, open - 1, limit.hard).unwrap();
                let ends: Vec<_> = (0..MOST + 5).map(|_| start()).collect();
                set_limit(Resource::Files, limit.soft, limit.hard).unwrap();
                assert_eq!(ends, vec![Some(Errno::EMFILE); MOST + 5]);
            });
            assert_eq!(engine.metrics().failed_spawns, MOST as u64 + 5);
        });
    });
}

/// What lies about unused is no reason for a start to fail.
#[test]
fn the_idle_give_way_where_descriptors_are_short() {
    const TEST: &str = "pool::ends::the_idle_give_way_where_descriptors_are_short";
    const IDLE: usize = 6;
    alone(TEST, || {
        both_pools(&PoolConfig::new(), |engine| {
            let modules = [module(engine), module(engine)];
            let many = [(); IDLE].map(|()| engine.instantiate(&modules[0]).unwrap());
            let old: Vec<u32> = many.iter().map(Instance::process_id).collect();
            drop(many);
            sleep(RESTS[1]);
            let limit = get_limit(Resource::Files).unwrap();
            let highest = highest_descriptor();
            set_limit(Resource::Files, highest + 1, limit.hard).unwrap();
            let first = engine.instantiate(&modules[1]).unwrap();
            let left = old.iter().filter(|worker| exists(**worker)).count();
            assert!((1..IDLE).contains(&left), "{left} of {IDLE} are left");
            // Then the rest of them, and then there is nobody left who could.
            let mut held = vec![first];
            let error = loop {
                match engine.instantiate(&modules[1]) {
                    Ok(instance) => held.push(instance),
                    Err(error) => break error,
                }
                assert!(held.len() <= 2 * IDLE, "{held:?}");
            };
            set_limit(Resource::Files, limit.soft, limit.hard).unwrap();
            let text = error.to_string();
            assert!(text.contains("RLIMIT_NOFILE"), "{text}");
            assert!(!old.into_iter().any(exists));
            held.iter_mut().for_each(is_new);
            println!("{} in the place of {IDLE}", held.len());
        });
    });
}

/// The engine's memory is used up by instances: that is no start that failed half-way.
#[test]
fn starts_without_memory_take_nobody_s_place() {
    const MOST: usize = 3;
    both(|config| {
        let bytes = {
            let probe = engine(config, &PoolConfig::new());
            let _one = probe.instantiate(&module(&probe)).unwrap();
            probe.memory_held()
        };
        let config: Config = config.clone().engine_memory_limit(bytes * 3 / 2);
        let engine = engine(&config, &PoolConfig::new().most(MOST));
        let module = module(&engine);
        let mut held = engine.instantiate(&module).unwrap();
        for _ in 0..MOST + 5 {
            let error = engine.instantiate(&module).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("engine_memory_limit"), "{text}");
        }
        is_new(&mut held);
        drop(held);
        is_new(&mut engine.instantiate(&module).unwrap());
    });
}
