//! Workers that are kept: who gets which, how many there are, what they hold, how they end.

mod counts;
mod ends;
mod memory;
mod room;
mod states;

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::IntoRawFd as _;
use std::time::Duration;

use cellwall::{Blame, Config, Engine, Error, Instance, Interrupt, Misuse, Module, PoolConfig};
use iced_x86::code_asm::{qword_ptr, rax, rdi, rsi};
use linux_raw::AsFd as _;
use linux_raw::io::{self, PollFd, PollFlags};
use linux_raw::pidfd::{PidfdFlags, pidfd_open, pidfd_send_signal};
use linux_raw::process::Pid;
use linux_raw::signal::Signal;

use crate::harness::{DATA, assemble, both, call, is_nursed, parts, workers};

/// What is to happen in the background does so within this; ten times what it takes at the most.
const SETTLED: Duration = Duration::from_secs(10);

/// Both kinds of workers.
fn both_pools(pool: &PoolConfig, test: impl Fn(&Engine)) {
    both(|config| test(&engine(config, pool)));
}

/// An engine whose nursery is there: it is not taken for a worker.
fn engine(config: &Config, pool: &PoolConfig) -> Engine {
    // A worker that has to wait for a CPU is not one that does not stop.
    let config = config.clone().stop_timeout(SETTLED);
    let engine = Engine::new(&config.clone().pool(pool.clone())).expect("an engine");
    if is_nursed(&config) {
        engine.warm_up().expect("a nursery");
    }
    engine
}

/// A module that is no other's: a guest that adds its argument to the word at `DATA`, and finishes
/// with the sum.
fn module(engine: &Engine) -> Module {
    let code = assemble(|code| {
        code.mov(rsi, DATA).unwrap();
        code.add(qword_ptr(rsi), rdi).unwrap();
        code.mov(rax, qword_ptr(rsi)).unwrap();
        code.ret().unwrap();
    });
    parts(&code).build(engine).expect("a module")
}

/// Runs the guest of a new instance, which finds nothing of another's.
fn is_new(instance: &mut Instance) {
    for round in 1..4 {
        call(instance, &[7]);
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(7 * round));
    }
}

fn is_exhausted(result: Result<Instance, Error>, most: usize) -> bool {
    let error = result.expect_err("there are as many as there may be");
    error.blame == Blame::Caller(Misuse::PoolExhausted { most })
}

/// The workers that there are, by their numbers.
fn all_workers() -> BTreeSet<u32> {
    workers().into_iter().collect()
}

/// Kills a worker, and waits until it is dead: what is only about to die looks alive.
fn die(worker: u32) {
    let worker = Pid::from_raw(worker).expect("a process");
    let worker = pidfd_open(worker, PidfdFlags::empty()).expect("a worker");
    pidfd_send_signal(&worker, Some(Signal::KILL)).expect("we may kill it");
    let ended = io::poll(&mut [PollFd::new(worker.as_fd(), PollFlags::IN)], None);
    assert_eq!(ended, Ok(1));
}

/// The highest number of a descriptor, with all numbers below in use.
fn highest_descriptor() -> u64 {
    // Never closed: the process ends with the test.
    while let Ok(file) = fs::File::open("/dev/null") {
        let number = u64::try_from(file.into_raw_fd()).unwrap();
        let open = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        // The listing has one of its own.
        if number + 1 >= open - 1 {
            return number;
        }
    }
    panic!("no descriptor left");
}
