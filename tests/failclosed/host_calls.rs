//! The host's own calls for a start: each is made to fail too.

use cellwall::{Blame, Config, Engine, Errno, Error, Stage, Step};
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
        number => [
            nr::PRLIMIT64,
            nr::PREAD64,
            nr::MEMFD_CREATE,
            nr::FTRUNCATE,
            nr::FCNTL,
            nr::MUNLOCK,
            nr::OPENAT,
            nr::WRITE,
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

/// The error is the start's own, with the kernel's answer.
fn is_clean(error: &Error, answer: Errno) -> bool {
    let stage = matches!(error.stage, Stage::Start | Stage::Lockdown(Step::IdMaps));
    stage && matches!(error.blame, Blame::Kernel { errno, .. } if errno == answer)
}
