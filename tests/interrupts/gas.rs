//! Gas: the guest's own check, and the host's look from outside.

use std::time::{Duration, Instant};

use cellwall::Interrupt;
use cellwall::abi::{GAS, OUT_OF_GAS};
use iced_x86::code_asm::{CodeAssembler, dword_ptr, ptr, qword_ptr, r11, r12, rax, rcx, rdi, rsi};

use super::{STOPPED, counts};
use crate::harness::{DATA, call, engine, start};

/// Counts `rdi` down to zero in `rsi`, with a unit of gas for each step.
fn pays(code: &mut CodeAssembler) {
    let (mut again, mut goes_on) = (code.create_label(), code.create_label());
    code.mov(r12, GAS).unwrap();
    code.mov(rax, 77i64).unwrap();
    code.mov(rcx, 78i64).unwrap();
    code.set_label(&mut again).unwrap();
    code.sub(qword_ptr(r12), 1).unwrap();
    code.jns(goes_on).unwrap();
    code.mov(r11, OUT_OF_GAS).unwrap();
    code.call(r11).unwrap();
    code.set_label(&mut goes_on).unwrap();
    code.inc(rsi).unwrap();
    code.dec(rdi).unwrap();
    code.jnz(again).unwrap();
    // 155 and the count: no register was changed.
    code.add(rax, rcx).unwrap();
    code.add(rax, rsi).unwrap();
    code.ret().unwrap();
}

#[test]
fn a_guest_that_checks_its_gas_stops_and_goes_on() {
    let engine = engine();
    let mut instance = start(&engine, pays);
    assert_eq!(instance.gas(), 0);
    instance.set_gas(100);
    call(&mut instance, &[250]);
    for _ in 0..2 {
        assert_eq!(instance.run().unwrap(), Interrupt::OutOfGas);
        assert_eq!(instance.gas(), -1);
        assert_eq!(instance.registers(), None);
        // The step that found it was paid for.
        instance.set_gas(99);
    }
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(155 + 250));
    assert_eq!(instance.gas(), 50);
    instance.reset().unwrap();
    assert_eq!(instance.gas(), 0);
}

/// A guest that counts and never looks.
fn counts_only(code: &mut CodeAssembler) {
    let mut again = code.create_label();
    code.mov(rdi, DATA).unwrap();
    code.mov(r12, GAS).unwrap();
    code.set_label(&mut again).unwrap();
    code.inc(dword_ptr(rdi)).unwrap();
    code.dec(qword_ptr(ptr(r12))).unwrap();
    code.jmp(again).unwrap();
}

#[test]
fn the_host_stops_a_guest_without_gas() {
    let engine = engine();
    let mut instance = start(&engine, counts_only);
    instance.watch_gas(Duration::from_millis(1));
    instance.set_gas(1_000_000);
    call(&mut instance, &[]);
    let begun = Instant::now();
    assert_eq!(instance.run().unwrap(), Interrupt::OutOfGas);
    assert!(begun.elapsed() < STOPPED * 10, "{:?}", begun.elapsed());
    assert!(instance.gas() < 0);
    let count: u32 = instance.load(DATA).unwrap();
    assert!(count >= 1_000_000);
    // Not entered again as long as there is none.
    assert_eq!(instance.run().unwrap(), Interrupt::OutOfGas);
    assert_eq!(instance.load::<u32>(DATA).unwrap(), count);
    instance.set_gas(1_000_000);
    assert_eq!(instance.run().unwrap(), Interrupt::OutOfGas);
    assert!(instance.load::<u32>(DATA).unwrap() > count);
    // A deadline holds beside it.
    instance.set_gas(i64::MAX);
    instance.set_deadline(Duration::from_millis(10));
    assert_eq!(instance.run().unwrap(), Interrupt::Deadline);
}

#[test]
fn a_guest_with_gas_is_left_alone() {
    let engine = engine();
    let mut instance = start(&engine, counts);
    instance.watch_gas(Duration::ZERO);
    instance.set_gas(0);
    instance.set_deadline(Duration::from_millis(20));
    call(&mut instance, &[]);
    assert_eq!(instance.run().unwrap(), Interrupt::Deadline);
    assert_eq!(instance.gas(), 0);
}
