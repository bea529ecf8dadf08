//! Instances are born, run, are called again, and end.

use std::time::{Duration, Instant};

use cellwall::{Blame, Engine, Interrupt, Misuse, Stage};
use iced_x86::code_asm::{eax, edi, r8, r9, rax, rcx, rdi, rdx, rsi};

use crate::harness::{
    STACK, STACK_BYTES, assemble, call, engine, eventually, exists, parts, start,
};

#[test]
fn a_call_has_six_arguments_and_a_value() {
    let engine = engine();
    let mut instance = start(&engine, |code| {
        code.lea(rax, rdi + 2 * rsi).unwrap();
        code.lea(rax, rax + 4 * rdx).unwrap();
        code.lea(rax, rax + 8 * rcx).unwrap();
        code.shl(r8, 4).unwrap();
        code.add(rax, r8).unwrap();
        code.shl(r9, 5).unwrap();
        code.add(rax, r9).unwrap();
        code.ret().unwrap();
    });
    for round in 0..100 {
        call(&mut instance, &[round, 1, 1, 1, 1, 1]);
        assert_eq!(
            instance.run().unwrap(),
            Interrupt::Finished(round + 2 + 4 + 8 + 16 + 32)
        );
    }
    call(&mut instance, &[u64::MAX]);
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(u64::MAX));
}

#[test]
fn a_guest_is_entered_with_nothing_but_its_arguments() {
    use iced_x86::code_asm::{qword_ptr, r10, r12, r13, r14, r15, rbp, rbx, rsp, xmm0, xmm7};
    let engine = engine();
    let mut instance = start(&engine, |code| {
        // Spoils what it can for the next call, after looking at what it got.
        code.mov(rax, rbx).unwrap();
        for register in [rbp, r10, r12, r13, r14, r15, rdi, rsi, rdx, rcx, r8, r9] {
            code.or(rax, register).unwrap();
        }
        code.movq(rdx, xmm0).unwrap();
        code.or(rax, rdx).unwrap();
        code.movq(rdx, xmm7).unwrap();
        code.or(rax, rdx).unwrap();
        code.pushfq().unwrap();
        code.pop(rdx).unwrap();
        code.and(rdx, 0x4_0500).unwrap(); // alignment check, direction, trap
        code.or(rax, rdx).unwrap();
        code.mov(rcx, rsp).unwrap();
        code.and(rcx, 15).unwrap();
        code.xor(rcx, 8).unwrap();
        code.or(rax, rcx).unwrap();
        for register in [rbx, rbp, r10, r12, r13, r14, r15] {
            code.mov(register, -1i64).unwrap();
        }
        code.movq(xmm0, rbx).unwrap();
        code.movq(xmm7, rbx).unwrap();
        code.std().unwrap();
        code.pushfq().unwrap();
        code.or(qword_ptr(rsp), 0x4_0000).unwrap();
        code.popfq().unwrap();
        code.ret().unwrap();
    });
    for _ in 0..3 {
        call(&mut instance, &[]);
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(0));
    }
}

#[test]
fn the_stack_is_where_the_module_says() {
    use iced_x86::code_asm::rsp;
    let engine = engine();
    let mut instance = start(&engine, |code| {
        code.mov(rax, rsp).unwrap();
        code.ret().unwrap();
    });
    call(&mut instance, &[]);
    assert_eq!(
        instance.run().unwrap(),
        Interrupt::Finished(STACK + STACK_BYTES - 8)
    );
}

#[test]
fn run_wants_something_to_do() {
    let engine = engine();
    let mut instance = start(&engine, |code| code.ret().unwrap());
    let refused = instance.run().unwrap_err();
    assert_eq!(refused.blame, Blame::Caller(Misuse::NothingToRun));
    let refused = instance.answer(0).unwrap_err();
    assert_eq!(refused.blame, Blame::Caller(Misuse::NoHostcall));
    let refused = instance.call(0, &[0; 7]).unwrap_err();
    assert_eq!(refused.blame, Blame::Caller(Misuse::TooManyArguments(7)));
    call(&mut instance, &[]);
    assert!(matches!(instance.run().unwrap(), Interrupt::Finished(_)));
}

#[test]
fn a_deadline_stops_an_endless_loop_and_the_next_instance_works() {
    let engine = engine();
    let code = assemble(|code| {
        let mut again = code.create_label();
        code.set_label(&mut again).unwrap();
        code.jmp(again).unwrap();
    });
    let module = parts(&code).build(&engine).unwrap();
    let mut instance = engine.instantiate(&module).unwrap();
    let bound = Duration::from_millis(50);
    instance.set_deadline(bound);
    call(&mut instance, &[]);
    let begun = Instant::now();
    assert_eq!(instance.run().unwrap(), Interrupt::Deadline);
    let took = begun.elapsed();
    assert!(took >= bound, "{took:?} is before the deadline");
    assert!(took < bound * 10, "{took:?} is long after the deadline");
    // It goes on where it was, until the next one; or is called anew.
    assert_eq!(instance.run().unwrap(), Interrupt::Deadline);
    call(&mut instance, &[]);
    assert_eq!(instance.run().unwrap(), Interrupt::Deadline);

    let mut next = start(&engine, |code| {
        code.mov(eax, edi).unwrap();
        code.ret().unwrap();
    });
    call(&mut next, &[5]);
    assert_eq!(next.run().unwrap(), Interrupt::Finished(5));
}

#[test]
fn a_guest_in_time_is_not_disturbed_by_a_deadline() {
    let engine = engine();
    let mut instance = start(&engine, |code| code.ret().unwrap());
    instance.set_deadline(Duration::from_secs(60));
    call(&mut instance, &[]);
    assert!(matches!(instance.run().unwrap(), Interrupt::Finished(_)));
    instance.set_deadline(None);
    call(&mut instance, &[]);
    assert!(matches!(instance.run().unwrap(), Interrupt::Finished(_)));
}

#[test]
fn an_instance_outlives_its_engine_and_module_handles() {
    let mut instance = {
        let engine = engine();
        start(&engine, |code| {
            code.mov(eax, 9).unwrap();
            code.ret().unwrap();
        })
    };
    call(&mut instance, &[]);
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(9));
}

#[test]
fn an_instance_may_move_to_another_thread() {
    let engine = engine();
    let mut instance = start(&engine, |code| {
        code.mov(rax, rdi).unwrap();
        code.ret().unwrap();
    });
    call(&mut instance, &[11]);
    let (interrupt, mut instance) = std::thread::spawn(move || (instance.run().unwrap(), instance))
        .join()
        .unwrap();
    assert_eq!(interrupt, Interrupt::Finished(11));
    call(&mut instance, &[12]);
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(12));
}

/// The kernel kills a worker with the *thread* that started it: that must not be the caller's.
#[test]
fn an_instance_survives_the_thread_that_made_it() {
    let engine = engine();
    let mut instance = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                start(&engine, |code| {
                    code.mov(eax, 3).unwrap();
                    code.ret().unwrap();
                })
            })
            .join()
            .unwrap()
    });
    std::thread::sleep(Duration::from_millis(50));
    call(&mut instance, &[]);
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(3));
}

#[test]
fn a_dropped_instance_leaves_no_process() {
    let engine = engine();
    let instance = start(&engine, |code| code.ret().unwrap());
    let worker = instance.process_id();
    assert!(exists(worker));
    drop(instance);
    eventually(Duration::from_secs(2), "the worker is gone", || {
        !exists(worker)
    });
}

#[test]
fn a_dropped_engine_has_reaped_its_workers() {
    let engine = engine();
    let workers: Vec<u32> = (0..8)
        .map(|_| start(&engine, |code| code.ret().unwrap()).process_id())
        .collect();
    drop(engine);
    assert!(
        workers.iter().all(|worker| !exists(*worker)),
        "a worker outlived its engine"
    );
}

#[test]
fn a_panic_leaves_no_process() {
    let (send, receive) = std::sync::mpsc::channel();
    let panicked = std::thread::spawn(move || {
        let engine = engine();
        let instance = start(&engine, |code| code.ret().unwrap());
        send.send(instance.process_id()).unwrap();
        std::panic::resume_unwind(Box::new("an embedder's panic"));
    })
    .join();
    assert!(panicked.is_err());
    let worker = receive.recv().unwrap();
    eventually(Duration::from_secs(2), "the worker is gone", || {
        !exists(worker)
    });
}

#[test]
fn eight_instances_run_at_once() {
    let engine = engine();
    let code = assemble(|code| {
        code.mov(rax, rdi).unwrap();
        code.ret().unwrap();
    });
    let module = parts(&code).build(&engine).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (engine, module) = (&engine, &module);
            scope.spawn(move || {
                let mut instance = engine.instantiate(module).unwrap();
                for round in 0..200 {
                    call(&mut instance, &[thread << 32 | round]);
                    let expected = Interrupt::Finished(thread << 32 | round);
                    assert_eq!(instance.run().unwrap(), expected);
                }
            });
        }
    });
}

/// A start that cannot be in time is given up, says so, and leaves nothing behind.
#[test]
fn a_start_has_a_bound() {
    let engine = Engine::new(&crate::harness::config().start_timeout(Duration::ZERO)).unwrap();
    let module = parts(&[0xc3]).build(&engine).unwrap();
    // A start may be over before the first look at the clock, but not every time.
    let refused = (0..100).find_map(|_| engine.instantiate(&module).err());
    let refused = refused.expect("a start that takes longer than no time");
    assert!(matches!(refused.blame, Blame::Timeout { .. }), "{refused}");
    assert!(
        matches!(
            refused.stage,
            Stage::Nursery | Stage::Start | Stage::Lockdown(_)
        ),
        "{refused}"
    );
}
