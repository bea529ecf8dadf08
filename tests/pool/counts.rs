//! How many workers there are, and whose.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use cellwall::{Engine, Instance, Module, PoolConfig};

use super::{SETTLED, all_workers, both_pools, die, is_exhausted, is_new, module};
use crate::harness::{alone, eventually, exists, workers};

fn ids(instances: &[Instance]) -> Vec<u32> {
    instances.iter().map(Instance::process_id).collect()
}

fn some(engine: &Engine, module: &Module, many: usize) -> Vec<Instance> {
    (0..many)
        .map(|_| engine.instantiate(module).unwrap())
        .collect()
}

#[test]
fn a_worker_is_its_module_s() {
    // Where there may be no more, one that is just being cleaned is waited for.
    both_pools(&PoolConfig::new().most(2), |engine| {
        let (one, other) = (module(engine), module(engine));
        let mut first = engine.instantiate(&one).unwrap();
        let worker = first.process_id();
        is_new(&mut first);
        drop(first);
        let mut others = engine.instantiate(&other).unwrap();
        assert_ne!(others.process_id(), worker);
        is_new(&mut others);
        let mut next = engine.instantiate(&one).unwrap();
        assert_eq!(next.process_id(), worker);
        is_new(&mut next);
    });
}

#[test]
fn nobody_has_what_somebody_has() {
    both_pools(&PoolConfig::new(), |engine| {
        let (one, other) = (module(engine), module(engine));
        drop(engine.instantiate(&one).unwrap());
        let mut all: Vec<Instance> = [&one, &other, &one, &other, &one]
            .map(|module| engine.instantiate(module).unwrap())
            .into();
        let different: BTreeSet<u32> = ids(&all).into_iter().collect();
        assert_eq!(different.len(), all.len());
        all.iter_mut().for_each(is_new);
    });
}

/// The last that came is the first that goes.
#[test]
fn no_more_stay_than_may() {
    alone("pool::counts::no_more_stay_than_may", || {
        both_pools(&PoolConfig::new().idle(2).most(5), |engine| {
            let (one, other) = (module(engine), module(engine));
            let many = some(engine, &one, 5);
            assert_eq!(workers().len(), 5);
            let kept = ids(&many[3..]);
            drop(many);
            eventually(SETTLED, "two are left", || workers().len() == 2);
            assert_eq!(all_workers(), kept.iter().copied().collect());
            // Who was there for long goes, although its module is not the one that is used.
            drop(some(engine, &other, 2));
            eventually(SETTLED, "two are left", || workers().len() == 2);
            assert!(!kept.iter().any(|worker| exists(*worker)));
            // With no room for more, one that is just being cleaned is waited for.
            let _full = some(engine, &one, 3);
            let before = engine.metrics().spawns.count();
            let mut again = some(engine, &other, 2);
            again.iter_mut().for_each(is_new);
            assert_eq!(engine.metrics().spawns.count(), before);
        });
    });
}

#[test]
fn nobody_stays_where_nobody_may() {
    alone("pool::counts::nobody_stays_where_nobody_may", || {
        both_pools(&PoolConfig::new().idle(0).spares(3).most(1), |engine| {
            let module = module(engine);
            for _ in 0..50 {
                is_new(&mut engine.instantiate(&module).unwrap());
            }
            eventually(SETTLED, "none is left", || workers().is_empty());
            assert_eq!(engine.metrics().spawns.count(), 50);
        });
    });
}

#[test]
fn at_the_limit_it_fails_at_once() {
    both_pools(&PoolConfig::new().most(2), |engine| {
        let (one, other) = (module(engine), module(engine));
        let first = engine.instantiate(&one).unwrap();
        let _second = engine.instantiate(&other).unwrap();
        for module in [&one, &other] {
            let begun = Instant::now();
            assert!(is_exhausted(engine.instantiate(module), 2));
            assert!(begun.elapsed() < Duration::from_millis(10));
        }
        drop(first);
        is_new(&mut engine.instantiate(&other).unwrap());
    });
}

#[test]
fn at_the_limit_it_waits_as_long_as_was_asked() {
    const WAIT: Duration = Duration::from_millis(200);
    both_pools(&PoolConfig::new().most(1).wait(WAIT), |engine| {
        let (one, other) = (module(engine), module(engine));
        let _held = engine.instantiate(&one).unwrap();
        let begun = Instant::now();
        assert!(is_exhausted(engine.instantiate(&other), 1));
        let took = begun.elapsed();
        assert!(took >= WAIT && took < 10 * WAIT, "{took:?}");
    });
}

#[test]
fn at_the_limit_it_gets_what_another_thread_drops() {
    const LATER: Duration = Duration::from_millis(50);
    both_pools(&PoolConfig::new().most(1).wait(SETTLED), |engine| {
        let modules = [module(engine), module(engine)];
        let mut held = engine.instantiate(&modules[0]).unwrap();
        for next in [0, 1, 1, 0] {
            let begun = Instant::now();
            held = thread::scope(|scope| {
                let waits = scope.spawn(|| engine.instantiate(&modules[next]).unwrap());
                sleep(LATER);
                assert!(!waits.is_finished());
                drop(held);
                waits.join().unwrap()
            });
            assert!(begun.elapsed() < LATER + SETTLED / 10);
            is_new(&mut held);
        }
    });
}

/// A worker that is being cleaned, or ended to make room, is waited for, however short the caller's
/// patience: he has dropped what he had.
#[test]
fn who_has_dropped_one_gets_one() {
    for idle in [0, 1] {
        both_pools(&PoolConfig::new().most(1).idle(idle), |engine| {
            let modules = [module(engine), module(engine)];
            for round in 0..200_u64 {
                let module = &modules[usize::try_from(round / 3 % 2).unwrap()];
                is_new(&mut engine.instantiate(module).unwrap());
                // Before, while and after the pool's thread cleans it.
                sleep(Duration::from_micros(100 * (round % 16)));
            }
        });
    }
}

/// Those that there are at one moment: each that was seen is still there when all had been seen.
fn at_once() -> usize {
    let seen = workers();
    seen.into_iter().filter(|worker| exists(*worker)).count()
}

/// Says so when it is dropped, by a panic too.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

const MOST: usize = 4;
const THREADS: u64 = 16;
const ROUNDS: u64 = 100;

/// Makes and drops instances, some of whose workers die before.
fn hammer(engine: &Engine, modules: &[Module; 2], thread: u64) {
    for round in 0..ROUNDS {
        let which = usize::try_from((thread + round / 7) % 2).unwrap();
        let mut instance = engine.instantiate(&modules[which]).unwrap();
        is_new(&mut instance);
        if round % 10 == thread % 10 {
            die(instance.process_id());
        }
    }
}

#[test]
fn there_are_never_more_than_there_may_be() {
    alone(
        "pool::counts::there_are_never_more_than_there_may_be",
        || {
            for idle in [1, MOST] {
                let pool = PoolConfig::new().most(MOST).idle(idle).spares(1);
                both_pools(&pool.wait(10 * SETTLED), |engine| {
                    let modules = [module(engine), module(engine)];
                    let over = AtomicBool::new(false);
                    let seen = thread::scope(|scope| {
                        let end = Ends(&over);
                        let watcher = scope.spawn(|| {
                            let mut most = 0;
                            while !over.load(Relaxed) {
                                most = most.max(at_once());
                            }
                            most
                        });
                        let hammers: Vec<_> = (0..THREADS)
                            .map(|thread| {
                                let modules = &modules;
                                scope.spawn(move || hammer(engine, modules, thread))
                            })
                            .collect();
                        hammers
                            .into_iter()
                            .for_each(|hammer| hammer.join().unwrap());
                        drop(end);
                        watcher.join().unwrap()
                    });
                    assert!((2..=MOST).contains(&seen), "{seen} at once");
                    eventually(SETTLED, "the idle are left", || workers().len() <= idle);
                    let metrics = engine.metrics();
                    let (spawned, reused) = (metrics.spawns.count(), metrics.reuses.count());
                    println!("{spawned} started, {reused} used again");
                    assert!(spawned + reused >= THREADS * ROUNDS);
                    assert_eq!(metrics.failed_spawns, 0);
                });
            }
        },
    );
}

#[test]
fn spares_are_made_and_used_and_made_again() {
    alone(
        "pool::counts::spares_are_made_and_used_and_made_again",
        || {
            both_pools(&PoolConfig::new().spares(2), |engine| {
                let (one, other) = (module(engine), module(engine));
                let started = |many: u64| {
                    let spawned = || engine.metrics().spawns.count();
                    eventually(SETTLED, "two spares", || spawned() == many);
                    // There they stay, and no more come.
                    sleep(Duration::from_millis(50));
                    assert_eq!((spawned(), workers().len() as u64), (many, many));
                };
                let mut used = some(engine, &one, 1);
                for many in 1..5 {
                    started(many + 2);
                    let spares = all_workers();
                    used.extend(some(engine, &one, 1));
                    let last = used.last_mut().unwrap();
                    assert!(spares.contains(&last.process_id()));
                    is_new(last);
                }
                // It was the first one alone that somebody waited for.
                assert_eq!(engine.metrics().reuses.count(), 4);
                started(5 + 2);
                used.extend(some(engine, &other, 1));
                started(6 + 4);
            });
        },
    );
}

/// Where no more may be kept, those of the module that was asked for last are, and no others are
/// made for ever.
#[test]
fn spares_take_the_places_of_the_idle() {
    alone("pool::counts::spares_take_the_places_of_the_idle", || {
        both_pools(&PoolConfig::new().spares(2).idle(2), |engine| {
            let (one, other) = (module(engine), module(engine));
            drop(some(engine, &one, 2));
            let held = engine.instantiate(&other).unwrap();
            let spawned = || engine.metrics().spawns.count();
            eventually(SETTLED, "two spares", || {
                spawned() >= 5 && workers().len() == 3
            });
            sleep(Duration::from_millis(100));
            assert!(spawned() <= 7, "{}", spawned());
            let kept = all_workers();
            let mut spares = some(engine, &other, 2);
            assert!(ids(&spares).iter().all(|worker| kept.contains(worker)));
            spares.iter_mut().for_each(is_new);
            drop((held, spares));
            // Three have come back for two places.
            eventually(SETTLED, "two are left", || workers().len() == 2);
        });
    });
}
