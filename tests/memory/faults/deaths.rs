//! A worker that is killed in a fault, in a pager, in the middle of a change of its map: it died,
//! and every later word says so.

use std::time::{Duration, Instant};

use cellwall::{
    Access, Blame, Death, Engine, Error, Instance, Interrupt, Misuse, Module, PageFault, Paged,
    Protection, Signal, Snapshot, Template,
};
use iced_x86::code_asm::{CodeAssembler, qword_ptr, rax, rdi};
use linux_raw::OwnedFd;
use linux_raw::pidfd::{PidfdFlags, pidfd_open, pidfd_send_signal};
use linux_raw::process::Pid;

use super::{NOWHERE, PAGE, next_fault, paging_engine};
use crate::harness::{DATA, DEATH_NOTICED, assemble, call, eventually, exists, parts};

const HEAP: u64 = 0x1000_0000;
const LARGE: u64 = 0x2000_0000;
const KILLED: Interrupt = Interrupt::Died(Death::Killed(Signal::KILL));

fn touch(code: &mut CodeAssembler) {
    code.inc(qword_ptr(rdi)).unwrap();
    code.mov(rax, qword_ptr(rdi)).unwrap();
    code.ret().unwrap();
}

fn module(engine: &Engine) -> Module {
    let module = parts(&assemble(touch))
        .heap(HEAP, 0x100 * PAGE)
        .dynamic_paging();
    module.build(engine).unwrap()
}

/// One that is stopped in a fault at `NOWHERE`, with pages of all kinds.
fn faulting(engine: &Engine, module: &Module) -> Instance {
    let mut instance = engine.instantiate(module).unwrap();
    instance.grow_heap(0x20_000).unwrap();
    instance
        .map_zero(LARGE, 1024 * PAGE, Protection::ReadWrite)
        .unwrap();
    instance
        .map_data(LARGE + 2048 * PAGE, &[1; 8192], Protection::Read)
        .unwrap();
    instance
        .map_data(LARGE + 3000 * PAGE, &[2; 8192], Protection::None)
        .unwrap();
    call(&mut instance, &[NOWHERE]);
    assert_eq!(next_fault(&mut instance).address, NOWHERE);
    instance
}

fn handle(instance: &Instance) -> OwnedFd {
    let worker = Pid::from_raw(instance.process_id()).unwrap();
    pidfd_open(worker, PidfdFlags::empty()).unwrap()
}

fn kill(instance: &Instance) {
    pidfd_send_signal(handle(instance), Some(Signal::KILL)).unwrap();
    eventually(DEATH_NOTICED, "it is dead", || !instance.is_alive());
}

fn is_over<T>(result: Result<T, Error>) -> bool {
    result.is_err_and(|error| error.blame == Blame::Caller(Misuse::Over))
}

/// Everything that changes the map or the contents, and what it says of a worker that is dead.
type Attempt = fn(&mut Instance, &Template, &Snapshot) -> Result<(), Error>;

const ATTEMPTS: [(&str, Attempt); 17] = [
    ("map_zero", |i, _, _| {
        i.map_zero(NOWHERE, PAGE, Protection::ReadWrite)
    }),
    ("map_zero read-only", |i, _, _| {
        i.map_zero(NOWHERE, PAGE, Protection::Read)
    }),
    ("map_zero of many", |i, _, _| {
        i.map_zero(NOWHERE, 1024 * PAGE, Protection::ReadWrite)
    }),
    ("map_data", |i, _, _| {
        i.map_data(NOWHERE, &[1; 5000], Protection::ReadWrite)
    }),
    ("map_data read-only", |i, _, _| {
        i.map_data(NOWHERE, &[1; 5000], Protection::Read)
    }),
    ("map_data hidden", |i, _, _| {
        i.map_data(NOWHERE, &[1; 5000], Protection::None)
    }),
    ("map_template", |i, template, _| {
        i.map_template(NOWHERE, template, Protection::Read)
    }),
    ("protect", |i, _, _| i.protect(DATA, PAGE, Protection::Read)),
    ("protect many", |i, _, _| {
        i.protect(LARGE, 1024 * PAGE, Protection::Read)
    }),
    ("let write", |i, _, _| {
        i.protect(LARGE + 2048 * PAGE, PAGE, Protection::ReadWrite)
    }),
    ("hide", |i, _, _| {
        i.protect(LARGE, 1024 * PAGE, Protection::None)
    }),
    ("show", |i, _, _| {
        i.protect(LARGE + 3000 * PAGE, PAGE, Protection::ReadWrite)
    }),
    ("unmap", |i, _, _| i.unmap(LARGE, 1024 * PAGE)),
    ("grow the heap", |i, _, _| i.grow_heap(0x8000).map(drop)),
    ("shrink the heap", |i, _, _| {
        i.grow_heap(-0x10_000).map(drop)
    }),
    ("reset", |i, _, _| i.reset()),
    ("restore", |i, _, snapshot| i.restore(snapshot)),
];

#[test]
fn killed_in_a_fault_nothing_misleads() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let module = module(&engine);
    let template = Template::new(&engine, &[3; 8192]).unwrap();
    let snapshot = faulting(&engine, &module).snapshot().unwrap();
    let held = engine.memory_held();
    for (name, attempt) in ATTEMPTS {
        let mut instance = faulting(&engine, &module);
        let worker = instance.process_id();
        kill(&instance);
        let done = attempt(&mut instance, &template, &snapshot);
        let says = format!("{name}: {done:?}");
        assert!(done.is_ok() || is_over(done), "{says}");
        // The host's own side of it is whole: it can be looked at, and kept.
        instance.memory_stats().unwrap();
        let _ = instance.read(DATA, 8);
        drop(instance.snapshot().unwrap());
        assert!(!instance.is_accessible(0, 1, Access::Read));
        // A fault that it may still be in is one to go on from, or else something is called.
        let end = instance.run().or_else(|_| {
            let entry = instance.module().entry();
            instance.call(entry, &[0])?;
            instance.run()
        });
        assert_eq!(end.unwrap(), KILLED, "{name}");
        assert!(
            is_over(instance.run()) && is_over(instance.call(0, &[])),
            "{name}"
        );
        assert!(
            is_over(attempt(&mut instance, &template, &snapshot)),
            "{name}"
        );
        assert!(!exists(worker), "{name}");
        drop(instance);
        assert_eq!(engine.memory_held(), held, "{name}");
    }
}

#[test]
fn killed_in_a_fault_and_told_in_time() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let module = module(&engine);
    let mut instance = faulting(&engine, &module);
    kill(&instance);
    let begun = Instant::now();
    assert_eq!(instance.run().unwrap(), KILLED);
    assert!(begun.elapsed() < DEATH_NOTICED);
    // A refused fault is a trap all the same; the death comes with the next run.
    let mut instance = faulting(&engine, &module);
    kill(&instance);
    assert_eq!(instance.refuse_fault().unwrap().address, Some(NOWHERE));
    call(&mut instance, &[DATA]);
    assert_eq!(instance.run().unwrap(), KILLED);
    // What the host would settle by itself is refused by nobody.
    let mut instance = faulting(&engine, &module);
    instance.map_zero(NOWHERE, PAGE, Protection::Read).unwrap();
    kill(&instance);
    assert_eq!(instance.run().unwrap(), KILLED);
}

#[test]
fn killed_in_a_pager() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let module = module(&engine);
    type Answer = fn(&PageFault, &mut Instance) -> Result<Paged, Error>;
    let answers: [Answer; 6] = [
        |_, _| Ok(Paged::Retry),
        |fault, instance| {
            instance.map_zero(fault.page(), PAGE, Protection::ReadWrite)?;
            Ok(Paged::Retry)
        },
        |fault, instance| {
            instance.map_data(fault.page(), &[1], Protection::Read)?;
            Ok(Paged::Retry)
        },
        |_, instance| {
            instance.unmap(LARGE, 1024 * PAGE)?;
            Ok(Paged::Retry)
        },
        |_, instance| {
            instance.protect(LARGE, 1024 * PAGE, Protection::Read)?;
            Ok(Paged::Retry)
        },
        |_, instance| {
            instance.reset()?;
            let entry = instance.module().entry();
            instance.call(entry, &[DATA])?;
            Ok(Paged::Retry)
        },
    ];
    for answer in answers {
        let mut instance = faulting(&engine, &module);
        instance.set_pager(move |fault: &PageFault, instance: &mut Instance| {
            kill(instance);
            answer(fault, instance)
        });
        let begun = Instant::now();
        let end = instance.run();
        assert!(begun.elapsed() < 2 * DEATH_NOTICED);
        // A reset says itself that there is nothing to reset any more.
        let says = format!("{end:?}");
        assert!(matches!(end, Ok(KILLED)) || is_over(end), "{says}");
    }
    // It runs the instance, and hears of the death itself.
    let mut instance = faulting(&engine, &module);
    instance.set_pager(|_: &PageFault, instance: &mut Instance| {
        kill(instance);
        call(instance, &[DATA]);
        assert_eq!(instance.run()?, KILLED);
        Ok(Paged::Retry)
    });
    assert!(is_over(instance.run()));
}

/// Everything that changes maps, over and over, until the worker dies of somebody else at any
/// moment: no call has another reason to fail than that it is over.
#[test]
fn killed_at_any_moment_of_a_change() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let module = module(&engine);
    let template = Template::new(&engine, &[3; 8192]).unwrap();
    let snapshot = faulting(&engine, &module).snapshot().unwrap();
    for round in 0..60 {
        let mut instance = faulting(&engine, &module);
        instance.unmap(LARGE, 8192 * PAGE).unwrap();
        let worker = handle(&instance);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(round * 37));
            pidfd_send_signal(worker, Some(Signal::KILL)).unwrap();
        });
        let begun = Instant::now();
        let end = loop {
            match changes(&mut instance, &template, &snapshot) {
                Ok(Interrupt::Finished(_)) => {}
                other => break other,
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "it does not die");
        };
        killer.join().unwrap();
        // Whoever was told that it is over is told of the death by the next run.
        let end = end.or_else(|error| {
            assert_eq!(error.blame, Blame::Caller(Misuse::Over), "{error}");
            call(&mut instance, &[DATA]);
            instance.run()
        });
        assert_eq!(end.unwrap(), KILLED);
    }
}

fn changes(
    instance: &mut Instance,
    template: &Template,
    snapshot: &Snapshot,
) -> Result<Interrupt, Error> {
    instance.map_zero(LARGE, 1024 * PAGE, Protection::ReadWrite)?;
    instance.map_data(LARGE + 1024 * PAGE, &[1; 9000], Protection::Read)?;
    instance.map_template(LARGE + 2048 * PAGE, template, Protection::ReadWrite)?;
    instance.write(LARGE + 5 * PAGE, &[1; 9000])?;
    instance.protect(LARGE, 2 * PAGE, Protection::Read)?;
    instance.protect(LARGE + 4 * PAGE, 4 * PAGE, Protection::None)?;
    instance.protect(LARGE + 4 * PAGE, 4 * PAGE, Protection::ReadWrite)?;
    let before = instance.grow_heap(0x3000)?;
    instance.grow_heap(-0x3000)?;
    let entry = instance.module().entry();
    instance.call(entry, &[NOWHERE])?;
    match instance.run()? {
        Interrupt::PageFault(fault) => {
            instance.map_zero(fault.page(), PAGE, Protection::ReadWrite)?
        }
        other => return Ok(other),
    }
    let end = instance.run()?;
    if end == KILLED {
        return Ok(end);
    }
    instance.unmap(NOWHERE, PAGE)?;
    instance.unmap(LARGE, 4096 * PAGE)?;
    if before % 0x2000 == 0 {
        instance.reset()?;
    } else {
        instance.restore(snapshot)?;
        instance.unmap(LARGE, 8192 * PAGE)?;
    }
    Ok(end)
}

/// In the middle of a run that the pager keeps going.
#[test]
fn killed_at_any_moment_of_many_faults() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let module = module(&engine);
    for round in 0..100_u64 {
        let mut instance = engine.instantiate(&module).unwrap();
        instance.set_pager(|fault: &PageFault, instance: &mut Instance| {
            instance.map_zero(fault.page(), PAGE, Protection::ReadWrite)?;
            instance.unmap(fault.page(), PAGE)?;
            Ok(Paged::Retry)
        });
        let worker = handle(&instance);
        call(&mut instance, &[NOWHERE]);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(round * 11));
            pidfd_send_signal(worker, Some(Signal::KILL)).unwrap();
            Instant::now()
        });
        assert_eq!(instance.run().unwrap(), KILLED);
        let noticed = Instant::now();
        let took = noticed.saturating_duration_since(killer.join().unwrap());
        assert!(took < DEATH_NOTICED, "{took:?}");
    }
}
