//! A host that changes its user by the C library, which has every thread of the process do it.

use std::sync::mpsc::{TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use cellwall::Interrupt;
use linux_raw::process::{getegid, geteuid};

use super::{setgid, setuid};
use crate::harness::{alone, call, calls_or_traps, engine, parts, start};

/// Longer than any of this takes.
const BOUND: Duration = Duration::from_secs(30);
/// How many instances are started meanwhile.
const STARTS: usize = 50;

/// Becomes who this process is already: to the C library that is a change like any other. One that
/// does not come back fails the test.
fn change_user() {
    let (done, is_done) = channel();
    thread::spawn(move || {
        let answers = [setgid(getegid()), setuid(geteuid())];
        done.send(answers).expect("somebody waits");
    });
    let Ok(answers) = is_done.recv_timeout(BOUND) else {
        eprintln!("a thread of this process does not answer the C library's signal");
        // No thread ends during a change, so a panic would wait for the engine's for ever.
        std::process::abort()
    };
    assert_eq!(answers, [0, 0]);
}

#[test]
fn the_c_library_changes_the_user_of_every_thread() {
    let test = "host::users::the_c_library_changes_the_user_of_every_thread";
    alone(test, || {
        let engine = engine();
        let mut instance = start(&engine, calls_or_traps);
        change_user();
        call(&mut instance, &[0]);
        assert!(matches!(instance.run().unwrap(), Interrupt::Hostcall(_)));
        change_user();
        instance.answer(5).unwrap();
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(5));
    });
}

/// While a worker's clone shares the host's memory, a change has to wait, and comes to its end.
#[test]
fn a_change_of_user_meets_starts() {
    alone("host::users::a_change_of_user_meets_starts", || {
        let engine = engine();
        let module = parts(&[0xc3]).build(&engine).unwrap();
        let (done, are_done) = channel::<()>();
        let starts = thread::spawn(move || {
            for _ in 0..STARTS {
                drop(engine.instantiate(&module).expect("an instance"));
            }
            drop(done);
        });
        let begun = Instant::now();
        // A start that fails ends its thread, and the channel with it.
        while are_done.try_recv() == Err(TryRecvError::Empty) {
            change_user();
            assert!(begun.elapsed() < BOUND, "the starts go on");
        }
        starts.join().expect("every start");
    });
}
