//! Instances are dropped in every state, and the next one is as new.

use std::time::Duration;

use cellwall::abi::{HOSTCALL, OUT_OF_GAS, TURN_LINE};
use cellwall::{Blame, Death, Engine, Instance, Interrupt, Module, Paged, PoolConfig, TrapKind};
use iced_x86::code_asm::{CodeAssembler, dword_ptr, ecx, qword_ptr, r8, rax, rdi, rsi};

use super::{SETTLED, both_pools};
use crate::harness::{DATA, assemble, call, eventually, kill, parts};

/// Where nothing is.
const NOWHERE: u64 = 0x3000_0000;

/// Writes its argument to `DATA`, and then does as it says.
const FINISH: u64 = 1;
const CALL: u64 = 2;
const TRAP: u64 = 3;
const FAULT: u64 = 4;
const LOOP: u64 = 5;
const EMPTY: u64 = 6;
const FORGE: u64 = 7;

fn guest(code: &mut CodeAssembler) {
    let mut labels: [_; 8] = std::array::from_fn(|_| code.create_label());
    code.mov(rsi, DATA).unwrap();
    code.mov(rax, qword_ptr(rsi)).unwrap();
    code.mov(qword_ptr(rsi), rdi).unwrap();
    for (number, label) in labels.iter().enumerate().skip(1) {
        code.cmp(rdi, i32::try_from(number).unwrap()).unwrap();
        code.je(*label).unwrap();
    }
    let mut part = |code: &mut CodeAssembler, number: u64| {
        let label = &mut labels[usize::try_from(number).unwrap()];
        code.set_label(label).unwrap();
    };
    part(code, FINISH);
    code.ret().unwrap();
    part(code, CALL);
    code.mov(rax, HOSTCALL).unwrap();
    code.call(rax).unwrap();
    code.ret().unwrap();
    part(code, TRAP);
    code.ud2().unwrap();
    part(code, FAULT);
    code.mov(r8, NOWHERE).unwrap();
    code.mov(rax, qword_ptr(r8)).unwrap();
    code.ret().unwrap();
    part(code, LOOP);
    code.pause().unwrap();
    let mut again = code.create_label();
    code.set_label(&mut again).unwrap();
    code.jmp(again).unwrap();
    part(code, EMPTY);
    code.mov(rax, OUT_OF_GAS).unwrap();
    code.call(rax).unwrap();
    code.ret().unwrap();
    part(code, FORGE);
    // No state of any worker's, written where the host looks for one.
    code.mov(rax, TURN_LINE).unwrap();
    code.mov(ecx, 0x7f).unwrap();
    code.xchg(dword_ptr(rax), ecx).unwrap();
    code.jmp(again).unwrap();
}

fn module(engine: &Engine) -> Module {
    let builder = parts(&assemble(guest));
    let builder = match engine.can_change_maps() {
        true => builder.dynamic_paging(),
        false => builder,
    };
    builder.build(engine).unwrap()
}

fn goes_to(instance: &mut Instance, what: u64) -> Interrupt {
    call(instance, &[what]);
    instance.run().unwrap()
}

/// Brings an instance into a state. Whether its worker can be another's afterwards.
type Bring = fn(&mut Instance) -> bool;

const STATES: [(&str, Bring); 14] = [
    ("never run", |_| true),
    ("only written", |instance| {
        instance.store(DATA, 9_u64).unwrap();
        true
    }),
    ("only called", |instance| {
        call(instance, &[LOOP]);
        true
    }),
    ("finished", |instance| {
        assert_eq!(goes_to(instance, FINISH), Interrupt::Finished(0));
        true
    }),
    ("in a hostcall", |instance| {
        assert!(matches!(goes_to(instance, CALL), Interrupt::Hostcall(_)));
        true
    }),
    ("in an answered hostcall", |instance| {
        assert!(matches!(goes_to(instance, CALL), Interrupt::Hostcall(_)));
        instance.answer(3).unwrap();
        true
    }),
    ("trapped", |instance| {
        assert!(matches!(goes_to(instance, TRAP), Interrupt::Trap(_)));
        true
    }),
    ("in a page fault", |instance| {
        let fault = goes_to(instance, FAULT);
        assert!(matches!(
            fault,
            Interrupt::PageFault(_) | Interrupt::Trap(_)
        ));
        true
    }),
    ("in a page fault that a pager put off", |instance| {
        instance.set_pager(|_: &_, _: &mut Instance| Ok(Paged::Later));
        let fault = goes_to(instance, FAULT);
        assert!(matches!(
            fault,
            Interrupt::PageFault(_) | Interrupt::Trap(_)
        ));
        true
    }),
    ("stopped at its deadline", |instance| {
        instance.set_deadline(Duration::from_millis(5));
        assert_eq!(goes_to(instance, LOOP), Interrupt::Deadline);
        true
    }),
    ("out of gas", |instance| {
        instance.set_gas(-1);
        assert_eq!(goes_to(instance, EMPTY), Interrupt::OutOfGas);
        true
    }),
    ("dead, and nobody has noticed", |instance| {
        goes_to(instance, FINISH);
        kill(instance.process_id(), "-KILL");
        eventually(SETTLED, "it is dead", || !instance.is_alive());
        false
    }),
    ("dead", |instance| {
        kill(instance.process_id(), "-KILL");
        call(instance, &[FINISH]);
        assert!(matches!(
            instance.run().unwrap(),
            Interrupt::Died(Death::Killed(_))
        ));
        false
    }),
    ("over, for a forgery", |instance| {
        call(instance, &[FORGE]);
        let error = instance.run().unwrap_err();
        assert!(matches!(error.blame, Blame::Forged(_)), "{error}");
        false
    }),
];

#[test]
fn in_every_state() {
    both_pools(&PoolConfig::new().most(1), |engine| {
        let module = module(engine);
        for (state, bring) in STATES {
            for rest in [Duration::ZERO, Duration::from_millis(20)] {
                let mut old = engine.instantiate(&module).unwrap();
                let worker = old.process_id();
                let stays = bring(&mut old);
                drop(old);
                std::thread::sleep(rest);
                let mut new = engine.instantiate(&module).unwrap();
                assert_eq!(new.process_id() == worker, stays, "{state}");
                assert_eq!(new.load::<u64>(DATA).unwrap(), 0, "{state}");
                assert_eq!((new.registers(), new.gas()), (None, 0), "{state}");
                // Nothing is ordered, and there is nothing to answer.
                assert!(new.run().is_err() && new.answer(0).is_err(), "{state}");
                assert_eq!(goes_to(&mut new, FINISH), Interrupt::Finished(0), "{state}");
                let call = goes_to(&mut new, CALL);
                assert!(matches!(call, Interrupt::Hostcall(_)), "{state}: {call}");
                new.answer(5).unwrap();
                assert_eq!(new.run().unwrap(), Interrupt::Finished(5), "{state}");
                let Interrupt::Trap(trap) = goes_to(&mut new, TRAP) else {
                    panic!("{state}: no trap");
                };
                assert_eq!(trap.kind, TrapKind::IllegalInstruction, "{state}");
            }
        }
    });
}

#[test]
fn after_a_snapshot_a_reset_and_a_restore() {
    both_pools(&PoolConfig::new().most(1), |engine| {
        let module = module(engine);
        let mut first = engine.instantiate(&module).unwrap();
        first.store(DATA, 42_u64).unwrap();
        let snapshot = first.snapshot().unwrap();
        let worker = first.process_id();
        drop(first);
        for way in 0..4 {
            let mut old = engine.instantiate(&module).unwrap();
            assert_eq!(old.process_id(), worker);
            assert_eq!(goes_to(&mut old, FINISH), Interrupt::Finished(0), "{way}");
            if way % 2 == 1 {
                old.reset().unwrap();
            }
            if way / 2 == 1 {
                old.restore(&snapshot).unwrap();
                assert_eq!(goes_to(&mut old, FINISH), Interrupt::Finished(42));
                old.restore(&snapshot).unwrap();
            }
            drop(old);
        }
        let mut last = engine.instantiate(&module).unwrap();
        assert_eq!(last.load::<u64>(DATA).unwrap(), 0);
        // A snapshot of one tenancy is good in another.
        last.restore(&snapshot).unwrap();
        assert_eq!(goes_to(&mut last, FINISH), Interrupt::Finished(42));
    });
}
