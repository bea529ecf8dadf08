//! The guest calls the host: numbers, arguments, answers, and what stays intact.

use cellwall::abi::{FINISH, HOSTCALL};
use cellwall::{Blame, Hostcall, Interrupt, Misuse, TrapKind};
use iced_x86::code_asm::{
    CodeAssembler, eax, r8, r9, r10, r11, r12, r13, r14, r15, rax, rbp, rbx, rcx, rdi, rdx, rsi,
    rsp, ymmword_ptr,
};
use iced_x86::code_asm::{ymm0, ymm15};

use crate::harness::{DATA, STACK, assemble, call, engine, parts, start};

/// Emits a call of the trampoline.
fn hostcall(code: &mut CodeAssembler) {
    code.mov(r11, HOSTCALL).unwrap();
    code.call(r11).unwrap();
}

#[test]
fn number_arguments_and_answer_arrive() {
    let engine = engine();
    let mut instance = start(&engine, |code| {
        code.mov(eax, 0xdead_beefu32).unwrap();
        hostcall(code);
        code.add(rax, 1).unwrap();
        code.ret().unwrap();
    });
    let args = [1, u64::MAX, 3, 1 << 63, 5, 6];
    call(&mut instance, &args);
    let expected = Hostcall {
        number: 0xdead_beef,
        args,
    };
    assert_eq!(instance.run().unwrap(), Interrupt::Hostcall(expected));
    instance.answer(0x7fff_ffff_ffff_ffff).unwrap();
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(1 << 63));
}

#[test]
fn a_hostcall_changes_only_the_three_registers_it_may() {
    let engine = engine();
    let kept = [rbx, rbp, rdi, rsi, rdx, r8, r9, r10, r12, r13, r14, r15];
    let mut instance = start(&engine, |code| {
        code.vmovdqu(ymm0, ymmword_ptr(DATA)).unwrap();
        code.vmovdqu(ymm15, ymmword_ptr(DATA + 32)).unwrap();
        for (value, register) in (100i64..).zip(kept) {
            code.mov(register, value).unwrap();
        }
        code.mov(eax, 1).unwrap();
        hostcall(code);
        // rax collects every difference; the stack pointer shows in whether `ret` works.
        code.mov(rax, 0i64).unwrap();
        for (value, register) in (100i64..).zip(kept) {
            code.mov(rcx, value).unwrap();
            code.xor(rcx, register).unwrap();
            code.or(rax, rcx).unwrap();
        }
        code.vmovdqu(ymmword_ptr(DATA + 64), ymm0).unwrap();
        code.vmovdqu(ymmword_ptr(DATA + 96), ymm15).unwrap();
        code.ret().unwrap();
    });
    let vectors: Vec<u8> = (1..=64).collect();
    instance.write(DATA, &vectors).unwrap();
    // Once with the host awake, once with both sides asleep before the answer.
    for pause in [0, 30] {
        call(&mut instance, &[]);
        assert!(matches!(instance.run().unwrap(), Interrupt::Hostcall(_)));
        std::thread::sleep(std::time::Duration::from_millis(pause));
        instance.answer(0).unwrap();
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(0));
        let mut after = [0; 64];
        instance.read_into(DATA + 64, &mut after).unwrap();
        assert_eq!(after, vectors[..]);
    }
}

#[test]
fn ten_thousand_hostcalls_in_order() {
    let engine = engine();
    let mut instance = start(&engine, |code| {
        let mut again = code.create_label();
        code.mov(rbx, 0i64).unwrap();
        code.set_label(&mut again).unwrap();
        code.mov(rdi, rbx).unwrap();
        code.mov(eax, 7).unwrap();
        hostcall(code);
        code.add(rbx, rax).unwrap();
        code.cmp(rbx, 10_000).unwrap();
        code.jb(again).unwrap();
        code.mov(rax, rbx).unwrap();
        code.ret().unwrap();
    });
    call(&mut instance, &[]);
    for round in 0..10_000 {
        match instance.run().unwrap() {
            Interrupt::Hostcall(call) => assert_eq!((call.number, call.args[0]), (7, round)),
            other => panic!("{other} in round {round}"),
        }
        instance.answer(1).unwrap();
    }
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(10_000));
}

#[test]
fn a_guest_may_finish_from_anywhere() {
    let engine = engine();
    let mut instance = start(&engine, |code| {
        // Deep in its stack, even with a stack pointer that points nowhere.
        code.mov(rsp, 0i64).unwrap();
        code.mov(rax, rdi).unwrap();
        code.mov(r11, FINISH).unwrap();
        code.jmp(r11).unwrap();
    });
    for value in [0, 77, u64::MAX] {
        call(&mut instance, &[value]);
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(value));
    }
}

#[test]
fn a_pending_hostcall_can_be_abandoned_by_a_new_call() {
    let engine = engine();
    let mut instance = start(&engine, |code| {
        let mut plain = code.create_label();
        code.test(rdi, rdi).unwrap();
        code.je(plain).unwrap();
        code.mov(eax, 1).unwrap();
        hostcall(code);
        code.ud2().unwrap();
        code.set_label(&mut plain).unwrap();
        code.mov(eax, 55).unwrap();
        code.ret().unwrap();
    });
    for _ in 0..50 {
        call(&mut instance, &[1]);
        assert!(matches!(instance.run().unwrap(), Interrupt::Hostcall(_)));
        call(&mut instance, &[0]);
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(55));
    }
}

#[test]
fn an_answer_is_given_once() {
    let engine = engine();
    let mut instance = start(&engine, |code| {
        code.mov(eax, 1).unwrap();
        hostcall(code);
        code.ret().unwrap();
    });
    call(&mut instance, &[]);
    instance.run().unwrap();
    let unanswered = instance.run().unwrap_err();
    assert_eq!(unanswered.blame, Blame::Caller(Misuse::NothingToRun));
    instance.answer(1).unwrap();
    instance.answer(2).unwrap();
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(2));
    assert_eq!(
        instance.answer(3).unwrap_err().blame,
        Blame::Caller(Misuse::NoHostcall)
    );
}

/// The trampoline uses the guest's stack: too little of it is the guest's own trap, however
/// little is missing and whoever has to be woken.
#[test]
fn a_hostcall_without_a_stack_traps() {
    let engine = engine();
    let mut instance = start(&engine, |code| {
        let mut busy = code.create_label();
        code.mov(rsp, rdi).unwrap();
        code.set_label(&mut busy).unwrap();
        code.dec(rsi).unwrap();
        code.jns(busy).unwrap();
        code.mov(eax, 1).unwrap();
        hostcall(code);
        code.ud2().unwrap();
    });
    // The second count keeps the guest busy until the host sleeps.
    for busy in [0, 100_000_000] {
        for room in (0..=56).step_by(8) {
            call(&mut instance, &[STACK + room, busy]);
            match (room, instance.run().unwrap()) {
                (0..56, Interrupt::Trap(trap)) => assert_eq!(trap.kind, TrapKind::Memory),
                (56, Interrupt::Hostcall(_)) => {}
                (room, other) => panic!("{other} with {room} bytes of stack"),
            }
        }
    }
    // The worker is as good as new.
    let code = assemble(|code| code.ret().unwrap());
    let module = parts(&code).build(&engine).unwrap();
    let mut next = engine.instantiate(&module).unwrap();
    call(&mut next, &[]);
    assert!(matches!(next.run().unwrap(), Interrupt::Finished(_)));
}
