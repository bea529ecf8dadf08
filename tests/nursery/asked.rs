#![expect(
    unsafe_code,
    reason = "counts signals: there is no wrapper for a handler"
)]
//! What a host that may not do everything, or looks at its children, has of it.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use cellwall::{Death, Interrupt, Signal};
use linux_raw::nr::{self, Nr};
use linux_raw::pidfd::{WaitFlags, waitid_any};
use linux_raw::seccomp::{
    InstallFlags, Program, Refusal, compile_refusing, install, length_refusing,
};
use linux_raw::{Errno, prctl};

use super::{alone_with_one, nursery, returning, works};
use crate::harness::{call, calls_or_traps, engine, eventually, exists, kill, start, workers};

const SOON: Duration = Duration::from_secs(5);

const fn refused(call: Nr, errno: Errno) -> [Refusal; 1] {
    [Refusal {
        call,
        when: &[],
        errno,
    }]
}

const FORBIDDEN: [Refusal; 1] = refused(nr::PIDFD_GETFD, Errno::EPERM);
const MISSING: [Refusal; 1] = refused(nr::PIDFD_GETFD, Errno::ENOSYS);
static NO_RIGHT: Program<{ length_refusing(&FORBIDDEN) }> = compile_refusing(&FORBIDDEN);
static NO_CALL: Program<{ length_refusing(&MISSING) }> = compile_refusing(&MISSING);

fn without_fetching<const N: usize>(filter: &'static Program<N>) {
    prctl::set_no_new_privs().unwrap();
    install(filter.as_slice(), InstallFlags::empty()).unwrap();
    let engine = engine();
    let module = returning(&engine);
    let mut instances: Vec<_> = (0..20)
        .map(|_| engine.instantiate(&module).unwrap())
        .collect();
    instances.iter_mut().for_each(works);
    let first = nursery();
    let mut killed = start(&engine, calls_or_traps);
    kill(killed.process_id(), "-KILL");
    call(&mut killed, &[0]);
    let died = Interrupt::Died(Death::Killed(Signal::KILL));
    assert_eq!(killed.run().unwrap(), died);
    drop((instances, killed));
    eventually(SOON, "all are reaped", || workers().is_empty());
    works(&mut engine.instantiate(&module).unwrap());
    assert_eq!(nursery(), first);
}

/// The descriptors of a worker come over the socket then.
#[test]
fn a_host_that_may_fetch_no_descriptor() {
    alone_with_one(
        "nursery::asked::a_host_that_may_fetch_no_descriptor",
        || {
            without_fetching(&NO_RIGHT);
        },
    );
}

/// Before Linux 5.6.
#[test]
fn a_kernel_that_fetches_no_descriptor() {
    alone_with_one(
        "nursery::asked::a_kernel_that_fetches_no_descriptor",
        || {
            without_fetching(&NO_CALL);
        },
    );
}

static HEARD: AtomicU32 = AtomicU32::new(0);

extern "C" fn hear(_: i32) {
    HEARD.fetch_add(1, Relaxed);
}

unsafe extern "C" {
    /// The C library's: an embedder's handler is not set by a bare system call.
    fn signal(signal: i32, handler: extern "C" fn(i32)) -> usize;
}

/// An embedder that waits for its children and counts their signals hears of no worker.
#[test]
fn the_host_hears_nothing_of_workers_deaths() {
    const TEST: &str = "nursery::asked::the_host_hears_nothing_of_workers_deaths";
    alone_with_one(TEST, || {
        let sigchld = i32::try_from(Signal::CHLD.raw()).unwrap();
        // SAFETY: the handler adds to an atomic, which may be done in a handler.
        unsafe { signal(sigchld, hear) };
        let engine = engine();
        engine.warm_up().unwrap();
        let nothing = || waitid_any(WaitFlags::NOHANG);
        for round in 0..20 {
            let mut instance = start(&engine, calls_or_traps);
            let worker = instance.process_id();
            call(&mut instance, &[1]);
            assert!(matches!(instance.run().unwrap(), Interrupt::Trap(_)));
            if round % 2 == 0 {
                kill(worker, "-KILL");
                call(&mut instance, &[0]);
                let died = Interrupt::Died(Death::Killed(Signal::KILL));
                assert_eq!(instance.run().unwrap(), died);
            }
            drop(instance);
            eventually(SOON, "it is reaped", || !exists(worker));
        }
        // Ten were the `kill` commands' own, which the test has waited for.
        assert_eq!(HEARD.load(Relaxed), 10);
        assert_eq!(
            nothing(),
            Ok(None),
            "the nursery alone is its child, and lives"
        );
        let first = nursery();
        drop(engine);
        eventually(SOON, "the nursery is reaped", || !exists(first));
    });
}
