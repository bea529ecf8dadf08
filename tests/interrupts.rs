//! A guest is stopped where it is, by another thread, by a deadline, for want of gas, and goes on.

mod gas;
mod many;

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use cellwall::abi::{HOSTCALL, REGISTER_NAMES};
use cellwall::{Death, Engine, Instance, Interrupt, InterruptHandle};
use iced_x86::code_asm::{CodeAssembler, dword_ptr, eax, qword_ptr, r11, rax, rdi};

use crate::harness::forked::in_a_child;
use crate::harness::{DATA, call, config, engine, eventually, exists, kill, start};

/// Ten times the millisecond within which a guest stops where a CPU is free, and again as much
/// where the tests' own threads want the CPUs.
const STOPPED: Duration = Duration::from_millis(100);

/// Counts at `DATA` until there is something else than 0 at `DATA + 8`, which it finishes with.
fn counts(code: &mut CodeAssembler) {
    let mut again = code.create_label();
    code.mov(rdi, DATA).unwrap();
    code.set_label(&mut again).unwrap();
    code.inc(dword_ptr(rdi)).unwrap();
    code.mov(eax, dword_ptr(rdi + 8)).unwrap();
    code.test(eax, eax).unwrap();
    code.jz(again).unwrap();
    code.ret().unwrap();
}

/// Lets a guest of [`counts`] end.
fn release(instance: &mut Instance) {
    instance.store(DATA + 8, 7_u32).unwrap();
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(7));
}

/// Sets it when dropped, so that a test that panics ends its other threads too.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Uses the handle after a while, on another thread. Gives when that was.
fn later(handle: &InterruptHandle, after: Duration) -> thread::JoinHandle<Instant> {
    let handle = handle.clone();
    thread::spawn(move || {
        thread::sleep(after);
        let now = Instant::now();
        handle.interrupt();
        now
    })
}

#[test]
fn a_running_guest_is_interrupted_and_goes_on() {
    let engine = engine();
    let mut instance = start(&engine, counts);
    let handle = instance.interrupt_handle();
    call(&mut instance, &[]);
    let mut last = 0;
    for _ in 0..20 {
        let other = later(&handle, Duration::from_millis(3));
        assert_eq!(instance.run().unwrap(), Interrupt::Interrupted);
        let took = other.join().unwrap().elapsed();
        assert!(took < STOPPED, "{took:?}");
        let registers = instance.registers().expect("it has been stopped");
        assert_eq!(REGISTER_NAMES[8], "rdi");
        assert_eq!(registers[8], DATA);
        let count: u32 = instance.load(DATA).unwrap();
        assert!(count > last, "it goes on where it was");
        last = count;
        // It does nothing while it is stopped.
        thread::sleep(Duration::from_millis(1));
        assert_eq!(instance.load::<u32>(DATA).unwrap(), count);
    }
    release(&mut instance);
}

#[test]
fn what_comes_before_or_between_runs_counts_once() {
    let engine = engine();
    let mut instance = start(&engine, |code| {
        code.mov(eax, 1).unwrap();
        code.mov(r11, HOSTCALL).unwrap();
        code.call(r11).unwrap();
        code.ret().unwrap();
    });
    let handle = instance.interrupt_handle();
    handle.interrupt();
    // There is nothing that it could stop, and it stays.
    assert!(instance.run().is_err());
    call(&mut instance, &[]);
    handle.interrupt();
    assert_eq!(instance.run().unwrap(), Interrupt::Interrupted);
    assert_eq!(instance.registers(), None);
    assert!(matches!(instance.run().unwrap(), Interrupt::Hostcall(_)));
    handle.interrupt();
    handle.clone().interrupt();
    instance.answer(9).unwrap();
    assert_eq!(instance.run().unwrap(), Interrupt::Interrupted);
    // The answer is as it was given.
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(9));
    // A call and a reset leave it.
    handle.interrupt();
    instance.reset().unwrap();
    call(&mut instance, &[]);
    assert_eq!(instance.run().unwrap(), Interrupt::Interrupted);
    assert!(matches!(instance.run().unwrap(), Interrupt::Hostcall(_)));
}

#[test]
fn an_interrupted_guest_can_be_reset_or_called_anew() {
    let engine = engine();
    let mut instance = start(&engine, counts);
    let handle = instance.interrupt_handle();
    for again in [false, true] {
        call(&mut instance, &[]);
        let other = later(&handle, Duration::from_millis(3));
        assert_eq!(instance.run().unwrap(), Interrupt::Interrupted);
        other.join().unwrap();
        if again {
            instance.reset().unwrap();
            assert_eq!(instance.registers(), None);
            assert_eq!(instance.load::<u32>(DATA).unwrap(), 0);
        }
        instance.store(DATA + 8, 3_u32).unwrap();
        call(&mut instance, &[]);
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(3));
        instance.store(DATA + 8, 0_u32).unwrap();
    }
}

/// A worker that sleeps is woken by the signal, and sleeps on. So does one whose registers are
/// still those of the guest before.
#[test]
fn an_idle_worker_is_not_disturbed() {
    let engine = engine();
    let mut instance = start(&engine, counts);
    let handle = instance.interrupt_handle();
    for number in 1..50_u32 {
        instance.reset().unwrap();
        for _ in 0..number % 4 {
            handle.interrupt();
        }
        thread::sleep(Duration::from_millis(u64::from(number % 3)));
        instance.store(DATA + 8, number).unwrap();
        call(&mut instance, &[]);
        if number % 4 != 0 {
            assert_eq!(instance.run().unwrap(), Interrupt::Interrupted);
        }
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(number.into()));
    }
}

#[test]
fn many_threads_interrupt_at_once() {
    let engine = engine();
    let mut instance = start(&engine, counts);
    let handle = instance.interrupt_handle();
    call(&mut instance, &[]);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    handle.interrupt();
                    thread::sleep(Duration::from_micros(300));
                }
            });
        }
        let _over = Over(&over);
        for _ in 0..200 {
            assert_eq!(instance.run().unwrap(), Interrupt::Interrupted);
        }
    });
    // What came after the last one is one more at the most.
    instance.store(DATA + 8, 7_u32).unwrap();
    let end = match instance.run().unwrap() {
        Interrupt::Interrupted => instance.run().unwrap(),
        other => other,
    };
    assert_eq!(end, Interrupt::Finished(7));
}

#[test]
fn a_handle_outlives_its_instance() {
    let engine = engine();
    let mut instance = start(&engine, counts);
    let handle = instance.interrupt_handle();
    let worker = instance.process_id();
    kill_and_wait(worker);
    handle.interrupt();
    call(&mut instance, &[]);
    assert_eq!(instance.run().unwrap(), Interrupt::Interrupted);
    assert!(matches!(instance.run().unwrap(), Interrupt::Died(_)));
    handle.interrupt();
    drop(instance);
    handle.interrupt();
    drop(engine);
    handle.interrupt();
}

fn kill_and_wait(worker: u32) {
    kill(worker, "-KILL");
    eventually(Duration::from_secs(2), "it is dead", || {
        let status = std::fs::read_to_string(format!("/proc/{worker}/stat"));
        status.map_or(true, |status| status.contains(") Z"))
    });
}

#[test]
fn a_forked_child_interrupts_nothing() {
    let engine = engine();
    let mut instance = start(&engine, counts);
    let handle = instance.interrupt_handle();
    in_a_child(|| {
        handle.interrupt();
        instance.interrupt_handle().interrupt();
    });
    instance.store(DATA + 8, 7_u32).unwrap();
    call(&mut instance, &[]);
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(7));
}

#[test]
fn a_deadline_stops_the_guest_in_time_and_it_goes_on() {
    let engine = engine();
    let mut instance = start(&engine, counts);
    let deadline = Duration::from_millis(10);
    instance.set_deadline(deadline);
    call(&mut instance, &[]);
    let mut last = 0;
    for _ in 0..10 {
        let begun = Instant::now();
        assert_eq!(instance.run().unwrap(), Interrupt::Deadline);
        let took = begun.elapsed();
        assert!(took >= deadline && took < deadline + STOPPED, "{took:?}");
        assert!(instance.registers().is_some());
        let count: u32 = instance.load(DATA).unwrap();
        assert!(count > last);
        last = count;
    }
    release(&mut instance);
}

/// A guest that stays in the worker's own code is not stopped there, and does not stay for ever.
#[test]
fn a_guest_that_hides_in_the_workers_code_is_killed() {
    let limit = Duration::from_millis(50);
    let engine = Engine::new(&config().stop_timeout(limit)).unwrap();
    let peeks = |code: &mut CodeAssembler| {
        code.mov(rax, qword_ptr(rdi)).unwrap();
        code.ret().unwrap();
    };
    let mut instance = start(&engine, peeks);
    let mut image = Vec::new();
    for address in (HOSTCALL..HOSTCALL + 0x2000).step_by(8) {
        call(&mut instance, &[address]);
        let Interrupt::Finished(word) = instance.run().unwrap() else {
            panic!("the image can be read")
        };
        image.extend(word.to_le_bytes());
    }
    // The handler of evictions waits for an order once it has wiped its stack, and finds the one
    // to enter: that very place. `rep stosb; movabs rsp, ..`
    let waits = [0xf3, 0xaa, 0x48, 0xbc];
    let place = image.windows(4).position(|bytes| bytes == waits);
    let handler = HOSTCALL + place.expect("the handler") as u64 + 2;
    for by_handle in [true, false] {
        let mut instance = start(&engine, peeks);
        let worker = instance.process_id();
        instance.call(handler, &[]).unwrap();
        let handle = instance.interrupt_handle();
        let begun = Instant::now();
        if by_handle {
            let other = later(&handle, Duration::from_millis(5));
            assert_eq!(instance.run().unwrap(), UNRESPONSIVE);
            other.join().unwrap();
        } else {
            instance.set_deadline(Duration::from_millis(5));
            assert_eq!(instance.run().unwrap(), UNRESPONSIVE);
        }
        assert!(begun.elapsed() >= limit, "{:?}", begun.elapsed());
        assert!(begun.elapsed() < 10 * limit, "{:?}", begun.elapsed());
        eventually(Duration::from_secs(2), "it is dead", || !exists(worker));
    }
}

const UNRESPONSIVE: Interrupt = Interrupt::Died(Death::Unresponsive);

/// None of the configurations waits for ever or loses a turn.
#[test]
fn every_way_to_wait_works() {
    use cellwall::Waiting::{Balanced, Frugal, Latency};
    for waiting in [Latency, Balanced, Frugal] {
        let engine = Engine::new(&config().waiting(waiting)).unwrap();
        let mut instance = start(&engine, counts);
        let handle = instance.interrupt_handle();
        call(&mut instance, &[]);
        let other = later(&handle, Duration::from_millis(2));
        assert_eq!(
            instance.run().unwrap(),
            Interrupt::Interrupted,
            "{waiting:?}"
        );
        other.join().unwrap();
        release(&mut instance);
        let worker = instance.process_id();
        drop(instance);
        eventually(Duration::from_secs(2), "it is dead", || !exists(worker));
    }
}
