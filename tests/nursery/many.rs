//! Many workers at once, from many threads: nothing piles up in the nursery.

use std::fs;
use std::thread;
use std::time::Duration;

use cellwall::{Engine, Instance};

use super::{alone_with_one, nursery, returning, works};
use crate::harness::{
    call, calls_or_traps, children, children_of, engine, eventually, nurseries, start, workers,
};

const THREADS: usize = 16;
const ROUNDS: usize = 30;
const MANY: usize = 300;
const SOON: Duration = Duration::from_secs(10);
/// By then the host has let go of all that was a worker's that it has reaped.
const QUIET: Duration = Duration::from_millis(100);
/// How many descriptors a nursery has beside those of memories: its own, 16 modules, two that are
/// fresh, and code.
const OTHERS: usize = 7 + 16 + 2 + 1;

fn descriptors(nursery: u32) -> usize {
    fs::read_dir(format!("/proc/{nursery}/fd")).unwrap().count()
}

/// What is behind its descriptors that has this in its name.
fn has(nursery: u32, name: &str) -> usize {
    let entries = fs::read_dir(format!("/proc/{nursery}/fd"))
        .unwrap()
        .flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    links
        .filter(|link| link.to_string_lossy().contains(name))
        .count()
}

#[test]
fn sixteen_threads_start_and_drop() {
    alone_with_one("nursery::many::sixteen_threads_start_and_drop", || {
        let engine = engine();
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let module = returning(&engine);
                    for _ in 0..ROUNDS {
                        works(&mut engine.instantiate(&module).unwrap());
                    }
                });
            }
        });
        let nursery = nursery();
        eventually(SOON, "all are reaped", || children_of(nursery).is_empty());
        // Their modules are gone with the first start that follows.
        thread::sleep(QUIET);
        let module = returning(&engine);
        works(&mut engine.instantiate(&module).unwrap());
        assert_eq!(has(nursery, "cellwall-module"), 1);
        drop((module, engine));
        eventually(SOON, "nothing is left", || children() == 0);
    });
}

/// Zombies are children, too.
#[test]
fn three_hundred_at_once() {
    alone_with_one("nursery::many::three_hundred_at_once", || {
        let engine = engine();
        let module = returning(&engine);
        for _ in 0..3 {
            let mut instances: Vec<Instance> = (0..MANY)
                .map(|_| engine.instantiate(&module).unwrap())
                .collect();
            instances.iter_mut().for_each(works);
            let nursery = nursery();
            assert_eq!(children_of(nursery).len(), MANY);
            assert_eq!(children(), 1);
            assert!(
                descriptors(nursery) <= MANY + OTHERS,
                "{}",
                descriptors(nursery)
            );
            drop(instances);
            eventually(SOON, "all are reaped", || children_of(nursery).is_empty());
        }
        // It keeps one for each place that there was, and no more.
        let found = descriptors(nursery());
        assert!(found <= MANY + OTHERS, "{found}");
    });
}

/// A file of a module's is as large as its contents: nobody is to keep it for long.
#[test]
fn modules_that_are_gone_are_given_back() {
    alone_with_one(
        "nursery::many::modules_that_are_gone_are_given_back",
        || {
            let engine = engine();
            let in_the_nursery = || has(nursery(), "cellwall-module");
            let kept = returning(&engine);
            let mut alive = engine.instantiate(&kept).unwrap();
            for _ in 0..3 {
                let modules: Vec<_> = (0..40).map(|_| returning(&engine)).collect();
                for module in &modules {
                    works(&mut engine.instantiate(module).unwrap());
                    assert!(in_the_nursery() <= 16);
                }
                drop(modules);
                // With the first start after the last of their workers.
                eventually(SOON, "all are reaped", || workers().len() == 1);
                thread::sleep(QUIET);
                works(&mut engine.instantiate(&kept).unwrap());
                assert_eq!(in_the_nursery(), 1);
            }
            // Or with the next death.
            eventually(SOON, "it is reaped", || workers().len() == 1);
            let other = engine.instantiate(&kept).unwrap();
            let gone = returning(&engine);
            works(&mut engine.instantiate(&gone).unwrap());
            eventually(SOON, "it is reaped", || workers().len() == 2);
            assert_eq!(in_the_nursery(), 2);
            thread::sleep(QUIET);
            drop(gone);
            drop(other);
            eventually(SOON, "it is given back", || in_the_nursery() == 1);
            works(&mut alive);
        },
    );
}

#[test]
fn each_engine_has_one() {
    alone_with_one("nursery::many::each_engine_has_one", || {
        let engines: Vec<Engine> = (0..3).map(|_| engine()).collect();
        assert_eq!(nurseries(), [] as [u32; 0], "none before it is asked for");
        let mut instances: Vec<Instance> = engines
            .iter()
            .map(|engine| start(engine, calls_or_traps))
            .collect();
        let nurseries = nurseries();
        assert_eq!(nurseries.len(), 3);
        for nursery in &nurseries {
            assert_eq!(children_of(*nursery).len(), 1);
        }
        for instance in &mut instances {
            call(instance, &[0]);
            instance.run().unwrap();
        }
        drop((engines, instances));
        eventually(SOON, "nothing is left", || children() == 0);
    });
}
