//! A guest that says that it has finished, and goes on: a reset takes the thread away from it.

use std::thread::sleep;
use std::time::Duration;

use cellwall::{Blame, Engine, Instance, Interrupt, Misuse, PoolConfig, abi};
use iced_x86::code_asm::{al, cl, dword_ptr, eax, ecx, qword_ptr, r8, r9, rax, rdi, rsi, rsp};
use vmctx::State;
use vmctx::map::ALT_STACK;

use crate::harness::{DATA, call, config, engine, start};

/// What a guest that was not evicted answers to every order.
const LIE: u64 = 0x0bad_0bad;

const STATE_WORD: u64 = abi::TURN_LINE;
const VALUE: u64 = abi::TURN_LINE + 56;

/// Without an argument: gives what is at `DATA`. Otherwise: lies that it has finished, counts there
/// for ever, and answers every order with `LIE`. The second argument is its stack pointer then.
fn liar(instance: &mut Instance, stack: u64) {
    call(instance, &[1, stack]);
    assert!(matches!(instance.run().unwrap(), Interrupt::Finished(_)));
    let before: u64 = instance.load(DATA).unwrap();
    let counts = (0..1000).any(|_| {
        sleep(Duration::from_millis(1));
        instance.load::<u64>(DATA).unwrap() != before
    });
    assert!(counts, "the liar does not go on, so nothing is tested");
}

fn instance() -> Instance {
    instance_of(&engine())
}

fn instance_of(engine: &Engine) -> Instance {
    start(engine, |code| {
        let mut honest = code.create_label();
        let mut lie = code.create_label();
        let mut count = code.create_label();
        code.test(rdi, rdi).unwrap();
        code.jz(honest).unwrap();
        code.mov(rsp, rsi).unwrap();
        code.mov(r8, STATE_WORD).unwrap();
        code.mov(r9, DATA).unwrap();
        code.set_label(&mut lie).unwrap();
        code.mov(rax, VALUE).unwrap();
        code.mov(ecx, u32::try_from(LIE).unwrap()).unwrap();
        code.mov(qword_ptr(rax), iced_x86::code_asm::rcx).unwrap();
        code.mov(eax, State::Finished as u32).unwrap();
        code.xchg(dword_ptr(r8), eax).unwrap();
        code.set_label(&mut count).unwrap();
        code.inc(qword_ptr(r9)).unwrap();
        code.mov(ecx, dword_ptr(r8)).unwrap();
        code.cmp(cl, State::Enter as u32).unwrap();
        code.je(lie).unwrap();
        code.jmp(count).unwrap();
        code.set_label(&mut honest).unwrap();
        code.mov(rax, DATA).unwrap();
        code.mov(rax, qword_ptr(rax)).unwrap();
        code.mov(cl, al).unwrap();
        code.ret().unwrap();
    })
}

/// What makes the rest of this file worth anything.
#[test]
fn without_a_reset_a_liar_answers_for_the_next() {
    let mut instance = instance();
    liar(&mut instance, 0);
    call(&mut instance, &[0]);
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(LIE));
}

#[test]
fn a_reset_ends_a_guest_that_only_says_that_it_has_finished() {
    let mut instance = instance();
    for round in 0..200_u64 {
        // Wherever its stack pointer is: the frame is put on the alternate stack all the same.
        let inside = ALT_STACK.end - 0x100;
        let stack = [0, u64::MAX, 0x8000_0000_0000_0000, DATA, inside];
        liar(
            &mut instance,
            stack[usize::try_from(round).unwrap() % stack.len()],
        );
        instance.reset().unwrap();
        for _ in 0..3 {
            assert_eq!(instance.load::<u64>(DATA).unwrap(), 0, "round {round}");
            sleep(Duration::from_micros(50 * (round % 8)));
        }
        call(&mut instance, &[0]);
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(0));
        assert_eq!(instance.load::<u64>(DATA).unwrap(), 0, "round {round}");
    }
}

#[test]
fn a_restore_does_too() {
    let mut instance = instance();
    instance.store(DATA, 7_u64).unwrap();
    let snapshot = instance.snapshot().unwrap();
    for _ in 0..50 {
        liar(&mut instance, 0);
        instance.restore(&snapshot).unwrap();
        assert_eq!(instance.load::<u64>(DATA).unwrap(), 7);
        call(&mut instance, &[0]);
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(7));
    }
}

/// The worker of a liar is kept for the next, cleaned by whoever is in a hurry or by the pool's
/// thread.
#[test]
fn a_pool_gives_no_worker_to_the_next_with_a_liar_in_it() {
    let engine = Engine::new(&config().pool(PoolConfig::new().most(1))).unwrap();
    let mut tenant = instance_of(&engine);
    let (module, worker) = (tenant.module().clone(), tenant.process_id());
    for round in 0..100_u64 {
        liar(&mut tenant, 0);
        drop(tenant);
        // A millisecond later it is cleaned by the pool's thread.
        sleep(Duration::from_micros(300 * (round % 10)));
        tenant = engine.instantiate(&module).unwrap();
        assert_eq!(tenant.process_id(), worker, "round {round}");
        for _ in 0..3 {
            assert_eq!(tenant.load::<u64>(DATA).unwrap(), 0, "round {round}");
            sleep(Duration::from_micros(50 * (round % 8)));
        }
        call(&mut tenant, &[0]);
        assert_eq!(tenant.run().unwrap(), Interrupt::Finished(0));
        assert_eq!(tenant.load::<u64>(DATA).unwrap(), 0, "round {round}");
    }
}

/// A guest whose stack pointer leaves no room for the frame (its red zone is inside the alternate
/// stack, and no more) dies of the signal: it is not the next
/// one's either.
#[test]
fn without_room_for_the_frame_the_worker_dies() {
    let mut instance = instance();
    liar(&mut instance, ALT_STACK.start + 0x200);
    match instance.reset() {
        Ok(()) => {
            call(&mut instance, &[0]);
            let end = instance.run().unwrap();
            assert!(matches!(end, Interrupt::Died(_)), "{end}");
        }
        Err(error) => assert_eq!(error.blame, Blame::Caller(Misuse::Over)),
    }
}

/// Who says that there is no other tenant gets his memory back, and nothing more.
#[test]
fn a_single_tenant_is_not_evicted() {
    let mut instance = instance_of(&Engine::new(&config().single_tenant(true)).unwrap());
    call(&mut instance, &[0]);
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(0));
    instance.store(DATA, 7_u64).unwrap();
    instance.reset().unwrap();
    assert_eq!(instance.load::<u64>(DATA).unwrap(), 0);
    liar(&mut instance, 0);
    instance.reset().unwrap();
    call(&mut instance, &[0]);
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(LIE));
}
