//! What workers without an instance hold.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use cellwall::{Blame, Config, Engine, Instance, Misuse, Module, PoolConfig, Protection};

use super::{SETTLED, engine, is_new, module};
use crate::harness::{alone, both, eventually, parts};

pub(super) const PAGE: u64 = 4096;
pub(super) const BIG: u64 = 0x100_0000;
const BIG_BYTES: u64 = 4 << 20;

/// What the files of guest memory take from the machine, as far as this process knows them.
fn held_by_files() -> u64 {
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let memory = descriptors.filter(|entry| {
        fs::read_link(entry.path())
            .is_ok_and(|file| file.to_string_lossy().starts_with("/memfd:cellwall-memory"))
    });
    // `st_blocks` has units of 512 bytes, whatever the file system.
    let bytes = |entry: fs::DirEntry| Some(fs::metadata(entry.path()).ok()?.blocks() * 512);
    memory.filter_map(bytes).sum()
}

fn big_module(engine: &Engine) -> Module {
    let builder = parts(&[0xc3]).zeroed(BIG, BIG_BYTES, Protection::ReadWrite);
    builder.build(engine).unwrap()
}

fn touch_all(instance: &mut Instance) {
    let contents = vec![0x5a; usize::try_from(BIG_BYTES).unwrap()];
    instance.write(BIG, &contents).unwrap();
    assert!(instance.memory_stats().unwrap().resident >= BIG_BYTES);
}

#[test]
fn an_idle_worker_keeps_as_much_as_it_may() {
    alone(
        "pool::memory::an_idle_worker_keeps_as_much_as_it_may",
        || {
            both(|config| {
                for kept in [0, 16 * PAGE, 1 << 20] {
                    let engine = engine(config, &PoolConfig::new().idle_memory(kept));
                    let module = big_module(&engine);
                    let mut instances = [(); 3].map(|()| engine.instantiate(&module).unwrap());
                    instances.iter_mut().for_each(touch_all);
                    assert!(held_by_files() >= 3 * BIG_BYTES);
                    drop(instances);
                    eventually(SETTLED, "memory is given back", || {
                        held_by_files() <= 3 * kept
                    });
                    // What is kept is kept for somebody.
                    assert_eq!(held_by_files(), 3 * kept);
                    let mut next = engine.instantiate(&module).unwrap();
                    assert_eq!(next.memory_stats().unwrap().resident, kept);
                    let zeros = vec![0; usize::try_from(BIG_BYTES).unwrap()];
                    assert!(next.read(BIG, BIG_BYTES).unwrap() == zeros);
                }
            });
        },
    );
}

/// Room for two of [`module`]'s instances, and not for three.
pub(super) fn tight(config: &Config, pool: &PoolConfig) -> Engine {
    let probe = engine(config, &PoolConfig::new());
    let first = probe.instantiate(&module(&probe)).unwrap();
    let limit = probe.memory_held() * 5 / 2;
    drop(first);
    engine(&config.clone().engine_memory_limit(limit), pool)
}

#[test]
fn what_the_idle_hold_counts_and_is_nobody_s_loss() {
    both(|config| {
        let engine = tight(config, &PoolConfig::new());
        let (one, other) = (module(&engine), module(&engine));
        let first = engine.instantiate(&one).unwrap();
        let each = engine.memory_held();
        let second = engine.instantiate(&one).unwrap();
        assert_eq!(engine.memory_held(), 2 * each);
        let refused = engine.instantiate(&one).unwrap_err();
        let is_limit = |blame| matches!(blame, Blame::Caller(Misuse::EngineMemoryLimit { .. }));
        assert!(is_limit(refused.blame));
        drop(first);
        // The idle one is counted, and gives way to an instance of another module.
        assert_eq!(engine.memory_held(), 2 * each);
        let mut third = engine.instantiate(&other).unwrap();
        is_new(&mut third);
        assert_eq!(engine.memory_held(), 2 * each);
        // What instances hold does not give way.
        assert!(is_limit(engine.instantiate(&other).unwrap_err().blame));
        drop(second);
        if engine.can_change_maps() {
            // It gives way to an instance that grows, too.
            third.map_zero(BIG, each, Protection::ReadWrite).unwrap();
            assert_eq!(engine.memory_held(), 2 * each);
            assert!(is_limit(
                third
                    .map_zero(BIG + each, each, Protection::ReadWrite)
                    .unwrap_err()
                    .blame
            ));
        }
    });
}

#[test]
fn nothing_is_held_when_all_are_gone() {
    both(|config| {
        let engine = engine(config, &PoolConfig::new().idle(0));
        let module = module(&engine);
        let many = [(); 4].map(|()| engine.instantiate(&module).unwrap());
        assert!(engine.memory_held() > 0);
        drop(many);
        assert_eq!(engine.memory_held(), 0);
    });
}
