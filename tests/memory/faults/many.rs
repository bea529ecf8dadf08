//! Many faults: in a row, from many instances at once, many pages at a time, without an end.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use cellwall::{Engine, Instance, Interrupt, PageFault, Paged, Protection};
use iced_x86::code_asm::{CodeAssembler, byte_ptr, ecx, edx, rax, rcx, rdi, rdx, rsi};

use super::{NOWHERE, PAGE, called, map, paged, paging_engine};
use crate::harness::call;

/// How many pages the guest goes round and round in.
const ROUND: u64 = 64;

/// Touches one page after the other, `rdi` touches in all, and gives the sum of what it read before
/// it wrote 1.
fn touches(code: &mut CodeAssembler) {
    let mut again = code.create_label();
    code.xor(rax, rax).unwrap();
    code.xor(ecx, ecx).unwrap();
    code.set_label(&mut again).unwrap();
    code.mov(rdx, rcx).unwrap();
    code.and(edx, i32::try_from(ROUND - 1).unwrap()).unwrap();
    code.shl(rdx, 12).unwrap();
    code.add(rdx, i32::try_from(NOWHERE).unwrap()).unwrap();
    code.movzx(rsi, byte_ptr(rdx)).unwrap();
    code.add(rax, rsi).unwrap();
    code.mov(byte_ptr(rdx), 1).unwrap();
    code.inc(rcx).unwrap();
    code.cmp(rcx, rdi).unwrap();
    code.jb(again).unwrap();
    code.ret().unwrap();
}

/// Makes all pages of a round absent when the first of them is asked for again.
fn answer(fault: &PageFault, instance: &mut Instance) -> Result<(), cellwall::Error> {
    instance.map_zero(fault.page(), PAGE, Protection::ReadWrite)?;
    if fault.page() == NOWHERE + (ROUND - 1) * PAGE {
        instance.unmap(NOWHERE, (ROUND - 1) * PAGE)?;
    } else if fault.page() == NOWHERE {
        instance.unmap(NOWHERE + (ROUND - 1) * PAGE, PAGE)?;
    }
    Ok(())
}

/// So many faults in a row by a pager: every page is new, and nothing piles up.
fn faults_in_a_row(engine: &Engine, count: u64) {
    let mut instance = called(engine, &[count], touches);
    let (sender, asked) = std::sync::mpsc::channel();
    let mut number = 0;
    instance.set_pager(move |fault: &PageFault, instance: &mut Instance| {
        number += 1;
        answer(fault, instance)?;
        if number == count {
            sender.send(number).expect("the test waits for it");
        }
        Ok(Paged::Retry)
    });
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(0));
    assert_eq!(asked.try_recv(), Ok(count));
    let stats = instance.memory_stats().unwrap();
    assert!(stats.peak <= (ROUND + 32) * PAGE, "{stats:?}");
}

#[test]
fn a_hundred_thousand_in_a_row() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let begun = Instant::now();
    faults_in_a_row(&engine, 100_000);
    println!("in {:?}", begun.elapsed());
}

/// The same by returns from `run`.
#[test]
fn twenty_thousand_answered_by_the_caller() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let count = 20_000;
    let mut instance = called(&engine, &[count], touches);
    let mut asked = 0;
    let end = loop {
        match instance.run().unwrap() {
            Interrupt::PageFault(fault) => {
                answer(&fault, &mut instance).unwrap();
                asked += 1;
            }
            other => break other,
        }
    };
    assert_eq!((end, asked), (Interrupt::Finished(0), count));
}

#[test]
fn eight_instances_at_once() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let held = engine.memory_held();
    let together = Barrier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (engine, together) = (&engine, &together);
            scope.spawn(move || {
                together.wait();
                faults_in_a_row(engine, 4_000 + thread);
            });
        }
    });
    assert_eq!(engine.memory_held(), held);
}

/// Two threads' instances are each other's pagers: a pager may run another instance.
#[test]
fn a_pager_may_run_another_instance() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let mut other = called(&engine, &[], touches);
    let entry = other.module().entry();
    let mut instance = called(&engine, &[300], touches);
    instance.set_pager(move |fault: &PageFault, instance: &mut Instance| {
        other.call(entry, &[3])?;
        loop {
            match other.run()? {
                Interrupt::PageFault(inner) => map(&mut other, &inner),
                Interrupt::Finished(_) => break,
                end => panic!("{end}"),
            }
        }
        answer(fault, instance)?;
        Ok(Paged::Retry)
    });
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(0));
}

/// A guest that touches every page of 32 MiB, with 1 to 512 pages at each fault.
#[test]
fn as_many_pages_at_a_fault_as_are_asked_for() {
    let Some(engine) = paging_engine() else {
        return;
    };
    const PAGES: u64 = 8192;
    let module = paged(&engine, |code| {
        let mut again = code.create_label();
        code.set_label(&mut again).unwrap();
        code.inc(byte_ptr(rdi)).unwrap();
        code.add(rdi, 4096).unwrap();
        code.dec(rsi).unwrap();
        code.jne(again).unwrap();
        code.xor(rax, rax).unwrap();
        code.ret().unwrap();
    });
    // On 2 MiB, so that blocks of each size divide it; and what is asked for is bounded.
    let start = 0x1000_0000;
    for (asked, pages) in [
        (512_u32, 512_u64),
        (16, 16),
        (100, 64),
        (u32::MAX, 512),
        (0, 1),
    ] {
        let all = if pages == 1 { 256 } else { PAGES };
        let mut instance = engine.instantiate(&module).unwrap();
        call(&mut instance, &[start, all]);
        let mut faults = 0;
        let end = loop {
            match instance.run().unwrap() {
                Interrupt::PageFault(fault) => {
                    faults += 1;
                    let around = instance.absent_around(fault.address, asked);
                    assert_eq!(around, fault.page()..fault.page() + pages * PAGE);
                    let bytes = around.end - around.start;
                    instance
                        .map_zero(around.start, bytes, Protection::ReadWrite)
                        .unwrap();
                }
                other => break other,
            }
        };
        assert_eq!((end, faults), (Interrupt::Finished(0), all / pages));
        let last = start + (all - 1) * PAGE;
        assert_eq!(instance.load::<u8>(last).unwrap(), 1);
        assert_eq!(instance.memory_stats().unwrap().mapped, (all + 32) * PAGE);
    }
}

#[test]
fn around_a_fault_is_only_what_is_absent() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let mut instance = called(&engine, &[], touches);
    let at = |page: u64| 0x1000_0000 + page * PAGE;
    instance.map_zero(at(3), PAGE, Protection::Read).unwrap();
    instance.guard(at(9), PAGE).unwrap();
    assert_eq!(instance.absent_around(at(5) + 7, 512), at(4)..at(9));
    assert_eq!(instance.absent_around(at(5), 4), at(4)..at(8));
    assert_eq!(instance.absent_around(at(2), 512), at(0)..at(3));
    assert_eq!(instance.absent_around(at(10), 512), at(10)..at(512));
    // Where something is, or nothing can be, there is nothing around.
    for address in [at(3), at(9), 0, 0xffff, 0x1_0000_0000, u64::MAX] {
        assert!(
            instance.absent_around(address, 512).is_empty(),
            "{address:#x}"
        );
    }
    // At both ends of the guest's addresses; 32 pages from the first on are the module's data.
    assert_eq!(instance.absent_around(0x1_0000, 512), 0x1_0000..0x2_0000);
    assert_eq!(
        instance.absent_around(0xffff_ffff, 512),
        0xffe0_0000..0x1_0000_0000
    );
}

/// A pager that always says that the page is there, and it never is: too quick for a wait to see
/// the clock, and it ends at its deadline all the same.
#[test]
fn faults_without_end_end_at_the_deadline() {
    let Some(engine) = paging_engine() else {
        return;
    };
    type Answer = fn(&PageFault, &mut Instance) -> Result<Paged, cellwall::Error>;
    let pagers: [Answer; 3] = [
        |_, _| Ok(Paged::Retry),
        // One that gives the page, and takes it away again.
        |fault, instance| {
            instance.map_zero(fault.page(), PAGE, Protection::ReadWrite)?;
            instance.unmap(fault.page(), PAGE)?;
            Ok(Paged::Retry)
        },
        // One that goes on with something else, which faults as well.
        |fault, instance| {
            let entry = instance.module().entry();
            instance.call(entry, &[fault.address & 0xfff])?;
            Ok(Paged::Retry)
        },
    ];
    for pager in pagers {
        let mut instance = called(&engine, &[5], touches);
        instance.set_pager(pager);
        instance.set_deadline(Duration::from_millis(100));
        let begun = Instant::now();
        assert_eq!(instance.run().unwrap(), Interrupt::Deadline);
        assert!(begun.elapsed() >= Duration::from_millis(100));
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{:?}",
            begun.elapsed()
        );
        // It is where it was, and so is its pager.
        assert_eq!(instance.run().unwrap(), Interrupt::Deadline);
    }
}

/// A guest that always faults anew, under a pager that maps whatever it wants.
#[test]
fn a_guest_that_faults_for_ever_ends_at_its_deadline() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let mut instance = called(&engine, &[u64::MAX], touches);
    instance.set_pager(|fault: &PageFault, instance: &mut Instance| {
        answer(fault, instance)?;
        Ok(Paged::Retry)
    });
    instance.set_deadline(Duration::from_millis(200));
    let begun = Instant::now();
    assert_eq!(instance.run().unwrap(), Interrupt::Deadline);
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
}

/// A deadline is each run's own: what the caller takes for an answer does not count.
#[test]
fn time_between_two_runs_does_not_count() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let mut instance = called(&engine, &[3], touches);
    instance.set_deadline(Duration::from_millis(500));
    let mut faults = 0;
    while let Interrupt::PageFault(fault) = instance.run().unwrap() {
        std::thread::sleep(Duration::from_millis(300));
        map(&mut instance, &fault);
        faults += 1;
    }
    assert_eq!(faults, 3);
}
