//! Each call on guest memory is made to fail, one after the other: the error names the call, and
//! the instance works on, or is over where its memory is neither the one nor the other. Nothing is
//! left behind.

mod attempts;
mod halves;

use cellwall::{Blame, Errno, Error, Instance, Interrupt, Misuse};

use self::attempts::{ALWAYS, Attempt, CHANGING, LARGE, MAPPING, World};
use super::supervised::{Supervised, supervised};
use super::{NOWHERE, PAGE, still_runs};
use crate::harness::{DATA, call, config};

/// What they fail with, in turn.
const ERRNOS: [Errno; 3] = [Errno::ENOMEM, Errno::ENFILE, Errno::EPERM];

/// After a failure: whatever the instance says, it means it.
fn is_whole(world: &World, instance: &mut Instance, case: &str) {
    instance.clear_pager();
    if let Err(error) = instance.call(world.module.entry(), &[DATA]) {
        assert_eq!(error.blame, Blame::Caller(Misuse::Over), "{case}");
        assert!(!instance.is_alive(), "{case}");
        return;
    }
    instance.set_deadline(std::time::Duration::from_secs(20));
    assert!(
        matches!(instance.run().unwrap(), Interrupt::Finished(_)),
        "{case}"
    );
    // What it says that the guest may read it may read, and both see the same.
    for address in [
        NOWHERE,
        LARGE,
        LARGE + 5 * PAGE,
        LARGE + 2048 * PAGE,
        LARGE + 3000 * PAGE,
    ] {
        call(instance, &[address]);
        let allowed = instance.is_accessible(address, 8, cellwall::Access::Write);
        let before = instance.load::<u64>(address);
        assert!(before.is_ok() || !allowed, "{case}: {address:#x}");
        match instance.run().unwrap() {
            Interrupt::Finished(value) if allowed => {
                assert_eq!(value, before.unwrap().wrapping_add(1), "{case}");
            }
            Interrupt::PageFault(fault) if !allowed => assert_eq!(fault.address, address),
            Interrupt::Trap(_) if !allowed => {}
            other => panic!("{case}: {other} at {address:#x}, allowed: {allowed}"),
        }
    }
    // And it can be made as it was.
    instance.reset().unwrap();
    assert_eq!(instance.load::<u64>(DATA).unwrap(), 0, "{case}");
    assert_eq!(instance.read(0x8_0000, 8192).unwrap(), [9; 8192], "{case}");
    still_runs(instance, &[DATA], 1);
    assert_eq!(
        instance.memory_stats().unwrap().mapped,
        world.fresh,
        "{case}"
    );
}

/// Each attempt with each of its calls failing. Gives which were seen.
fn fail_everything(
    world: &World,
    supervised: &Supervised,
    attempts: &[(&str, Attempt)],
) -> Vec<&'static str> {
    let mut seen = Vec::new();
    for (name, attempt) in attempts {
        for (number, errno) in (0..).zip(ERRNOS.into_iter().cycle()) {
            let mut instance = world.instance();
            let once = || attempt(world, &mut instance);
            let (done, struck) = supervised.failing(number, errno, once);
            let Some(call) = struck else {
                done.unwrap_or_else(|error| panic!("{name}, undisturbed: {error}"));
                break;
            };
            let case = format!("{name} with {errno} for {call}, call {number}");
            match done {
                Ok(()) => panic!("unnoticed: {case}"),
                Err(error) => assert!(is_named(&error, call, errno), "{case}: {error}"),
            }
            seen.push(call);
            is_whole(world, &mut instance, &case);
            drop(instance);
            assert_eq!(world.engine.memory_held(), 0, "{case}");
        }
    }
    seen
}

/// The error has the call's name, or says in words what it was for.
fn is_named(error: &Error, call: &str, wanted: Errno) -> bool {
    let Blame::Kernel { call: named, errno } = error.blame else {
        return false;
    };
    errno == wanted
        && match call {
            "pwrite64" => call.starts_with(named),
            "fcntl" => named.starts_with("F_") || named.starts_with(call),
            "openat" => named.contains("reopen"),
            _ => named == call,
        }
}

fn sees(seen: &[&str], calls: &[&str]) {
    for call in calls {
        assert!(seen.contains(call), "{call} was not seen failing");
    }
}

#[test]
fn every_call_of_a_mapping_is_named_when_it_fails() {
    let Some(world) = World::new(&config()) else {
        return;
    };
    supervised(|supervised| {
        let seen = fail_everything(&world, supervised, &MAPPING);
        sees(
            &seen,
            &[
                "UFFDIO_UNREGISTER",
                "UFFDIO_COPY",
                "UFFDIO_ZEROPAGE",
                "UFFDIO_CONTINUE",
            ],
        );
        sees(&seen, &["UFFDIO_WRITEPROTECT", "fallocate", "pwrite64"]);
    });
}

#[test]
fn every_call_of_a_change_of_the_map_is_named_when_it_fails() {
    let Some(world) = World::new(&config()) else {
        return;
    };
    supervised(|supervised| {
        let seen = fail_everything(&world, supervised, &CHANGING);
        sees(
            &seen,
            &[
                "UFFDIO_REGISTER",
                "UFFDIO_UNREGISTER",
                "UFFDIO_WRITEPROTECT",
            ],
        );
        sees(&seen, &["fallocate", "fstat", "lseek"]);
    });
}

#[test]
fn every_call_of_going_back_is_named_when_it_fails() {
    let Some(world) = World::new(&config()) else {
        return;
    };
    supervised(|supervised| {
        let seen = fail_everything(&world, supervised, &ALWAYS);
        sees(
            &seen,
            &[
                "fallocate",
                "pwrite64",
                "ftruncate",
                "memfd_create",
                "getrandom",
                "mmap",
            ],
        );
    });
}

#[test]
fn every_call_is_named_where_maps_are_fixed() {
    let world = World::new(&config().fixed_memory(true)).expect("it needs nothing");
    supervised(|supervised| {
        let seen = fail_everything(&world, supervised, &ALWAYS);
        assert!(!seen.iter().any(|call| call.starts_with("UFFDIO")));
        assert!(seen.contains(&"memfd_create"));
    });
}
