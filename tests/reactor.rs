//! The engine's own thread: with io_uring and without, with much to do at once, and for hosts that
//! may not do everything.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use cellwall::{Config, Engine, Feature, Instance, Interrupt, Kernel, Module};
use linux_raw::Errno;
use linux_raw::nr::{self, Nr};
use linux_raw::seccomp::{Program, Refusal, compile_refusing, length_refusing};

use crate::harness::{
    alone, both, call, calls_or_traps, children, config, descriptors, engine, eventually, exists,
    forbid, is_nursed, parts, start, workers,
};

/// Dropped in one go. A start for each costs a millisecond.
const MANY: usize = 100;
/// More than the thread rests after it had something to do.
const QUIET: Duration = Duration::from_millis(50);
/// Within this all is done that nobody waits for.
const SOON: Duration = Duration::from_secs(5);

const fn refused(call: Nr) -> [Refusal; 1] {
    [Refusal {
        call,
        when: &[],
        errno: Errno::EPERM,
    }]
}

const SETUP: [Refusal; 1] = refused(nr::IO_URING_SETUP);
const ENTER: [Refusal; 1] = refused(nr::IO_URING_ENTER);
const WRITE: [Refusal; 1] = refused(nr::WRITE);
const KILL: [Refusal; 1] = refused(nr::PIDFD_SEND_SIGNAL);
static NO_SETUP: Program<{ length_refusing(&SETUP) }> = compile_refusing(&SETUP);
static NO_ENTER: Program<{ length_refusing(&ENTER) }> = compile_refusing(&ENTER);
static NO_WRITE: Program<{ length_refusing(&WRITE) }> = compile_refusing(&WRITE);
static NO_KILL: Program<{ length_refusing(&KILL) }> = compile_refusing(&KILL);

fn rings() -> usize {
    let is_ring = |link: &&String| link.contains("[io_uring]");
    descriptors().iter().filter(is_ring).count()
}

fn returning(engine: &Engine) -> Module {
    parts(&[0xc3]).build(engine).unwrap()
}

fn many(engine: &Engine, module: &Module) -> Vec<Instance> {
    let instance = |_| engine.instantiate(module).unwrap();
    (0..MANY).map(instance).collect()
}

fn runs(instance: &mut Instance) {
    call(instance, &[]);
    assert!(matches!(instance.run().unwrap(), Interrupt::Finished(_)));
}

/// Starts, runs, drops in a burst and one by one, is killed, ends with its engine: nothing is left.
fn whole_life(config: &Config) {
    let engine = Engine::new(config).unwrap();
    let module = returning(&engine);
    // What is made once and kept.
    runs(&mut engine.instantiate(&module).unwrap());
    eventually(SOON, "the first one is reaped", || workers().is_empty());
    thread::sleep(QUIET);
    let before = descriptors().len();
    let is_over = || workers().is_empty() && descriptors().len() == before;

    let mut instances = many(&engine, &module);
    instances.iter_mut().for_each(runs);
    let numbers: Vec<u32> = instances.iter().map(Instance::process_id).collect();
    assert_eq!(workers().len(), MANY);
    assert_eq!(children(), if is_nursed(config) { 1 } else { MANY });
    drop(instances);
    eventually(SOON, "a burst of drops leaves nothing", is_over);
    assert!(!numbers.into_iter().any(exists));

    for _ in 0..3 {
        let instance = engine.instantiate(&module).unwrap();
        thread::sleep(QUIET);
        drop(instance);
        eventually(SOON, "a drop that nothing follows leaves nothing", is_over);
    }

    let instances = many(&engine, &module);
    let workers: Vec<u32> = instances.iter().map(Instance::process_id).collect();
    drop((instances, module, engine));
    assert!(!workers.into_iter().any(exists), "one outlived its engine");
    assert_eq!(children(), 0, "a zombie");
    assert!(descriptors().len() < before, "the engine's own");
}

#[test]
fn by_io_uring() {
    if !Kernel::probe().has(Feature::IoUring) {
        return absence::absent("io_uring", "no ring can be made");
    }
    alone("reactor::by_io_uring", || {
        let engine = engine();
        assert_eq!(rings(), 1, "one for each engine");
        drop(engine);
        assert_eq!(rings(), 0);
        both(whole_life);
    });
}

#[test]
fn where_io_uring_is_forbidden() {
    alone("reactor::where_io_uring_is_forbidden", || {
        forbid(&NO_SETUP);
        let engine = engine();
        assert_eq!(rings(), 0);
        drop(engine);
        both(whole_life);
    });
}

/// A ring that can be made and not used: what it was told to watch is watched without it.
#[test]
fn where_io_uring_fails_later() {
    alone("reactor::where_io_uring_fails_later", || {
        forbid(&NO_ENTER);
        both(whole_life);
    });
}

/// What drops an instance needs no right to kill it.
#[test]
fn dropped_by_a_thread_that_may_not_kill() {
    alone("reactor::dropped_by_a_thread_that_may_not_kill", || {
        let engine = engine();
        let instance = start(&engine, calls_or_traps);
        let worker = instance.process_id();
        forbid(&NO_KILL);
        drop(instance);
        eventually(SOON, "it is reaped", || !exists(worker));
    });
}

/// The state of a process (proc_pid_stat(5)).
fn state(process: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.chars().next()
}

/// Who may not wake the engine's thread kills by itself, and ends.
#[test]
fn dropped_by_a_thread_that_may_not_write() {
    if let Some(why) = absence::hidden_workers() {
        return absence::absent("workers-in-proc", why);
    }
    alone("reactor::dropped_by_a_thread_that_may_not_write", || {
        // The engine's thread starts no worker that a nursery clones.
        let engine = Engine::new(&config().direct(true)).unwrap();
        let [first, second] = [(); 2].map(|()| start(&engine, calls_or_traps));
        let workers = [first.process_id(), second.process_id()];
        let starter = {
            let (engine, module) = (engine.clone(), returning(&engine));
            let (ask, asked) = std::sync::mpsc::channel::<()>();
            let handle = thread::spawn(move || {
                asked.recv().unwrap();
                runs(&mut engine.instantiate(&module).unwrap());
            });
            (ask, handle)
        };
        thread::sleep(QUIET);
        forbid(&NO_WRITE);
        drop(first);
        eventually(SOON, "it is killed", || state(workers[0]) == Some('Z'));
        let refused = engine.instantiate(second.module()).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("write failed with EPERM"), "{text}");
        // Whoever wakes the thread next has it reap.
        starter.0.send(()).unwrap();
        starter.1.join().unwrap();
        eventually(SOON, "it is reaped", || !exists(workers[0]));
        thread::sleep(QUIET);
        let begun = Instant::now();
        drop((second, engine));
        assert!(begun.elapsed() < SOON, "it waited for a thread that sleeps");
        eventually(SOON, "it is killed", || state(workers[1]) == Some('Z'));
    });
}
