//! A child that the host forks while its instances are stopped in faults: it is refused whatever it
//! tries, and nothing happens to them.

use std::time::Duration;

use cellwall::abi::CODE_WINDOW;
use cellwall::{
    Access, Blame, Engine, Instance, Interrupt, Misuse, Module, PageFault, Paged, Protection,
    Snapshot, Template,
};
use iced_x86::code_asm::{CodeAssembler, qword_ptr, rax, rdi};
use linux_raw::pidfd::{PidfdFlags, WaitFlags, WaitStatus, pidfd_open, waitid_pidfd};
use linux_raw::process::{Pid, exit_group};

use super::{NOWHERE, PAGE, next_fault, paging_engine};
use crate::harness::forked::{fork, in_a_child, is_refused};
use crate::harness::{DATA, alone, assemble, call, children, engine, eventually, exists, parts};

const HEAP: u64 = 0x1000_0000;
const INPUT: u64 = 0x1800_0000;
const WINDOW: u64 = CODE_WINDOW.start + 0x10_0000;

fn increment(code: &mut CodeAssembler) {
    code.inc(qword_ptr(rdi)).unwrap();
    code.mov(rax, qword_ptr(rdi)).unwrap();
    code.ret().unwrap();
}

fn module(engine: &Engine) -> Module {
    let module = parts(&assemble(increment))
        .heap(HEAP, 0x10 * PAGE)
        .input(INPUT, PAGE);
    let module = module.code_window(WINDOW, PAGE).dynamic_paging();
    module.build(engine).unwrap()
}

fn try_everything(instance: &mut Instance, template: &Template, snapshot: &Snapshot) {
    let mut bytes = [0; 8];
    let at = NOWHERE + 0x100 * PAGE;
    assert!(is_refused(instance.run()));
    assert!(is_refused(instance.read(DATA, 8)));
    assert!(is_refused(instance.read_as_host(DATA, &mut bytes)));
    assert!(is_refused(instance.load::<u32>(DATA)));
    assert!(is_refused(instance.store(DATA, 1_u8)));
    assert!(is_refused(instance.zero(DATA, 8)));
    assert!(is_refused(instance.set_input(b"input")));
    assert!(is_refused(instance.write_code(WINDOW, &[0xc3])));
    assert!(is_refused(instance.map_zero(
        at,
        PAGE,
        Protection::ReadWrite
    )));
    assert!(is_refused(instance.map_data(at, &[1], Protection::Read)));
    assert!(is_refused(instance.map_template(
        at,
        template,
        Protection::Read
    )));
    assert!(is_refused(instance.guard(at, PAGE)));
    assert!(is_refused(instance.protect(DATA, PAGE, Protection::Read)));
    assert!(is_refused(instance.unmap(DATA, PAGE)));
    assert!(is_refused(instance.grow_heap(4096)));
    assert!(is_refused(instance.memory_stats()));
    assert!(is_refused(instance.reset()));
    assert!(is_refused(instance.snapshot()));
    assert!(is_refused(instance.restore(snapshot)));
    assert_eq!(instance.registers(), None);
    assert!(instance.is_accessible(DATA, 8, Access::Write));
    assert!(instance.absent_around(at, 1).contains(&at));
    // What the handle knows itself is no secret; and a pager may be set, and is never asked.
    instance.set_pager(|_: &PageFault, _: &mut Instance| panic!("in a child"));
    let _ = instance.refuse_fault();
    assert!(is_refused(instance.run()));
    instance.clear_pager();
}

fn fork_in_faults() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let module = module(&engine);
    let template = Template::new(&engine, b"a template").unwrap();
    let mut instances: Vec<Instance> = (0..3)
        .map(|_| {
            let mut instance = engine.instantiate(&module).unwrap();
            call(&mut instance, &[NOWHERE]);
            next_fault(&mut instance);
            instance
        })
        .collect();
    // One whose page is there, and one that is called anew: both go on later.
    instances[1]
        .map_data(NOWHERE, &[6], Protection::ReadWrite)
        .unwrap();
    call(&mut instances[2], &[DATA]);
    let snapshot = instances[0].snapshot().unwrap();
    let workers: Vec<u32> = instances.iter().map(Instance::process_id).collect();
    in_a_child(|| {
        let mut inherited = std::mem::take(&mut instances);
        for instance in &mut inherited {
            try_everything(instance, &template, &snapshot);
        }
        assert!(snapshot.save(Vec::new()).is_err());
        assert!(is_refused(Snapshot::load(&engine, &module, &[][..])));
        assert!(is_refused(Template::new(&engine, b"for nobody")));
        assert!(is_refused(engine.instantiate(&module)));
        drop(inherited);
        with_an_engine_of_its_own(&template, &snapshot);
    });
    assert!(workers.iter().all(|worker| exists(*worker)));
    let [first, second, third] = &mut instances[..] else {
        panic!("three instances");
    };
    first
        .map_zero(NOWHERE, PAGE, Protection::ReadWrite)
        .unwrap();
    assert_eq!(first.run().unwrap(), Interrupt::Finished(1));
    assert_eq!(second.run().unwrap(), Interrupt::Finished(7));
    assert_eq!(third.run().unwrap(), Interrupt::Finished(1));
    first.restore(&snapshot).unwrap();
    first
        .map_template(NOWHERE, &template, Protection::Read)
        .unwrap();
    assert_eq!(first.read(NOWHERE, 10).unwrap(), b"a template");
    assert_eq!(engine.memory_held(), instances_hold(&mut instances));
    drop((instances, engine, template, snapshot, module));
    eventually(Duration::from_secs(5), "all reaped", || children() == 0);
}

fn instances_hold(instances: &mut [Instance]) -> u64 {
    let mapped = |instance: &mut Instance| instance.memory_stats().unwrap().mapped;
    instances.iter_mut().map(mapped).sum()
}

/// What is the parent's is of no use to a child's own instances either.
fn with_an_engine_of_its_own(template: &Template, snapshot: &Snapshot) {
    let engine = engine();
    let module = module(&engine);
    let mut instance = engine.instantiate(&module).unwrap();
    assert!(is_refused(instance.map_template(
        NOWHERE,
        template,
        Protection::Read
    )));
    let error = instance.restore(snapshot).unwrap_err();
    assert_eq!(error.blame, Blame::Caller(Misuse::OtherModule));
    call(&mut instance, &[NOWHERE]);
    next_fault(&mut instance);
    let own = Template::new(&engine, &[4]).unwrap();
    instance
        .map_template(NOWHERE, &own, Protection::ReadWrite)
        .unwrap();
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(5));
}

#[test]
fn a_child_of_a_host_in_faults_is_refused() {
    alone(
        "memory::faults::forks::a_child_of_a_host_in_faults_is_refused",
        fork_in_faults,
    );
}

/// The fork is made by the pager: the child comes back from it into a `run` that is not its own.
#[test]
fn a_pager_may_fork() {
    alone("memory::faults::forks::a_pager_may_fork", || {
        let Some(engine) = paging_engine() else {
            return;
        };
        let module = module(&engine);
        let mut instance = engine.instantiate(&module).unwrap();
        instance.set_pager(|fault: &PageFault, instance: &mut Instance| {
            in_a_child(|| {
                assert!(is_refused(instance.map_zero(
                    fault.page(),
                    PAGE,
                    Protection::Read
                )));
            });
            instance.map_zero(fault.page(), PAGE, Protection::ReadWrite)?;
            Ok(Paged::Retry)
        });
        call(&mut instance, &[NOWHERE]);
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(1));
        // One that lets its child out of the pager: `run` refuses it there.
        let parent = std::process::id();
        instance.set_pager(move |fault: &PageFault, instance: &mut Instance| {
            let child = fork();
            if child != 0 {
                let child = Pid::from_raw(u32::try_from(child).unwrap()).unwrap();
                let child = pidfd_open(child, PidfdFlags::empty()).unwrap();
                let ended = waitid_pidfd(&child, WaitFlags::ALL).unwrap();
                assert_eq!(ended, Some(WaitStatus::Exited(0)));
                instance.map_zero(fault.page(), PAGE, Protection::ReadWrite)?;
            }
            Ok(Paged::Retry)
        });
        call(&mut instance, &[NOWHERE + PAGE]);
        let end = instance.run();
        if std::process::id() != parent {
            exit_group(i32::from(!is_refused(end)));
        }
        assert_eq!(end.unwrap(), Interrupt::Finished(1));
    });
}
