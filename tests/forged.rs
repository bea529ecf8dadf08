//! A guest writes what only the worker's own code should: it is believed nothing.

mod liar;

use std::time::Duration;

use cellwall::{Blame, Engine, Error, Interrupt, Misuse};
use iced_x86::code_asm::{dword_ptr, edi, esi, rax};

use crate::harness::{call, engine, eventually, exists, start};

const STATE_WORD: u64 = cellwall::abi::TURN_LINE;
/// The fault report's first word, the signal.
const FAULT_SIGNAL: u64 = cellwall::abi::GUEST_PAGE + cellwall::abi::FAULT_OFFSET as u64;

/// A guest that writes `word` into the state word, `signal` into the fault report, and spins.
fn lie(engine: &Engine, word: u32, signal: u32) -> (u32, Result<Interrupt, Error>) {
    let mut instance = start(engine, |code| {
        let mut again = code.create_label();
        code.mov(rax, FAULT_SIGNAL).unwrap();
        code.mov(dword_ptr(rax), esi).unwrap();
        code.mov(rax, STATE_WORD).unwrap();
        code.xchg(dword_ptr(rax), edi).unwrap();
        code.set_label(&mut again).unwrap();
        code.pause().unwrap();
        code.jmp(again).unwrap();
    });
    instance.set_deadline(Duration::from_secs(20));
    call(&mut instance, &[word.into(), signal.into()]);
    let result = instance.run();
    if matches!(
        result,
        Err(Error {
            blame: Blame::Forged(_),
            ..
        })
    ) {
        let over = instance.call(0, &[]).unwrap_err();
        assert_eq!(over.blame, Blame::Caller(Misuse::Over));
    }
    (instance.process_id(), result)
}

fn is_forged(result: &Result<Interrupt, Error>) -> bool {
    matches!(
        result,
        Err(Error {
            blame: Blame::Forged(_),
            ..
        })
    )
}

#[test]
fn states_that_no_worker_may_reach_kill_it() {
    let engine = engine();
    // Boot, Idle, the host's own orders as it has not written them, and numbers that are no state.
    for word in [
        0,
        1,
        0x7ffe_0002,
        3,
        9,
        10,
        0x7f,
        0x80,
        0xff,
        0x1_0001,
        0xffff_ffff,
    ] {
        let (worker, result) = lie(&engine, word, 0);
        assert!(is_forged(&result), "{word:#x}: {result:?}");
        eventually(Duration::from_secs(2), "it is dead", || !exists(worker));
    }
}

#[test]
fn states_that_a_worker_may_reach_are_what_they_say() {
    let engine = engine();
    for flags in [0, 0x100, 0x200, 0xffff_0000] {
        let (_, hostcall) = lie(&engine, 4 | flags, 0);
        assert!(
            matches!(hostcall, Ok(Interrupt::Hostcall(_))),
            "{hostcall:?}"
        );
        let (_, finished) = lie(&engine, 5 | flags, 0);
        assert!(
            matches!(finished, Ok(Interrupt::Finished(_))),
            "{finished:?}"
        );
        let (_, trapped) = lie(&engine, 6 | flags, 11);
        assert!(matches!(trapped, Ok(Interrupt::Trap(_))), "{trapped:?}");
        let (_, without) = lie(&engine, 8 | flags, 0);
        assert!(matches!(without, Ok(Interrupt::OutOfGas)), "{without:?}");
    }
}

#[test]
fn a_trap_by_no_signal_of_a_fault_is_a_forgery() {
    let engine = engine();
    for signal in [0, 1, 2, 3, 6, 9, 10, 31, 64, 65, u32::MAX] {
        let (_, result) = lie(&engine, 6, signal);
        assert!(is_forged(&result), "signal {signal}: {result:?}");
    }
}

/// A guest that keeps taking back the bit that says that the host sleeps keeps the host from
/// nothing: it looks again by itself.
#[test]
fn the_sleep_bit_cannot_hold_the_host() {
    let engine = engine();
    let mut instance = start(&engine, |code| {
        let mut again = code.create_label();
        code.mov(rax, STATE_WORD).unwrap();
        code.set_label(&mut again).unwrap();
        code.and(dword_ptr(rax), !0x100).unwrap();
        code.jmp(again).unwrap();
    });
    instance.set_deadline(Duration::from_millis(100));
    call(&mut instance, &[]);
    let begun = std::time::Instant::now();
    // Racing with the host's own exchange it may also forge a word.
    let result = instance.run();
    assert!(
        matches!(result, Ok(Interrupt::Deadline)) || is_forged(&result),
        "{result:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(1));
}
