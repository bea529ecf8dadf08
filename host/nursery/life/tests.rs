//! A real nursery, asked for what no host asks: it refuses, and lives on.

use std::sync::atomic::Ordering::Relaxed;

use linux_raw::nr::Nr;
use linux_raw::signal::Signal;
use vmctx::ring::WORKERS_MAX;
use vmctx::slots::nursery::FRESH;

use super::*;
use crate::config::Config;
use crate::engine::Engine;
use crate::interrupt::Interrupt;
use crate::module::Module;
use vmctx::Tier;

/// Within this all happens that happens at all.
const BOUND: Duration = Duration::from_secs(10);
/// A number that a host may give, under which nothing is.
const EMPTY: i32 = ADOPTED.end - 1;

fn works(engine: &Engine) {
    let code = [0xc3]; // ret
    let module = Module::builder().code(&code).stack(0x10_0000, 0x1000);
    let module = module.build(engine).unwrap();
    let mut instance = engine.instantiate(&module).unwrap();
    instance.call(module.entry(), &[]).unwrap();
    assert!(matches!(instance.run().unwrap(), Interrupt::Finished(_)));
}

#[test]
fn what_no_host_asks_is_refused() {
    if absence::tier() != Tier::Full {
        return absence::absent("full-tier", "a nursery takes namespaces");
    }
    let engine = Engine::new(&Config::default()).unwrap();
    engine.warm_up().unwrap();
    let nursery = engine.core().nursery.as_ref().unwrap();
    works(&engine);
    let id = nursery.state().life.as_ref().unwrap().id();
    let ask = |what: u32, place: u32, numbers: [i32; 3]| {
        let mut state = nursery.state();
        let life = state.life.as_mut().unwrap();
        let process = life.process.pidfd();
        life.ring.ask_for_anything(what, place, numbers, process)
    };
    let refuses = |what: u32, place: u32, numbers: [i32; 3], call: Nr| {
        let refused = Unanswered::Refused(call, Errno::EBADMSG);
        let case = format!("{what}, {place}, {numbers:?}");
        assert_eq!(ask(what, place, numbers), Err(refused), "{case}");
    };
    for what in [0, 7, 8, 1 << 31, u32::MAX] {
        refuses(what, 0, [EMPTY; 3], nr::FUTEX);
    }
    let spawn = Request::Spawn as u32;
    for place in [WORKERS_MAX, WORKERS_MAX + 1, 1 << 31, u32::MAX] {
        refuses(spawn, place, [EMPTY; 3], nr::CLONE3);
    }
    // The nursery's own descriptors, those that are fresh, and what is no number.
    let not_adopted = (1..ADOPTED.start).chain([ADOPTED.end, i32::MAX, -1, i32::MIN]);
    for number in not_adopted.clone() {
        for place in 0..3 {
            let mut numbers = [EMPTY; 3];
            numbers[place] = number;
            refuses(spawn, 0, numbers, nr::FCNTL);
        }
        for what in [Request::Adopt, Request::Close] {
            refuses(what as u32, number.cast_unsigned(), [0; 3], nr::FCNTL);
        }
    }
    for number in not_adopted.filter(|number| !FRESH.contains(number)) {
        for what in [Request::Send, Request::Kill] {
            refuses(what as u32, number.cast_unsigned(), [0; 3], nr::FCNTL);
        }
    }
    // Nothing is there that it could send, kill, or take.
    let nothing = FRESH.start.cast_unsigned() + 5;
    let refused = |call, errno| Err(Unanswered::Refused(call, errno));
    let sent = ask(Request::Send as u32, nothing, [0; 3]);
    assert_eq!(sent, refused(nr::SENDMSG, Errno::EBADF));
    let killed = ask(Request::Kill as u32, nothing, [0; 3]);
    assert_eq!(killed, refused(nr::PIDFD_SEND_SIGNAL, Errno::EBADF));
    let taken = ask(Request::Adopt as u32, EMPTY.cast_unsigned(), [0; 3]);
    assert_eq!(taken, refused(nr::RECVMSG, Errno::EAGAIN));
    assert_eq!(nursery.state().life.as_ref().unwrap().id(), id);
    works(&engine);
    assert_eq!(nursery.state().life.as_ref().unwrap().id(), id);
}

/// Of a worker's end nobody waits for an answer that could be an error.
#[test]
fn one_that_tells_of_ends_that_cannot_be_is_ended() {
    if absence::tier() != Tier::Full {
        return absence::absent("full-tier", "a nursery takes namespaces");
    }
    let engine = Engine::new(&Config::default()).unwrap();
    let nursery = engine.core().nursery.as_ref().unwrap();
    let forgeries: [fn(&vmctx::Ring); 3] = [
        |words| words.nursery.count.store(u32::MAX, Relaxed),
        |words| {
            words.nursery.count.store(1, Relaxed);
            words.ends[0].pid.store(1, Relaxed);
        },
        |words| words.nursery.errno.store(u32::MAX, Relaxed),
    ];
    for forge in forgeries {
        works(&engine);
        let mut state = nursery.state();
        let life = state.life.as_mut().unwrap();
        let id = life.id();
        // It would answer otherwise.
        pidfd::pidfd_send_signal(life.process.pidfd(), Some(Signal::STOP)).unwrap();
        eventually(|| stat(id).is_some_and(|stat| stat.contains(") T ")));
        life.ring.forge_next(|words| {
            words.nursery.errno.store(0, Relaxed);
            forge(words);
        });
        let deadline = Instant::now().checked_add(BOUND);
        assert_eq!(life.ends(deadline), (Vec::new(), true));
        assert!(!life.is_alive());
        drop(state);
        eventually(|| stat(id).is_none_or(|stat| stat.contains(") Z ")));
        works(&engine);
        let mut state = nursery.state();
        assert_ne!(state.life.as_mut().unwrap().id(), id);
        drop(state);
        eventually(|| stat(id).is_none());
    }
}

/// proc_pid_stat(5), while there is such a process.
fn stat(process: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{process}/stat")).ok()
}

fn eventually(mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < BOUND);
        std::thread::sleep(Duration::from_millis(1));
    }
}
