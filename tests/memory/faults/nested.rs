//! Faults while something else is going on: another fault, a hostcall, half an instruction.

use std::time::Duration;

use cellwall::abi::{CODE_WINDOW, HOSTCALL};
use cellwall::{Access, Blame, Death, Instance, Interrupt, Misuse, Protection, Signal};
use iced_x86::code_asm::{
    CodeAssembler, dword_ptr, eax, qword_ptr, r8, r10, r12, rax, rbp, rbx, rdi, rdx, rsi, rsp,
};
use vmctx::map::{ALT_STACK, IMAGE};

use super::{NOWHERE, PAGE, called, map, next_fault, paging_engine, run_mapping, still_runs};
use crate::harness::{DATA, call};

/// Doubles the word at its argument and gives it.
fn double(code: &mut CodeAssembler) {
    code.mov(rax, qword_ptr(rdi)).unwrap();
    code.add(rax, rax).unwrap();
    code.mov(qword_ptr(rdi), rax).unwrap();
    code.ret().unwrap();
}

fn nothing_to_run(instance: &mut Instance) {
    let error = instance.run().unwrap_err();
    assert_eq!(error.blame, Blame::Caller(Misuse::NothingToRun));
}

/// A thousand calls, each left in its fault for the next: nothing of them piles up anywhere.
#[test]
fn a_fault_can_be_left_for_another_call_that_faults_too() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let mut instance = called(&engine, &[NOWHERE], double);
    for page in 0..1000 {
        let address = NOWHERE + page * PAGE;
        call(&mut instance, &[address]);
        assert_eq!(next_fault(&mut instance).address, address);
    }
    // The last one goes on.
    let last = NOWHERE + 999 * PAGE;
    instance
        .map_data(last, &21_u64.to_le_bytes(), Protection::ReadWrite)
        .unwrap();
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(42));
    nothing_to_run(&mut instance);
    // The page of the first is there now, and nobody waits for it.
    instance
        .map_zero(NOWHERE, PAGE, Protection::ReadWrite)
        .unwrap();
    nothing_to_run(&mut instance);
    let no_fault = instance.refuse_fault().unwrap_err();
    assert_eq!(no_fault.blame, Blame::Caller(Misuse::NoFault));
}

/// An order to call wins over going on; taken back it cannot be.
#[test]
fn what_was_ordered_in_a_fault_is_done_and_the_fault_is_gone() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let mut instance = called(&engine, &[NOWHERE], double);
    let fault = next_fault(&mut instance);
    call(&mut instance, &[DATA]);
    map(&mut instance, &fault);
    instance.store(DATA, 4_u64).unwrap();
    instance.store(NOWHERE, 5_u64).unwrap();
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(8));
    nothing_to_run(&mut instance);
    assert_eq!(instance.load::<u64>(NOWHERE).unwrap(), 5);
    // An answer is for hostcalls.
    call(&mut instance, &[NOWHERE + PAGE]);
    next_fault(&mut instance);
    let error = instance.answer(1).unwrap_err();
    assert_eq!(error.blame, Blame::Caller(Misuse::NoHostcall));
    next_fault(&mut instance);
}

#[test]
fn one_instruction_may_fault_twice_and_more() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let stack = NOWHERE + 0x100 * PAGE;
    // Reads across two pages, pushes across two pages: four faults by one push.
    let mut instance = called(&engine, &[NOWHERE + PAGE - 3, stack + 4], |code| {
        code.mov(r8, rsp).unwrap();
        code.mov(rsp, rsi).unwrap();
        code.push(qword_ptr(rdi)).unwrap();
        code.pop(rax).unwrap();
        code.mov(rsp, r8).unwrap();
        code.ret().unwrap();
    });
    let mut faults = Vec::new();
    let end = loop {
        match instance.run().unwrap() {
            Interrupt::PageFault(fault) if fault.access == Access::Read => {
                faults.push(fault.page());
                let page = [0x5a; 4096];
                instance
                    .map_data(fault.page(), &page, Protection::Read)
                    .unwrap();
            }
            Interrupt::PageFault(fault) => {
                faults.push(fault.page());
                map(&mut instance, &fault);
            }
            other => break other,
        }
    };
    assert_eq!(end, Interrupt::Finished(0x5a5a_5a5a_5a5a_5a5a));
    faults.sort_unstable();
    assert_eq!(faults, [NOWHERE, NOWHERE + PAGE, stack - PAGE, stack]);
}

/// Makes a hostcall with its stack pointer at `rdi`, and gives the answer and what must survive.
fn calls_on_a_stack(code: &mut CodeAssembler) {
    code.mov(rbx, rsp).unwrap();
    code.mov(rsp, rdi).unwrap();
    for (register, value) in [(rdi, 1_u64), (rsi, 2), (rdx, 3), (r10, 0x10), (r12, 0x12)] {
        code.mov(register, value).unwrap();
    }
    code.mov(rbp, HOSTCALL).unwrap();
    code.mov(eax, 77).unwrap();
    code.call(rbp).unwrap();
    code.mov(rsp, rbx).unwrap();
    for register in [rdi, rsi, rdx, r10, r12] {
        code.add(rax, register).unwrap();
    }
    code.ret().unwrap();
}
const SURVIVORS: u64 = 1 + 2 + 3 + 0x10 + 0x12;

fn hostcall(instance: &mut Instance) {
    match instance.run().unwrap() {
        Interrupt::Hostcall(call) => {
            assert_eq!((call.number, &call.args[..3]), (77, &[1, 2, 3][..]));
        }
        other => panic!("no hostcall: {other}"),
    }
}

/// The page below the stack pointer is absent after 0 to 8 more words: the guest's own call faults,
/// or the worker's code that it calls, at every push.
#[test]
fn the_worker_s_own_code_faults_on_the_guest_s_stack_and_goes_on() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let (mut by_guest, mut by_worker) = (0, 0);
    for words in 0..9 {
        let mut instance = called(&engine, &[NOWHERE + PAGE + words * 8], calls_on_a_stack);
        instance
            .map_zero(NOWHERE + PAGE, PAGE, Protection::ReadWrite)
            .unwrap();
        let is_enough = words >= 7;
        if !is_enough {
            let fault = next_fault(&mut instance);
            assert_eq!(
                (fault.address, fault.access),
                (NOWHERE + PAGE - 8, Access::Write)
            );
            by_guest += u32::from(CODE_WINDOW.contains(&fault.pc));
            by_worker += u32::from(IMAGE.contains(&fault.pc));
            // Other things meanwhile, the same fault again among them.
            assert_eq!(next_fault(&mut instance), fault);
            instance
                .map_zero(NOWHERE + 9 * PAGE, PAGE, Protection::Read)
                .unwrap();
            map(&mut instance, &fault);
        }
        hostcall(&mut instance);
        instance.answer(1000).unwrap();
        assert_eq!(
            instance.run().unwrap(),
            Interrupt::Finished(1000 + SURVIVORS),
            "{words}"
        );
    }
    assert_eq!((by_guest, by_worker), (1, 6));
}

#[test]
fn a_refused_fault_of_the_worker_s_own_code_is_a_trap_of_the_guest_s() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let mut instance = called(&engine, &[NOWHERE + PAGE + 16], calls_on_a_stack);
    instance
        .map_zero(NOWHERE + PAGE, PAGE, Protection::ReadWrite)
        .unwrap();
    let fault = next_fault(&mut instance);
    let trap = instance.refuse_fault().unwrap();
    assert_eq!(
        (trap.address, trap.pc),
        (Some(fault.address), Some(fault.pc))
    );
    nothing_to_run(&mut instance);
    call(&mut instance, &[NOWHERE + 2 * PAGE]);
    hostcall(&mut instance);
    instance.answer(0).unwrap();
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(SURVIVORS));
}

/// While the guest waits in a hostcall its stack is taken away: it faults when it comes back, and
/// goes on once the stack is there again as it was.
#[test]
fn a_stack_that_goes_in_a_hostcall_is_asked_for() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let mut instance = called(&engine, &[NOWHERE + PAGE - 64], calls_on_a_stack);
    instance
        .map_zero(NOWHERE, PAGE, Protection::ReadWrite)
        .unwrap();
    hostcall(&mut instance);
    let stack = instance.read(NOWHERE, PAGE).unwrap();
    instance.unmap(NOWHERE, PAGE).unwrap();
    instance.answer(5).unwrap();
    let fault = next_fault(&mut instance);
    assert_eq!((fault.page(), fault.access), (NOWHERE, Access::Read));
    assert!(IMAGE.contains(&fault.pc));
    instance
        .map_data(NOWHERE, &stack, Protection::ReadWrite)
        .unwrap();
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(5 + SURVIVORS));

    // The same, refused: a trap, and no more hostcall.
    call(&mut instance, &[NOWHERE + PAGE - 64]);
    hostcall(&mut instance);
    instance.protect(NOWHERE, PAGE, Protection::None).unwrap();
    instance.answer(5).unwrap();
    assert!(matches!(instance.run().unwrap(), Interrupt::Trap(_)));
    assert!(instance.answer(5).is_err());
}

/// A fault inside a fault's own stack: what room is left there is used, and after that the kernel
/// ends the worker.
#[test]
fn a_guest_that_runs_on_the_worker_s_signal_stack_has_only_itself_to_blame() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let on = |code: &mut CodeAssembler| {
        code.mov(rsp, rsi).unwrap();
        code.mov(eax, dword_ptr(rdi)).unwrap();
        code.ud2().unwrap();
    };
    // In the upper half there is room for a frame.
    let mut instance = called(&engine, &[NOWHERE, ALT_STACK.end - 64], on);
    let (end, faults) = run_mapping(&mut instance);
    assert!(matches!(end, Interrupt::Trap(_)), "{end}");
    assert_eq!(faults, [(NOWHERE, Access::Read)]);
    // Near its bottom there is none. At the very bottom the kernel takes it for another stack.
    call(&mut instance, &[NOWHERE + PAGE, ALT_STACK.start + 512]);
    instance.set_deadline(Duration::from_secs(20));
    let death = Interrupt::Died(Death::Killed(Signal::SEGV));
    assert_eq!(instance.run().unwrap(), death);
    assert_eq!(
        instance.run().unwrap_err().blame,
        Blame::Caller(Misuse::Over)
    );
    let mut next = called(&engine, &[DATA], double);
    still_runs(&mut next, &[DATA], 0);
}

/// Stopped in a fault, then all the ways back to the beginning.
#[test]
fn a_reset_in_a_fault_ends_what_was_going_on() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let mut instance = called(&engine, &[NOWHERE], double);
    let snapshot = instance.snapshot().unwrap();
    for round in 0..20 {
        instance.store(DATA, round).unwrap();
        call(&mut instance, &[NOWHERE]);
        next_fault(&mut instance);
        if round % 2 == 0 {
            instance.reset().unwrap();
        } else {
            instance.restore(&snapshot).unwrap();
        }
        nothing_to_run(&mut instance);
        assert!(instance.refuse_fault().is_err());
        assert_eq!(instance.registers(), None);
        assert_eq!(instance.load::<u64>(DATA).unwrap(), 0);
        still_runs(&mut instance, &[DATA], 0);
    }
}
