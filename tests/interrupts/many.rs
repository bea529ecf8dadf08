//! Interruptions at random, of a guest that is half of the time in the worker's own code.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use cellwall::Interrupt;
use cellwall::abi::HOSTCALL;
use iced_x86::code_asm::{
    CodeAssembler, eax, r8, r11, r12, r13, r14, rax, rcx, rdi, rdx, rsi, xmm7,
};

use super::Over;
use crate::harness::{call, engine, start};

/// How many stops there have to be: a debug build takes some seconds for them.
const STOPS: u64 = 100_000;
/// Whatever the machine is busy with, the test ends.
const BOUND: Duration = Duration::from_secs(10);
const STOPS_MIN: u64 = 1000;

/// Sums up, in registers of all kinds, what it makes of the answers of hostcalls, without end.
fn sums(code: &mut CodeAssembler) {
    let (mut again, mut steps) = (code.create_label(), code.create_label());
    code.xor(r12, r12).unwrap(); // hostcalls
    code.xor(r13, r13).unwrap(); // the sum of the answers
    code.mov(r14, 1i64).unwrap(); // a product of odd numbers
    code.set_label(&mut again).unwrap();
    code.mov(rdi, r12).unwrap();
    code.mov(rsi, r13).unwrap();
    code.mov(rdx, r14).unwrap();
    code.mov(rcx, 0x1234i64).unwrap();
    code.movq(xmm7, r13).unwrap();
    code.mov(eax, 5).unwrap();
    code.mov(r11, HOSTCALL).unwrap();
    code.call(r11).unwrap();
    code.movq(r8, xmm7).unwrap();
    code.sub(r8, r13).unwrap(); // 0
    code.add(r13, rax).unwrap();
    code.add(r13, r8).unwrap();
    code.inc(r12).unwrap();
    code.mov(rcx, rax).unwrap();
    code.and(rcx, 0x1_ffff).unwrap();
    code.inc(rcx).unwrap();
    code.set_label(&mut steps).unwrap();
    code.lea(rdx, r14 + r14 * 2).unwrap();
    code.mov(r14, rdx).unwrap();
    code.dec(rcx).unwrap();
    code.jnz(steps).unwrap();
    code.jmp(again).unwrap();
}

#[test]
fn random_interruptions_change_nothing_and_none_is_lost() {
    let engine = engine();
    let mut instance = start(&engine, sums);
    let handle = instance.interrupt_handle();
    call(&mut instance, &[]);
    let over = AtomicBool::new(false);
    let stops = AtomicU64::new(0);
    let begun = Instant::now();
    let (mut calls, mut sum, mut product) = (0_u64, 0_u64, 1_u64);
    let (mut in_guest, mut before) = (0_u64, 0_u64);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = 0x5eed_u64;
            let mut seen = 0;
            while !over.load(Relaxed) {
                handle.interrupt();
                // Each has to be told of before the next one, or it would not count.
                let asked = Instant::now();
                while stops.load(Relaxed) == seen && !over.load(Relaxed) {
                    assert!(asked.elapsed() < Duration::from_secs(20), "one was lost");
                    thread::yield_now();
                }
                seen = stops.load(Relaxed);
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                // Some leave their CPU to the worker: on a slow machine, whoever spins on it always
                // meets one that has not come to its guest.
                if seen % 8 == 0 {
                    thread::sleep(Duration::from_micros(random >> 50 & 0x1ff));
                }
                for _ in 0..random >> 50 & 0xff {
                    std::hint::spin_loop();
                }
            }
        });
        let _over = Over(&over);
        while stops.load(Relaxed) < STOPS && begun.elapsed() < BOUND {
            match instance.run().unwrap() {
                Interrupt::Hostcall(call) => {
                    assert_eq!(call.args[..4], [calls, sum, product, 0x1234]);
                    let answer = calls.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
                    instance.answer(answer).unwrap();
                    sum = sum.wrapping_add(answer);
                    calls += 1;
                    // As many steps as the answer says: none or many microseconds.
                    let steps = u32::try_from(answer & 0x1_ffff).unwrap() + 1;
                    product = product.wrapping_mul(3_u64.wrapping_pow(steps));
                }
                Interrupt::Interrupted => {
                    match instance.registers() {
                        Some(_) => in_guest += 1,
                        None => before += 1,
                    }
                    stops.fetch_add(1, Relaxed);
                }
                other => panic!("{other}"),
            }
        }
    });
    let stops = stops.into_inner();
    println!("{stops} stops, {in_guest} in the guest, {before} before it, {calls} hostcalls");
    assert!(stops >= STOPS_MIN);
    assert_eq!(stops, in_guest + before);
    // Some found the worker's own code, or the host's turn, and were told of later.
    assert!(in_guest > 100 && before > 100, "{in_guest} and {before}");
}

/// How often a worker is made as new meanwhile.
const RENEWALS: u64 = 20_000;

/// An interruption that comes while the host wipes what the worker has, its signal's frame among
/// that, is as good as one that has come before.
#[test]
fn interruptions_do_not_meet_a_wipe() {
    let engine = engine();
    let mut instance = start(&engine, |code| {
        code.lea(rax, rdi + 1).unwrap();
        code.ret().unwrap();
    });
    let handle = instance.interrupt_handle();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = 0x5eed_u64;
            while !over.load(Relaxed) {
                handle.interrupt();
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                // As often while it runs as while it is made as new.
                for _ in 0..random >> 50 & 0xfff {
                    std::hint::spin_loop();
                }
            }
        });
        let _over = Over(&over);
        let begun = Instant::now();
        for number in 0..RENEWALS {
            instance.reset().unwrap();
            call(&mut instance, &[number]);
            loop {
                match instance.run().unwrap() {
                    Interrupt::Interrupted => {}
                    other => break assert_eq!(other, Interrupt::Finished(number + 1)),
                }
            }
            if begun.elapsed() > BOUND {
                break;
            }
        }
    });
}
