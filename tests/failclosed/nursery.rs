//! What a nursery does on request, and what the host does to ask it: each of these calls is made to
//! fail, in an engine of its own. The next start works, by the same nursery.

use cellwall::{Blame, Config, Engine, Errno, Error, Stage};
use linux_raw::nr::{self, Nr};
use linux_raw::seccomp::notify::Response;

use super::possessions::Possessions;
use super::supervisor::{Call, Disturb, Supervised, Whose};
use super::trial::{ERRNOS, adder, runs};
use crate::harness::nurseries;

/// The host's calls by which a nursed worker comes to be, but for those of the allocator.
fn asks(_: Option<&Call>, call: &Call) -> bool {
    const ASKS: [Nr; 7] = [
        nr::MEMFD_CREATE,
        nr::FTRUNCATE,
        nr::FCNTL,
        nr::OPENAT,
        nr::SENDMSG,
        nr::PIDFD_GETFD,
        nr::PIDFD_SEND_SIGNAL,
    ];
    ASKS.contains(&call.nr)
}

/// What goes on without the call.
fn is_replaced(call: Nr, errno: Errno) -> bool {
    match call {
        // By clone.
        nr::CLONE3 => errno == Errno::ENOSYS,
        // By the socket.
        nr::PIDFD_GETFD => [Errno::EPERM, Errno::ENOSYS].contains(&errno),
        // What stays open is closed when its number is needed again.
        nr::CLOSE => true,
        _ => false,
    }
}

/// Makes each of them fail; gives how many starts that were.
pub(super) fn fail_every_request(supervised: &Supervised, config: &Config) -> usize {
    let whose = [Whose::Nursery, Whose::Host(asks)];
    whose
        .map(|whose| fail_every(supervised, config, whose))
        .iter()
        .sum()
}

fn fail_every(supervised: &Supervised, config: &Config, whose: Whose) -> usize {
    let warm = || {
        let engine = Engine::new(config).expect("an engine");
        engine.warm_up().expect("a nursery");
        let module = adder(&engine);
        (engine, module)
    };
    // What the allocator keeps for an engine's thread.
    drop(warm());
    let before = Possessions::at_rest();
    let calls = {
        let (engine, module) = warm();
        let start = || engine.instantiate(&module);
        let (result, calls) = supervised.disturbed(whose, Disturb::Nothing, start);
        runs(result.expect("an undisturbed start"));
        calls
    };
    assert!(calls.len() > 3, "{calls:?}");
    for (index, call) in calls.iter().enumerate() {
        for errno in ERRNOS {
            let case = format!("{errno} for {call:?} of {whose:?}");
            let (engine, module) = warm();
            let nursery = nurseries();
            let start = || engine.instantiate(&module);
            let disturb = Disturb::Once(index, Response::Errno(errno));
            let (result, log) = supervised.disturbed(whose, disturb, start);
            let struck = log.get(index).map(|call| call.nr);
            assert_eq!(struck, Some(call.nr), "another call than before: {case}");
            match result {
                Err(error) => assert!(is_named(&error, errno), "{error}: {case}"),
                Ok(instance) => {
                    assert!(is_replaced(call.nr, errno), "unnoticed: {case}");
                    runs(instance);
                }
            }
            let others = [start(), start()];
            for other in others {
                runs(other.unwrap_or_else(|error| panic!("{error} after {case}")));
            }
            assert_eq!(nurseries(), nursery, "{case}");
            drop((engine, module));
            before.come_back(&case);
        }
    }
    calls.len() * ERRNOS.len()
}

/// The error is the start's own, with the kernel's answer.
fn is_named(error: &Error, answer: Errno) -> bool {
    let stage = matches!(error.stage, Stage::Start | Stage::Nursery);
    stage && matches!(error.blame, Blame::Kernel { errno, .. } if errno == answer)
}
