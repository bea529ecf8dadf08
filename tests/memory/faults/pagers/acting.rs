//! Pagers that do something with the instance before they answer, as the caller of `run` could.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use cellwall::{Access, Error, Instance, Interrupt, Misuse, PageFault, Paged, Protection};

use super::super::{NOWHERE, PAGE, called, map, paged, paging_engine};
use super::{adds, is_fault_at, misuse, retry, under};
use crate::harness::{DATA, call, kill};

/// A pager may do what the caller of `run` could do: order another call, and the fault is gone.
#[test]
fn a_pager_that_orders_another_call_has_it_made() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let (mut instance, asked) = under(&engine, |_, instance| {
        let entry = instance.module().entry();
        instance.call(entry, &[DATA, 6])?;
        Ok(Paged::Retry)
    });
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(7));
    assert_eq!(asked.load(Relaxed), 1);
    assert_eq!(misuse(instance.run()), Misuse::NothingToRun);
    assert!(!instance.is_accessible(NOWHERE, 1, Access::Read));
}

#[test]
fn a_pager_that_resets_leaves_nothing_to_go_on_with() {
    let Some(engine) = paging_engine() else {
        return;
    };
    type Answer = fn(&PageFault, &mut Instance) -> Result<Paged, Error>;
    let answers: [(Answer, Misuse); 2] = [
        (
            |_, instance| instance.reset().map(|()| Paged::Retry),
            Misuse::NothingToRun,
        ),
        (
            |_, instance| instance.reset().map(|()| Paged::Refuse),
            Misuse::NoFault,
        ),
    ];
    for (answer, error) in answers {
        let (mut instance, _) = under(&engine, answer);
        instance.store(DATA, 5_u64).unwrap();
        assert_eq!(misuse(instance.run()), error);
        assert_eq!(instance.load::<u64>(DATA).unwrap(), 0);
        assert_eq!(instance.registers(), None);
        call(&mut instance, &[DATA, 1]);
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(2));
    }
}

/// It runs the instance itself: other calls with faults of their own, which come to it as to any
/// caller. What was in the fault is gone then.
#[test]
fn a_pager_that_runs_the_instance_is_a_caller_like_any() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let (mut instance, asked) = under(&engine, |_, instance| {
        let entry = instance.module().entry();
        instance.call(entry, &[NOWHERE + PAGE, 2])?;
        let Interrupt::PageFault(inner) = instance.run()? else {
            panic!("no fault within");
        };
        map(instance, &inner);
        assert_eq!(instance.run()?, Interrupt::Finished(3));
        Ok(Paged::Retry)
    });
    assert_eq!(misuse(instance.run()), Misuse::NothingToRun);
    assert_eq!(asked.load(Relaxed), 1);
    // It leaves the guest in another fault: that one is what goes on.
    instance.set_pager(|_: &PageFault, instance: &mut Instance| {
        let entry = instance.module().entry();
        instance.call(entry, &[NOWHERE + 2 * PAGE, 3])?;
        let Interrupt::PageFault(inner) = instance.run()? else {
            panic!("no fault within");
        };
        map(instance, &inner);
        Ok(Paged::Retry)
    });
    call(&mut instance, &[NOWHERE, 0]);
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(4));
    // It ends the instance.
    instance.set_pager(|_: &PageFault, instance: &mut Instance| {
        kill(instance.process_id(), "-KILL");
        let entry = instance.module().entry();
        instance.call(entry, &[NOWHERE + 3 * PAGE, 3])?;
        while !matches!(instance.run()?, Interrupt::Died(_)) {}
        Ok(Paged::Retry)
    });
    call(&mut instance, &[NOWHERE, 0]);
    assert_eq!(misuse(instance.run()), Misuse::Over);
}

#[test]
fn a_pager_may_be_replaced_by_itself_or_taken_away() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let (mut instance, asked) = under(&engine, |fault, instance| {
        instance.set_pager(|fault: &PageFault, instance: &mut Instance| {
            instance.map_data(fault.page(), &[100], Protection::ReadWrite)?;
            Ok(Paged::Retry)
        });
        retry(fault, instance)
    });
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(42));
    call(&mut instance, &[NOWHERE + PAGE, 0]);
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(101));
    assert_eq!(asked.load(Relaxed), 1);

    let (mut instance, asked) = under(&engine, |fault, instance| {
        instance.clear_pager();
        retry(fault, instance)
    });
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(42));
    call(&mut instance, &[NOWHERE + PAGE, 0]);
    assert!(is_fault_at(&instance.run().unwrap(), NOWHERE + PAGE));
    assert_eq!(asked.load(Relaxed), 1);
}

/// A pager goes with its instance, also one that is replaced.
#[test]
fn a_pager_is_dropped_when_it_is_no_longer_asked() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let module = paged(&engine, adds);
    let mut instance = engine.instantiate(&module).unwrap();
    let kept = Arc::new(());
    let pager = |kept: &Arc<()>| {
        let kept = Arc::clone(kept);
        move |fault: &PageFault, instance: &mut Instance| {
            let _kept = &kept;
            retry(fault, instance)
        }
    };
    for _ in 0..3 {
        instance.set_pager(pager(&kept));
        assert_eq!(Arc::strong_count(&kept), 2);
    }
    instance.reset().unwrap();
    assert_eq!(
        Arc::strong_count(&kept),
        2,
        "a reset is of the guest's memory"
    );
    instance.clear_pager();
    assert_eq!(Arc::strong_count(&kept), 1);
    instance.set_pager(pager(&kept));
    drop(instance);
    assert_eq!(Arc::strong_count(&kept), 1);
}

/// That another instance is over is an error like any: this one is not.
#[test]
fn a_pager_that_hears_of_another_s_end_says_so() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let mut other = called(&engine, &[DATA, 1], adds);
    kill(other.process_id(), "-KILL");
    while !matches!(other.run(), Ok(Interrupt::Died(_))) {
        call(&mut other, &[DATA, 1]);
    }
    let mut instance = called(&engine, &[NOWHERE, 41], adds);
    instance.set_pager(move |_: &PageFault, _: &mut Instance| {
        other.run()?;
        Ok(Paged::Retry)
    });
    assert_eq!(misuse(instance.run()), Misuse::Over);
    assert!(instance.is_alive());
    instance.set_pager(retry);
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(42));
}
