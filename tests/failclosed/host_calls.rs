//! The host's own calls, for an engine and for a start: each is made to fail too.

use cellwall::{Blame, Config, Engine, Errno, Error, Feature, Kernel, Stage, Step};
use linux_raw::mm::Advice;
use linux_raw::nr;
use linux_raw::seccomp::notify::Response;
use linux_raw::sys::general::MAP_SHARED;

use super::possessions::Possessions;
use super::supervisor::{Call, Disturb, Supervised, Whose};
use super::trial::{ERRNOS, adder, runs};

/// The calls that make something. Those of the allocator are not for a start alone. Left out are
/// those whose failure leaves what was there (`close`, `munmap`, `waitid`) and those that wait.
fn makes(last: Option<&Call>, call: &Call) -> bool {
    let [first, second, third, fourth, ..] = call.args;
    let advice = [Advice::DontDump, Advice::DontFork].map(|advice| advice as u64);
    match call.nr {
        nr::MMAP => fourth & u64::from(MAP_SHARED) != 0,
        nr::MADVISE => advice.contains(&third),
        // Only a new mapping is unlocked, then opened.
        nr::MPROTECT => {
            last.is_some_and(|last| last.nr == nr::MUNLOCK && last.args[..2] == [first, second])
        }
        // Eight bytes wake the engine's thread, unless it is awake: that is a matter of chance.
        nr::WRITE => third != 8,
        number => [
            nr::PRLIMIT64,
            nr::PREAD64,
            nr::MEMFD_CREATE,
            nr::FTRUNCATE,
            nr::FCNTL,
            nr::MUNLOCK,
            nr::OPENAT,
            nr::CLONE3,
            nr::CLONE,
        ]
        .contains(&number),
    }
}

/// Makes each of them fail; gives how many starts that were.
pub(super) fn fail_every_one(supervised: &Supervised, config: &Config) -> usize {
    let engine = Engine::new(config).expect("an engine");
    let module = adder(&engine);
    let disturbed = |disturb| {
        let start = || engine.instantiate(&module);
        supervised.disturbed(Whose::Host(makes), disturb, start)
    };
    let layers = engine.layers().expect("an undisturbed start");
    // A descriptor that is still open makes others' numbers, and with them calls.
    let before = Possessions::at_rest();
    let (result, calls) = disturbed(Disturb::Nothing);
    runs(result.expect("an undisturbed start"));
    before.come_back("an undisturbed start");
    for (index, call) in calls.iter().enumerate() {
        for errno in ERRNOS {
            let (result, log) = disturbed(Disturb::Once(index, Response::Errno(errno)));
            let case = format!("{errno} for {call:?}");
            let struck = log.get(index).map(|call| call.nr);
            assert_eq!(struck, Some(call.nr), "another call than before: {case}");
            match result {
                Err(error) => assert!(is_clean(&error, errno), "{error}: {case}"),
                Ok(instance) => {
                    // Where there is no clone3 there is clone.
                    let is_replaced = (call.nr, errno) == (nr::CLONE3, Errno::ENOSYS);
                    assert!(is_replaced, "unnoticed: {case}");
                    assert_eq!(instance.layers(), layers, "{case}");
                    runs(instance);
                }
            }
            before.come_back(&case);
        }
    }
    calls.len() * ERRNOS.len()
}

/// What the engine's thread is made of.
fn makes_a_thread(_: Option<&Call>, call: &Call) -> bool {
    [nr::EVENTFD2, nr::IO_URING_SETUP].contains(&call.nr)
}

/// Makes engines on which each of these calls fails. Without io_uring they do all the same.
pub(super) fn fail_an_engine_s(supervised: &Supervised, config: &Config) {
    let disturbed = |disturb| {
        let make = || Engine::new(config);
        supervised.disturbed(Whose::Host(makes_a_thread), disturb, make)
    };
    let lives = |engine: Engine| runs(engine.instantiate(&adder(&engine)).expect("a start"));
    // What the allocator keeps for a thread.
    lives(Engine::new(config).expect("an engine"));
    let before = Possessions::at_rest();
    let (engine, calls) = disturbed(Disturb::Nothing);
    lives(engine.expect("an undisturbed engine"));
    let numbers: Vec<_> = calls.iter().map(|call| call.nr).collect();
    // What a container's profile refuses does not come here.
    let has_rings = Kernel::probe().has(Feature::IoUring);
    let expected = [nr::EVENTFD2, nr::IO_URING_SETUP];
    let count = if has_rings { 2 } else { 1 };
    assert_eq!(numbers, expected[..count]);
    for (index, call) in calls.iter().enumerate() {
        for errno in ERRNOS {
            let (engine, _) = disturbed(Disturb::Once(index, Response::Errno(errno)));
            let case = format!("{errno} for {call:?}");
            match engine {
                Err(error) => {
                    let call = nr::EVENTFD2.name();
                    assert_eq!(error.blame, Blame::Kernel { call, errno }, "{case}");
                    assert_eq!(error.stage, Stage::Engine, "{case}");
                }
                Ok(engine) => {
                    assert_eq!(call.nr, nr::IO_URING_SETUP, "unnoticed: {case}");
                    lives(engine);
                }
            }
            before.come_back(&case);
        }
    }
}

/// The error is the start's own, with the kernel's answer.
fn is_clean(error: &Error, answer: Errno) -> bool {
    let stage = matches!(error.stage, Stage::Start | Stage::Lockdown(Step::IdMaps));
    stage && matches!(error.blame, Blame::Kernel { errno, .. } if errno == answer)
}
