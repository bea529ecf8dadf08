//! What the controllers of a group do to workers: less than they want, an error or an end that the
//! host is told of, and never the host's own.
//!
//! Few machines give their users controllers: `cargo xtask kernels --only cgroup` runs these where
//! there are some.

use std::time::{Duration, Instant};

use cellwall::{
    Blame, Cgroup, Config, Death, Engine, Errno, Error, Instance, Interrupt, Module, PageFault,
    Paged, Protection, Signal, Stage, Tier,
};
use iced_x86::code_asm::{CodeAssembler, byte_ptr, rdi, rsi};

use super::{Group, HIDDEN, SOON};
use crate::harness::{assemble, both, call, eventually, is_nursed, parts, tier};

const MIB: u64 = 1 << 20;
/// Where the guests have much memory, and how much.
const BIG: u64 = 0x100_0000;
const BIG_BYTES: u64 = 64 * MIB;
/// What the group may have in those tests.
const ALLOWED: u64 = 24 * MIB;
/// Where nothing is until a pager maps it.
const PAGED: u64 = 0x3000_0000;

/// A group that can have limits, or a note that there is none here.
fn limited(name: &str) -> Option<Group> {
    if tier() != Tier::Full {
        absence::absent("full-tier", HIDDEN);
        return None;
    }
    let group = Group::limited(name);
    if group.is_none() {
        absence::absent("cgroup-controllers", "no group has limits");
    }
    group
}

/// Writes into each of the pages from rdi on, as many bytes as rsi says.
fn touches(code: &mut CodeAssembler) {
    let mut again = code.create_label();
    code.set_label(&mut again).unwrap();
    code.mov(byte_ptr(rdi), 1).unwrap();
    code.add(rdi, 0x1000).unwrap();
    code.sub(rsi, 0x1000).unwrap();
    code.ja(again).unwrap();
    code.ret().unwrap();
}

fn touching(engine: &Engine) -> Module {
    let parts = parts(&assemble(touches)).zeroed(BIG, BIG_BYTES, Protection::ReadWrite);
    parts.build(engine).expect("a module")
}

fn touch(instance: &mut Instance, bytes: u64) -> Interrupt {
    call(instance, &[BIG, bytes]);
    instance.run().expect("a turn")
}

fn has_finished(interrupt: Interrupt) {
    assert!(matches!(interrupt, Interrupt::Finished(_)), "{interrupt}");
}

/// A group of which the kernel kills rather than swap, where it can do both.
fn short_of_memory(name: &str) -> Option<Group> {
    let group = limited(name)?;
    if group.0.join("memory.swap.max").exists() {
        group.write("memory.swap.max", "0");
    }
    Some(group)
}

fn with_memory(config: &Config, group: &Group) -> Engine {
    let limited = Cgroup::at(&group.0).memory_max(ALLOWED);
    let engine = Engine::new(&config.clone().cgroup(limited)).expect("an engine");
    assert_eq!(group.read("memory.max").trim(), ALLOWED.to_string());
    engine
}

/// How many bytes the group has.
fn held(group: &Group) -> u64 {
    group
        .read("memory.current")
        .trim()
        .parse()
        .expect("a number")
}

#[test]
fn a_guest_that_takes_more_memory_than_there_is_ends_alone() {
    both(|config| {
        let Some(group) = short_of_memory("memory") else {
            return;
        };
        let engine = with_memory(config, &group);
        let module = touching(&engine);
        let [mut one, mut other] = [(); 2].map(|()| engine.instantiate(&module).unwrap());
        has_finished(touch(&mut other, MIB));
        has_finished(touch(&mut one, ALLOWED / 2));
        assert!(held(&group) > ALLOWED / 2);
        assert_eq!(group.count("memory.events", "oom_kill"), 0);
        let end = touch(&mut one, BIG_BYTES);
        assert_eq!(end, Interrupt::Died(Death::Killed(Signal::KILL)));
        assert_eq!(group.count("memory.events", "oom_kill"), 1);
        // Its memory is there again when the instance is gone. The others have not noticed.
        drop(one);
        eventually(SOON, "its memory is given back", || {
            held(&group) < ALLOWED / 4
        });
        has_finished(touch(&mut other, 2 * MIB));
        let mut next = engine.instantiate(&module).unwrap();
        has_finished(touch(&mut next, ALLOWED / 2));
        drop((other, next));
        let kills = engine.metrics().kills;
        assert_eq!((kills.died, kills.dropped), (1, 2));
        assert_eq!(group.count("memory.events", "oom_kill"), 1);
    });
}

/// What the host puts into a guest's pages is the host's, wherever that is.
#[test]
fn what_the_host_writes_counts_for_the_host() {
    both(|config| {
        let Some(group) = short_of_memory("written") else {
            return;
        };
        let engine = with_memory(config, &group);
        let module = touching(&engine);
        let mut instance = engine.instantiate(&module).unwrap();
        let contents = vec![7; usize::try_from(BIG_BYTES).unwrap()];
        instance.write(BIG, &contents).unwrap();
        has_finished(touch(&mut instance, BIG_BYTES));
        assert!(held(&group) < ALLOWED / 2);
    });
}

/// A guest that has touched `bytes` where nothing was before, in pages that the host maps.
fn paged(engine: &Engine, bytes: u64) -> Result<Interrupt, Error> {
    let module = parts(&assemble(touches)).dynamic_paging();
    let module = module.build(engine).unwrap();
    let mut instance = engine.instantiate(&module).unwrap();
    instance.set_pager(|fault: &PageFault, instance: &mut Instance| {
        instance.map_zero(fault.page(), 0x1_0000, Protection::ReadWrite)?;
        Ok(Paged::Retry)
    });
    call(&mut instance, &[PAGED, bytes]);
    instance.run()
}

/// What a pager maps is the worker's: the kernel kills that, and goes on to others as long as the
/// host waits for the pages. The engine lives on in any case.
#[test]
fn a_guest_whose_pager_finds_no_memory_ends() {
    both(|config| {
        let Some(group) = short_of_memory("paged") else {
            return;
        };
        let engine = with_memory(config, &group);
        if !engine.can_change_maps() {
            return absence::absent("userfaultfd", "there are no page faults");
        }
        match paged(&engine, BIG_BYTES) {
            Ok(end) => assert!(matches!(end, Interrupt::Died(_)), "{end}"),
            Err(error) => assert!(is_out_of_memory(&error), "{error}"),
        }
        assert!(group.count("memory.events", "oom_kill") > 0);
        eventually(SOON, "its memory is given back", || {
            held(&group) < ALLOWED / 4
        });
        has_finished(paged(&engine, MIB).unwrap());
    });
}

fn is_out_of_memory(error: &Error) -> bool {
    matches!(error.blame, Blame::Kernel { errno, .. } if errno == Errno::ENOMEM)
}

/// The advice of docs/embedding.md: a limit of the engine's below the group's.
#[test]
fn the_engines_own_limit_is_met_before_anybody_is_killed() {
    both(|config| {
        let Some(group) = short_of_memory("below") else {
            return;
        };
        let config = config.clone().engine_memory_limit(ALLOWED / 2);
        let engine = with_memory(&config, &group);
        if !engine.can_change_maps() {
            return absence::absent("userfaultfd", "there are no page faults");
        }
        let end = paged(&engine, BIG_BYTES).unwrap();
        assert!(matches!(end, Interrupt::OutOfMemory(_)), "{end}");
        assert_eq!(group.count("memory.events", "oom_kill"), 0);
    });
}

#[test]
fn there_are_as_many_workers_as_processes_are_allowed() {
    both(|config| {
        let Some(group) = limited("pids") else {
            return;
        };
        let nurseries = u64::from(is_nursed(config));
        let allowed = Cgroup::at(&group.0).pids_max(2 + nurseries);
        let engine = Engine::new(&config.clone().cgroup(allowed)).unwrap();
        let module = touching(&engine);
        let mut held = [(); 2].map(|()| engine.instantiate(&module).unwrap());
        let error = engine.instantiate(&module).unwrap_err();
        let (call, errno) = ("clone3", Errno::EAGAIN);
        assert_eq!(error.blame, Blame::Kernel { call, errno }, "{error}");
        let stage = if is_nursed(config) {
            Stage::Nursery
        } else {
            Stage::Start
        };
        assert_eq!(error.stage, stage);
        assert!(error.to_string().contains("pids.max"), "{error}");
        assert!(group.count("pids.events", "max") > 0);
        // Those that are there go on, and one that goes makes room.
        held.iter_mut()
            .for_each(|instance| has_finished(touch(instance, MIB)));
        let [one, other] = held;
        drop(one);
        eventually(SOON, "there is room for another", || {
            engine.instantiate(&module).is_ok()
        });
        drop(other);
    });
}

#[test]
fn a_guest_takes_as_much_of_a_cpu_as_it_may() {
    const SPINS: Duration = Duration::from_secs(2);
    both(|config| {
        let Some(group) = limited("cpu") else {
            return;
        };
        // A twentieth: ten times as much is still less than a guest takes otherwise.
        let (share, period) = (5_000, 100_000);
        let slow = Cgroup::at(&group.0).cpu_max(share, period);
        let patient = config.clone().start_timeout(10 * SOON).stop_timeout(SOON);
        let engine = Engine::new(&patient.cgroup(slow)).unwrap();
        assert_eq!(group.read("cpu.max").trim(), format!("{share} {period}"));
        let module = parts(&[0xeb, 0xfe]).build(&engine).unwrap(); // jmp to itself
        let mut instance = engine.instantiate(&module).unwrap();
        instance.set_deadline(SPINS);
        call(&mut instance, &[]);
        let (before, begun) = (group.count("cpu.stat", "usage_usec"), Instant::now());
        assert_eq!(instance.run().unwrap(), Interrupt::Deadline);
        let spun = group.count("cpu.stat", "usage_usec") - before;
        let might = begun.elapsed().as_micros() * u128::from(share) / u128::from(period);
        assert!(u128::from(spun) < 10 * might, "{spun} us, not {might}");
        assert!(group.count("cpu.stat", "nr_throttled") > 0);
    });
}
