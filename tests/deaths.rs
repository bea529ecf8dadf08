//! A worker that dies, in whatever state, is a value in time; and a host that dies takes its
//! workers with it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cellwall::{Death, Instance, Interrupt, Signal};
use iced_x86::code_asm::{CodeAssembler, eax, edi, rax};

use crate::harness::{DEATH_NOTICED, call, engine, eventually, exists, kill, start};

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
    assert_eq!(instance.run().unwrap(), Interrupt::Deadline);
    eventually(
        Duration::from_secs(2),
        "a stopped worker can be killed",
        || !exists(worker),
    );
}

/// Other signals from outside do nothing: the worker is the first process of its namespace.
#[test]
fn a_terminating_signal_does_not_reach_the_guest() {
    let engine = engine();
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

/// A host with two workers, one of them busy, until somebody kills it.
fn be_a_host() {
    let engine = engine();
    let idle = start(&engine, endless);
    let mut busy = start(&engine, endless);
    println!("workers {} {}", idle.process_id(), busy.process_id());
    call(&mut busy, &[]);
    busy.set_deadline(Duration::from_secs(60));
    let _ = busy.run();
}

/// The test starts itself again as the host that is killed.
#[test]
fn a_killed_host_takes_its_workers_with_it() {
    use std::io::{BufRead, BufReader};
    if std::env::var_os("CELLWALL_TEST_HOST").is_some() {
        return be_a_host();
    }
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "deaths::a_killed_host_takes_its_workers_with_it",
            "--nocapture",
        ])
        .env("CELLWALL_TEST_HOST", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(host.stdout.take().unwrap()).lines();
    let workers: Vec<u32> = lines
        .map(|line| line.unwrap())
        .find_map(|line| line.split_once("workers ").map(|(_, rest)| rest.to_owned()))
        .expect("the host starts its workers")
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect();
    assert_eq!(workers.len(), 2);
    std::thread::sleep(Duration::from_millis(20));
    host.kill().unwrap();
    host.wait().unwrap();
    // Whoever adopts them reaps them; a zombie has no mappings left to do harm with.
    eventually(Duration::from_secs(1), "both workers are dead", || {
        workers.iter().all(|worker| is_dead(*worker))
    });
}

fn is_dead(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    !status.contains("Name:\tcellwall-worker") || status.contains("State:\tZ")
}
