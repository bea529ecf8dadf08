//! What a tenant does: it fills all that it can, in every way that there is.

use cellwall::abi::PAGE_BYTES;
use cellwall::{Engine, Instance, Interrupt, PageFault, Paged, Protection, Template};

use super::guest::{self, Program, finish, run};
use super::{
    Amount, End, FEW, HEAP, HEAP_BYTES, HIDDEN, MANY, NOWHERE, PAGED, PAGED_BYTES, PATTERN,
    READ_ONLY, SMALL_BYTES, TOP, WIDE, WIDE_BYTES, WINDOW, WINDOW_BYTES, WORKERS, WRITABLE,
};

/// Fills everything that the guest and the host can write without another map.
pub(in crate::memory) fn fill_module(instance: &mut Instance, amount: Amount) {
    for span in &WRITABLE {
        let wide = span.start == WIDE;
        match amount {
            Amount::One if wide => guest::fill(instance, &(WIDE..WIDE + PAGE_BYTES)),
            Amount::Scattered if wide => {
                let every_other = [WIDE, 2 * PAGE_BYTES, WIDE_BYTES / PAGE_BYTES / 2, PATTERN];
                finish(instance, Program::Scatter, &every_other);
            }
            Amount::Most if wide => guest::fill(instance, &(WIDE..WIDE + 5000 * PAGE_BYTES)),
            _ => guest::fill(instance, span),
        }
    }
    let pattern = PATTERN.to_le_bytes().repeat(0x4000 / 8);
    instance.set_input(&pattern).expect("an input");
    instance.write_as_host(READ_ONLY, &pattern).expect("memory");
    instance.write_as_host(HIDDEN, &pattern).expect("memory");
    assert!(instance.memory_stats().expect("stats").dirty > 0);
}

/// Fills the heap, and where a map can be changed, what is mapped anew in every way.
pub(in crate::memory) fn fill_more(instance: &mut Instance, engine: &Engine) {
    instance
        .grow_heap(HEAP_BYTES.cast_signed())
        .expect("a heap");
    guest::fill(instance, &(HEAP..HEAP + HEAP_BYTES));
    if !engine.can_change_maps() {
        return;
    }
    let pattern = PATTERN.to_le_bytes().repeat(0x8000 / 8);
    let both = Protection::ReadWrite;
    let mut at = NOWHERE;
    let mut next = |bytes: u64| {
        at += bytes + PAGE_BYTES;
        at - bytes - PAGE_BYTES
    };
    // There at once; filled by the kernel; with contents; shared; read-only; hidden.
    for bytes in [0x1_0000, 0x30_0000] {
        let place = next(bytes);
        instance.map_zero(place, bytes, both).expect("pages");
        guest::fill(instance, &(place..place + bytes));
    }
    for protection in [both, Protection::Read, Protection::None] {
        let place = next(0x8000);
        instance
            .map_data(place, &pattern, protection)
            .expect("pages");
        let place = next(0x8000);
        let template = Template::new(engine, &pattern).expect("a template");
        instance
            .map_template(place, &template, protection)
            .expect("pages");
        let place = next(0x8000);
        instance.map_zero(place, 0x8000, both).expect("pages");
        guest::fill(instance, &(place..place + 0x8000));
        instance.protect(place, 0x8000, protection).expect("pages");
    }
    // What was hidden and is shown again, and what is hidden of the module's own.
    instance.protect(HIDDEN, SMALL_BYTES, both).expect("shown");
    guest::fill(instance, &(HIDDEN..HIDDEN + SMALL_BYTES));
    instance
        .protect(FEW, 0x4000, Protection::None)
        .expect("hidden");
    instance
        .protect(MANY, 0x4000, Protection::Read)
        .expect("read-only");
    instance
        .map_zero(TOP, PAGE_BYTES, both)
        .expect("the last page");
    guest::fill(instance, &(TOP..TOP + PAGE_BYTES));
    instance.set_pager(|fault: &PageFault, instance: &mut Instance| {
        let around = instance.absent_around(fault.address, 4);
        let bytes = around.end - around.start;
        instance.map_zero(around.start, bytes, Protection::ReadWrite)?;
        Ok(Paged::Retry)
    });
    guest::fill(instance, &(PAGED..PAGED + PAGED_BYTES));
    instance.clear_pager();
}

/// Fills the code window, and runs what is there.
pub(in crate::memory) fn fill_code(instance: &mut Instance) {
    let code = guest::answering(PATTERN);
    for address in [WINDOW, WINDOW + WINDOW_BYTES - PAGE_BYTES] {
        instance.write_code(address, &code).expect("code");
        instance.call(address, &[]).expect("a call");
        assert_eq!(
            instance.run().expect("a turn"),
            Interrupt::Finished(PATTERN)
        );
    }
}

/// Fills what the worker itself writes; then all registers, in which state the guest stops.
pub(super) fn fill_worker(instance: &mut Instance, end: End) {
    for span in &WORKERS {
        guest::fill(instance, span);
    }
    // A frame with all registers in it, on the alternate stack, and one below that.
    let stopped = run(instance, Program::TaintAndTrap, &[PATTERN]);
    assert!(matches!(stopped, Interrupt::Trap(_)), "{stopped}");
    let (program, is_such): (_, fn(&Interrupt) -> bool) = match end {
        End::Finished => (Program::TaintAndFinish, |at| {
            *at == Interrupt::Finished(PATTERN)
        }),
        End::Hostcall => (
            Program::TaintAndCall,
            |at| matches!(at, Interrupt::Hostcall(call) if call.args == [PATTERN; 6]),
        ),
        End::Trap => (Program::TaintAndTrap, |at| matches!(at, Interrupt::Trap(_))),
        End::Fault => (Program::TaintAndFault, |at| {
            matches!(at, Interrupt::PageFault(_) | Interrupt::Trap(_))
        }),
    };
    let stopped = run(instance, program, &[PATTERN]);
    assert!(is_such(&stopped), "{end:?}: {stopped}");
    let registers = instance.registers();
    let holds = |registers: [u64; _]| registers.iter().filter(|word| **word == PATTERN).count();
    let expected = matches!(end, End::Trap | End::Fault).then_some(15);
    assert_eq!(registers.map(holds), expected);
}
