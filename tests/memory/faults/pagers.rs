//! Pagers: every answer that one can give.

mod acting;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use cellwall::{
    Access, Blame, Config, Engine, Error, Instance, Interrupt, Misuse, PageFault, Paged, Pager,
    Protection, Stage, TrapKind,
};
use iced_x86::code_asm::{CodeAssembler, qword_ptr, rax, rdi, rsi};

use super::{NOWHERE, PAGE, called, map, paging_engine};
use crate::harness::{DATA, DATA_BYTES, STACK_BYTES, call, config};

/// Adds 1 to the word at `rdi`, then `rsi` to it, and gives it.
fn adds(code: &mut CodeAssembler) {
    code.add(qword_ptr(rdi), 1).unwrap();
    code.add(qword_ptr(rdi), rsi).unwrap();
    code.mov(rax, qword_ptr(rdi)).unwrap();
    code.ret().unwrap();
}

fn misuse<T: std::fmt::Debug>(result: Result<T, Error>) -> Misuse {
    match result.expect_err("a misuse").blame {
        Blame::Caller(misuse) => misuse,
        other => panic!("{other}"),
    }
}

fn is_fault_at(interrupt: &Interrupt, address: u64) -> bool {
    matches!(interrupt, Interrupt::PageFault(fault) if fault.address == address)
}

/// One with a state of its own, which counts what it was asked.
struct Counting {
    asked: Arc<AtomicU32>,
    answer: fn(&PageFault, &mut Instance) -> Result<Paged, Error>,
}

impl Pager for Counting {
    fn page_fault(&mut self, fault: &PageFault, instance: &mut Instance) -> Result<Paged, Error> {
        self.asked.fetch_add(1, Relaxed);
        (self.answer)(fault, instance)
    }
}

fn retry(fault: &PageFault, instance: &mut Instance) -> Result<Paged, Error> {
    instance.map_zero(fault.page(), PAGE, Protection::ReadWrite)?;
    Ok(Paged::Retry)
}

/// An instance that is about to fault at `NOWHERE`, under such a pager.
fn under(
    engine: &Engine,
    answer: fn(&PageFault, &mut Instance) -> Result<Paged, Error>,
) -> (Instance, Arc<AtomicU32>) {
    let mut instance = called(engine, &[NOWHERE, 41], adds);
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    instance.set_pager(Counting {
        asked: counted,
        answer,
    });
    (instance, asked)
}

#[test]
fn a_pager_maps_refuses_or_leaves_it_to_the_caller() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let (mut instance, asked) = under(&engine, retry);
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(42));
    assert_eq!(asked.load(Relaxed), 1);

    let (mut instance, asked) = under(&engine, |_, _| Ok(Paged::Refuse));
    let Interrupt::Trap(trap) = instance.run().unwrap() else {
        panic!("no trap");
    };
    assert_eq!((trap.kind, trap.address), (TrapKind::Memory, Some(NOWHERE)));
    assert_eq!(trap.access, Some(Access::Write));
    assert_eq!(asked.load(Relaxed), 1);
    assert_eq!(misuse(instance.run()), Misuse::NothingToRun);

    let (mut instance, asked) = under(&engine, |_, _| Ok(Paged::Later));
    for times in 1..4 {
        assert!(is_fault_at(&instance.run().unwrap(), NOWHERE));
        assert_eq!(asked.load(Relaxed), times);
    }
    instance
        .map_data(NOWHERE, &[9], Protection::ReadWrite)
        .unwrap();
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(51));
    assert_eq!(asked.load(Relaxed), 3, "nothing to ask for");
}

#[test]
fn without_a_pager_the_caller_is_one() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let (mut instance, asked) = under(&engine, retry);
    instance.clear_pager();
    assert!(is_fault_at(&instance.run().unwrap(), NOWHERE));
    // One that is set while the guest is stopped in its fault answers that one.
    instance.set_pager(retry);
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(42));
    assert_eq!(asked.load(Relaxed), 0);
}

/// Modules that do not page dynamically ask nobody.
#[test]
fn a_pager_is_asked_for_what_its_module_asks_for() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let mut instance = crate::harness::start(&engine, adds);
    instance.set_pager(|_: &PageFault, _: &mut Instance| panic!("nobody asks"));
    call(&mut instance, &[NOWHERE, 1]);
    assert!(matches!(instance.run().unwrap(), Interrupt::Trap(_)));
    // What is mapped is settled all the same.
    instance
        .map_zero(NOWHERE, PAGE, Protection::ReadWrite)
        .unwrap();
    call(&mut instance, &[NOWHERE, 1]);
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(2));
}

#[test]
fn an_error_comes_out_of_run_and_the_guest_stays_in_its_fault() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let own = |_: &PageFault, _: &mut Instance| {
        let call = "read the swap file";
        let blame = Blame::Kernel {
            call,
            errno: cellwall::Errno::EIO,
        };
        Err(Error {
            stage: Stage::Memory,
            blame,
        })
    };
    let (mut instance, asked) = under(&engine, own);
    for times in 1..3 {
        let error = instance.run().unwrap_err();
        assert!(
            error
                .to_string()
                .contains("read the swap file failed with EIO"),
            "{error}"
        );
        assert_eq!(asked.load(Relaxed), times);
    }
    // A misuse of its own is no better.
    instance.set_pager(|_: &PageFault, instance: &mut Instance| {
        instance.map_zero(NOWHERE + 1, PAGE, Protection::Read)?;
        Ok(Paged::Retry)
    });
    assert!(matches!(misuse(instance.run()), Misuse::Region { .. }));
    assert!(instance.registers().is_some());
    instance.set_pager(retry);
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(42));
}

/// What the module of [`adds`] holds itself.
const OWN: u64 = DATA_BYTES + STACK_BYTES;

fn out_of_memory(config: &Config) {
    let engine = Engine::new(config).unwrap();
    if !engine.can_change_maps() {
        return absence::absent("userfaultfd", "no pager");
    }
    let (mut instance, asked) = under(&engine, retry);
    let taken = NOWHERE + 0x100 * PAGE;
    instance
        .map_zero(taken, 2 * PAGE, Protection::ReadWrite)
        .unwrap();
    assert_eq!(engine.memory_held(), OWN + 2 * PAGE);
    for times in 1..3 {
        let found = instance.run().unwrap();
        assert!(matches!(found, Interrupt::OutOfMemory(fault) if fault.address == NOWHERE));
        assert_eq!(asked.load(Relaxed), times);
        assert!(instance.registers().is_some());
    }
    instance.unmap(taken, PAGE).unwrap();
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(42));
    assert_eq!(engine.memory_held(), OWN + 2 * PAGE);
    // Refused, it is a trap like any other fault.
    call(&mut instance, &[NOWHERE + PAGE, 0]);
    assert!(matches!(instance.run().unwrap(), Interrupt::OutOfMemory(_)));
    assert_eq!(
        instance.refuse_fault().unwrap().address,
        Some(NOWHERE + PAGE)
    );
    drop(instance);
    assert_eq!(engine.memory_held(), 0);
}

#[test]
fn at_the_instance_s_limit_it_is_out_of_memory_until_some_is_freed() {
    out_of_memory(&config().memory_limit(OWN + 2 * PAGE));
}

#[test]
fn at_the_engine_s_limit_too() {
    out_of_memory(&config().engine_memory_limit(OWN + 2 * PAGE));
}

#[test]
fn a_panic_passes_through_and_the_instance_goes_on() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let (mut instance, asked) = under(&engine, |fault, instance| {
        assert!(instance.load::<u8>(DATA).unwrap() != 0, "not yet");
        retry(fault, instance)
    });
    for times in 1..4 {
        let panic = catch_unwind(AssertUnwindSafe(|| instance.run())).unwrap_err();
        let text = panic.downcast_ref::<&str>().copied();
        assert_eq!(text, Some("not yet"));
        assert_eq!(asked.load(Relaxed), times);
    }
    assert!(instance.registers().is_some());
    instance.store(DATA, 1_u8).unwrap();
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(42));
    assert_eq!(asked.load(Relaxed), 4, "the same pager");
}

/// One that panics after it has ended what there was to go on with.
#[test]
fn a_panic_after_a_reset_leaves_a_fresh_instance() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let (mut instance, _) = under(&engine, |_, instance| {
        instance.reset().unwrap();
        panic!("after a reset");
    });
    catch_unwind(AssertUnwindSafe(|| instance.run())).unwrap_err();
    assert_eq!(misuse(instance.run()), Misuse::NothingToRun);
    instance.set_pager(retry);
    call(&mut instance, &[NOWHERE, 1]);
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(2));
}

#[test]
fn a_pager_that_maps_nothing_is_asked_again() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let asked = Mutex::new(0);
    let mut instance = called(&engine, &[NOWHERE, 41], adds);
    instance.set_pager(move |fault: &PageFault, instance: &mut Instance| {
        let mut asked = asked.lock().unwrap();
        *asked += 1;
        assert_eq!((fault.address, fault.access), (NOWHERE, Access::Write));
        if *asked == 1000 {
            map(instance, fault);
        }
        Ok(Paged::Retry)
    });
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(42));
}
