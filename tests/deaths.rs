//! A worker that dies, in whatever state, is a value in time; and a host that dies takes its
//! workers with it.

mod hosts;
mod starting;

use std::time::{Duration, Instant};

use cellwall::{Blame, Death, Engine, Instance, Interrupt, Misuse, Signal, Tier};
use iced_x86::code_asm::{CodeAssembler, eax, edi, rax};
use linux_raw::pidfd::{PidfdFlags, pidfd_open, pidfd_send_signal};
use linux_raw::process::Pid;

use crate::harness::{
    DATA, DEATH_NOTICED, assemble, call, calls_or_traps, config, engine, eventually, exists, kill,
    parts, start, status, tier,
};

fn endless(code: &mut CodeAssembler) {
    let mut again = code.create_label();
    code.set_label(&mut again).unwrap();
    code.jmp(again).unwrap();
}

fn calling(code: &mut CodeAssembler) {
    code.mov(rax, cellwall::abi::HOSTCALL).unwrap();
    code.call(rax).unwrap();
    code.ret().unwrap();
}

/// Kills the worker while `run` waits, and gives what `run` made of it and how long it took.
fn kill_while_running(instance: &mut Instance, signal: &'static str) -> (Interrupt, Duration) {
    let worker = instance.process_id();
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        kill(worker, signal);
        Instant::now()
    });
    let interrupt = instance.run().unwrap();
    let noticed = Instant::now();
    (
        interrupt,
        noticed.saturating_duration_since(killer.join().unwrap()),
    )
}

#[test]
fn killed_while_the_guest_runs() {
    let engine = engine();
    let mut instance = start(&engine, endless);
    call(&mut instance, &[]);
    let (interrupt, took) = kill_while_running(&mut instance, "-KILL");
    assert_eq!(interrupt, Interrupt::Died(Death::Killed(Signal::KILL)));
    assert!(took < DEATH_NOTICED, "{took:?}");
}

#[test]
fn killed_in_a_hostcall_or_between_calls() {
    let engine = engine();
    let mut instance = start(&engine, calling);
    call(&mut instance, &[]);
    assert!(matches!(instance.run().unwrap(), Interrupt::Hostcall(_)));
    kill(instance.process_id(), "-KILL");
    instance.answer(0).unwrap();
    let begun = Instant::now();
    assert_eq!(
        instance.run().unwrap(),
        Interrupt::Died(Death::Killed(Signal::KILL))
    );
    assert!(begun.elapsed() < DEATH_NOTICED);

    let mut idle = start(&engine, calling);
    kill(idle.process_id(), "-KILL");
    call(&mut idle, &[]);
    let begun = Instant::now();
    assert_eq!(
        idle.run().unwrap(),
        Interrupt::Died(Death::Killed(Signal::KILL))
    );
    assert!(begun.elapsed() < DEATH_NOTICED);
}

#[test]
fn ended_by_the_guest() {
    let engine = engine();
    let mut instance = start(&engine, |code| {
        code.mov(eax, 231).unwrap(); // exit_group
        code.mov(edi, 42).unwrap();
        code.syscall().unwrap();
    });
    call(&mut instance, &[]);
    let begun = Instant::now();
    assert_eq!(instance.run().unwrap(), Interrupt::Died(Death::Exited(42)));
    assert!(begun.elapsed() < DEATH_NOTICED);
}

/// A stopped worker is not dead: `run` waits for it, within its deadline.
#[test]
fn stopped_and_continued_from_outside() {
    let engine = engine();
    let mut instance = start(&engine, calling);
    call(&mut instance, &[]);
    assert!(matches!(instance.run().unwrap(), Interrupt::Hostcall(_)));
    let worker = instance.process_id();
    kill(worker, "-STOP");
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        kill(worker, "-CONT");
    });
    instance.answer(1).unwrap();
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(1));
    other.join().unwrap();

    kill(worker, "-STOP");
    instance.set_deadline(Duration::from_millis(50));
    call(&mut instance, &[]);
    let unresponsive = Interrupt::Died(Death::Unresponsive);
    assert_eq!(instance.run().unwrap(), unresponsive);
    eventually(
        Duration::from_secs(2),
        "a stopped worker can be killed",
        || !exists(worker),
    );
}

/// Signals that end a process which has said nothing about them.
const TERMINATING: [(&str, Signal); 4] = [
    ("-TERM", Signal::TERM),
    ("-INT", Signal::INT),
    ("-HUP", Signal::HUP),
    ("-PIPE", Signal::PIPE),
];

/// Other signals from outside end the worker of a nursery, and one without namespaces: that is
/// told.
#[test]
fn a_terminating_signal_is_told() {
    for config in [config(), config().tier(Tier::WithoutNamespaces)] {
        let engine = Engine::new(&config).unwrap();
        for (name, signal) in TERMINATING {
            let mut instance = start(&engine, calling);
            kill(instance.process_id(), name);
            call(&mut instance, &[]);
            let killed = Interrupt::Died(Death::Killed(signal));
            assert_eq!(instance.run().unwrap(), killed);
        }
    }
}

/// They do nothing to one that is the first process of a namespace of its own.
#[test]
fn a_terminating_signal_does_not_reach_the_first_process_of_a_namespace() {
    if tier() == Tier::WithoutNamespaces {
        return absence::absent("full-tier", "its workers have no namespaces");
    }
    let engine = Engine::new(&config().direct(true)).unwrap();
    let mut instance = start(&engine, calling);
    for signal in ["-TERM", "-INT", "-HUP", "-USR1", "-PIPE", "-ALRM"] {
        kill(instance.process_id(), signal);
        call(&mut instance, &[]);
        assert!(
            matches!(instance.run().unwrap(), Interrupt::Hostcall(_)),
            "{signal}"
        );
        instance.answer(0).unwrap();
        let interrupt = instance.run().unwrap();
        assert!(
            matches!(interrupt, Interrupt::Finished(_)),
            "{signal}: {interrupt}"
        );
    }
}

/// Brings a worker to a state.
type State = fn(&mut Instance);

/// The states of a worker between two runs.
const STATES: [(&str, State); 7] = [
    ("idle", |_| {}),
    ("called", |instance| call(instance, &[0])),
    ("in a hostcall", |instance| to_the_hostcall(instance)),
    ("answered", |instance| {
        to_the_hostcall(instance);
        instance.answer(0).unwrap();
    }),
    ("finished", |instance| {
        to_the_hostcall(instance);
        instance.answer(0).unwrap();
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(0));
    }),
    ("trapped", |instance| {
        call(instance, &[1]);
        assert!(matches!(instance.run().unwrap(), Interrupt::Trap(_)));
        assert!(instance.registers().is_some());
    }),
    ("stopped", |instance| {
        to_the_hostcall(instance);
        kill(instance.process_id(), "-STOP");
        eventually(Duration::from_secs(5), "it stops", || {
            status(instance, "State").starts_with('T')
        });
    }),
];

fn to_the_hostcall(instance: &mut Instance) {
    call(instance, &[0]);
    assert!(matches!(instance.run().unwrap(), Interrupt::Hostcall(_)));
}

#[test]
fn killed_in_every_state_between_two_runs() {
    let engine = engine();
    for (name, bring) in STATES {
        let mut instance = start(&engine, calls_or_traps);
        bring(&mut instance);
        assert!(instance.is_alive(), "{name}");
        let worker = instance.process_id();
        kill(worker, "-KILL");
        eventually(DEATH_NOTICED, name, || !instance.is_alive());
        // The host's own things are as they were.
        let mut byte = [1];
        instance.read_into(DATA, &mut byte).unwrap();
        instance.write(DATA, &[2]).unwrap();
        assert_eq!(byte, [0], "{name}");
        if name != "answered" {
            call(&mut instance, &[0]);
        }
        let begun = Instant::now();
        let death = Interrupt::Died(Death::Killed(Signal::KILL));
        assert_eq!(instance.run().unwrap(), death, "{name}");
        assert!(begun.elapsed() < DEATH_NOTICED, "{name}");
        // Reaped: not even a zombie.
        assert!(!exists(worker), "{name}");
        let over = instance.run().unwrap_err();
        assert_eq!(over.blame, Blame::Caller(Misuse::Over), "{name}");
    }
}

/// Killed while the host sleeps for it, and while the worker sleeps for the host, many times: no
/// moment of the turn's handing over hides a death.
#[test]
fn killed_at_any_moment_of_a_run() {
    let engine = engine();
    let module = parts(&assemble(calling)).build(&engine).unwrap();
    for round in 0..200u64 {
        let mut instance = engine.instantiate(&module).unwrap();
        let worker = Pid::from_raw(instance.process_id()).unwrap();
        let worker = pidfd_open(worker, PidfdFlags::empty()).unwrap();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(round * 20));
            pidfd_send_signal(&worker, Some(Signal::KILL)).unwrap();
            Instant::now()
        });
        call(&mut instance, &[]);
        let death = loop {
            match instance.run().unwrap() {
                Interrupt::Hostcall(_) => instance.answer(0).unwrap(),
                Interrupt::Finished(_) => call(&mut instance, &[]),
                other => break other,
            }
        };
        let noticed = Instant::now();
        assert_eq!(death, Interrupt::Died(Death::Killed(Signal::KILL)));
        let took = noticed.saturating_duration_since(killer.join().unwrap());
        assert!(took < DEATH_NOTICED, "{took:?}");
    }
}

/// The kernel kills a worker with the *thread* that started it: that is none of the embedder's.
#[test]
fn the_thread_that_made_the_engine_ends() {
    let made = std::thread::spawn(|| {
        let engine = engine();
        let module = parts(&assemble(calling)).build(&engine).unwrap();
        let mut instance = engine.instantiate(&module).unwrap();
        to_the_hostcall(&mut instance);
        (engine, module, instance)
    });
    let (engine, module, mut instance) = made.join().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    instance.answer(7).unwrap();
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(7));
    let mut next = engine.instantiate(&module).unwrap();
    to_the_hostcall(&mut next);
    next.answer(8).unwrap();
    assert_eq!(next.run().unwrap(), Interrupt::Finished(8));
}
