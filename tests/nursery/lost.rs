//! A nursery that dies, or does not answer.

use std::time::{Duration, Instant};

use cellwall::{Blame, Death, Engine, Instance, Interrupt, Signal, Stage};
use iced_x86::code_asm::CodeAssembler;

use super::{alone_with_one, nursery, returning, works};
use crate::harness::{
    DATA, DEATH_NOTICED, assemble, call, calls_or_traps, children, config, engine, eventually,
    exists, kill, nurseries, parts, workers,
};

const SOON: Duration = Duration::from_secs(5);

fn endless(code: &mut CodeAssembler) {
    let mut again = code.create_label();
    code.set_label(&mut again).unwrap();
    code.jmp(again).unwrap();
}

fn starts(engine: &Engine, write: fn(&mut CodeAssembler)) -> Instance {
    let module = parts(&assemble(write)).build(engine).unwrap();
    engine.instantiate(&module).unwrap()
}

/// The last signal that a worker gets is not its nursery's to tell any more.
fn is_death(interrupt: Interrupt) -> bool {
    let killed = Death::Killed(Signal::KILL);
    matches!(interrupt, Interrupt::Died(death) if [killed, Death::Unknown].contains(&death))
}

/// Whether a process has ended, reaped or not.
fn is_dead(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_none_or(|(_, state)| state.starts_with('Z'))
}

#[test]
fn its_workers_die_with_it_and_there_is_a_new_one() {
    const TEST: &str = "nursery::lost::its_workers_die_with_it_and_there_is_a_new_one";
    alone_with_one(TEST, || {
        let engine = engine();
        for _ in 0..5 {
            let mut idle = starts(&engine, calls_or_traps);
            let mut calling = starts(&engine, calls_or_traps);
            call(&mut calling, &[0]);
            assert!(matches!(calling.run().unwrap(), Interrupt::Hostcall(_)));
            let mut running = starts(&engine, endless);
            running.write(DATA, b"of the dead").unwrap();
            call(&mut running, &[]);
            let numbers = [&idle, &calling, &running].map(Instance::process_id);
            let first = nursery();
            let killer = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                kill(first, "-KILL");
                Instant::now()
            });
            let end = running.run().unwrap();
            let noticed = Instant::now();
            let took = noticed.saturating_duration_since(killer.join().unwrap());
            assert!(is_death(end), "{end}");
            assert!(took < DEATH_NOTICED, "{took:?}");
            calling.answer(0).unwrap();
            call(&mut idle, &[0]);
            for other in [&mut calling, &mut idle] {
                let begun = Instant::now();
                let end = other.run().unwrap();
                assert!(is_death(end), "{end}");
                assert!(begun.elapsed() < DEATH_NOTICED);
            }
            // What the host has is there still.
            assert_eq!(running.read(DATA, 11).unwrap(), b"of the dead");
            let mut next = engine.instantiate(&returning(&engine)).unwrap();
            works(&mut next);
            eventually(SOON, "the first is reaped", || nurseries().len() == 1);
            assert_ne!(nursery(), first);
            assert!(!numbers.into_iter().any(exists));
            assert_eq!(workers(), [next.process_id()]);
        }
        drop(engine);
        eventually(SOON, "nothing is left", || children() == 0);
    });
}

/// Nobody asks it for anything any more, and still it is no zombie.
#[test]
fn one_that_dies_idle_is_reaped() {
    if let Some(why) = absence::hidden_workers() {
        return absence::absent("workers-in-proc", why);
    }
    alone_with_one("nursery::lost::one_that_dies_idle_is_reaped", || {
        let engine = engine();
        let module = returning(&engine);
        for _ in 0..3 {
            works(&mut engine.instantiate(&module).unwrap());
            eventually(SOON, "the worker is reaped", || workers().is_empty());
            // Longer than the engine's thread looks by itself.
            std::thread::sleep(Duration::from_millis(50));
            let first = nursery();
            kill(first, "-KILL");
            eventually(SOON, "it is reaped", || !exists(first));
            assert_eq!(children(), 0);
        }
        // With nothing of it left to end.
        let begun = Instant::now();
        drop((module, engine));
        assert!(begun.elapsed() < SOON / 5);
    });
}

/// At every moment: while it is asked, too. What comes is an instance or an error that says so.
#[test]
fn killed_while_it_is_asked() {
    alone_with_one("nursery::lost::killed_while_it_is_asked", || {
        // So long that no wait for what cannot come any more is taken for a busy machine's.
        let timeout = Duration::from_secs(60);
        let engine = Engine::new(&config().start_timeout(timeout)).unwrap();
        let module = returning(&engine);
        let (mut errors, mut successes) = (0, 0);
        for attempt in 0..200 {
            works(&mut engine.instantiate(&module).unwrap());
            let first = nursery();
            let killer = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_micros(attempt * 5));
                kill(first, "-KILL");
            });
            let mut ended = 0;
            // The next few starts meet it.
            for _ in 0..20 {
                let begun = Instant::now();
                let started = engine.instantiate(&module);
                let took = begun.elapsed();
                assert!(took < timeout / 4, "{took:?}: {started:?}");
                match started {
                    Ok(mut instance) => {
                        call(&mut instance, &[]);
                        let end = instance.run().unwrap();
                        assert!(
                            is_death(end) || matches!(end, Interrupt::Finished(_)),
                            "{end}"
                        );
                        successes += 1;
                    }
                    Err(error) => {
                        let is_such = matches!(error.blame, Blame::NurseryDied | Blame::Died(_));
                        assert!(is_such, "{error}");
                        ended += 1;
                        errors += 1;
                    }
                }
            }
            assert!(ended <= 1, "one death, {ended} errors");
            killer.join().unwrap();
            // Whoever asks next finds it dead.
            eventually(SOON, "it is dead", || is_dead(first));
            works(&mut engine.instantiate(&module).unwrap());
            eventually(SOON, "it is reaped", || !nurseries().contains(&first));
        }
        println!("{errors} errors, {successes} successes");
        drop((module, engine));
        eventually(SOON, "nothing is left", || children() == 0);
    });
}

#[test]
fn one_that_does_not_answer_is_replaced() {
    alone_with_one(
        "nursery::lost::one_that_does_not_answer_is_replaced",
        || {
            let timeout = Duration::from_secs(1);
            let engine = Engine::new(&config().start_timeout(timeout)).unwrap();
            let module = returning(&engine);
            works(&mut engine.instantiate(&module).unwrap());
            eventually(SOON, "reaped", || workers().is_empty());
            let first = nursery();
            kill(first, "-STOP");
            let begun = Instant::now();
            let error = engine.instantiate(&module).unwrap_err();
            let took = begun.elapsed();
            assert!((timeout..10 * timeout).contains(&took), "{took:?}");
            assert_eq!(error.stage, Stage::Nursery, "{error}");
            assert!(matches!(error.blame, Blame::Timeout { .. }), "{error}");
            works(&mut engine.instantiate(&module).unwrap());
            eventually(SOON, "the first is reaped", || !exists(first));
        },
    );
}

/// It is the first of its namespace, so that no other signal reaches it from there or from here.
#[test]
fn other_signals_do_nothing_to_it() {
    alone_with_one("nursery::lost::other_signals_do_nothing_to_it", || {
        let engine = engine();
        let module = returning(&engine);
        works(&mut engine.instantiate(&module).unwrap());
        let first = nursery();
        for signal in ["-TERM", "-INT", "-HUP", "-PIPE", "-ALRM", "-CHLD"] {
            kill(first, signal);
            works(&mut engine.instantiate(&module).unwrap());
            assert_eq!(nursery(), first, "{signal}");
        }
    });
}
