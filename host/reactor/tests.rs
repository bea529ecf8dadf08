//! With processes that are no workers; `tests/reactor.rs` has those.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use linux_raw::pidfd::{PidfdFlags, pidfd_open};
use linux_raw::process::Pid;
use linux_raw::seccomp::{
    InstallFlags, Program, Refusal, compile_refusing, install, length_refusing,
};
use linux_raw::signal::Signal;
use linux_raw::{Errno, nr, prctl};

use super::dying::Dying;
use super::mailbox::Mailbox;
use super::waiter::Waiter;
use super::{Reap, Reaper};
use crate::interrupt::Death;
use crate::process::{Process, REAP_TIMEOUT};
use crate::turn::is_dead;
use crate::ways::Ways;
use crate::{Config, Engine};

/// Longer than any of this takes.
const BOUND: Duration = Duration::from_secs(30);

fn sleeper() -> Process {
    open(Command::new("sleep").arg("1000").spawn().unwrap().id())
}

fn open(process: u32) -> Process {
    let pidfd = pidfd_open(Pid::from_raw(process).unwrap(), PidfdFlags::empty()).unwrap();
    Process::child(pidfd, process)
}

fn reaper(engine: &Engine) -> Reaper {
    engine.core().reactor.reaper().clone()
}

/// Hands a process over; what follows tells here.
fn handed_over(reaper: &Reaper, process: Process) -> Receiver<(Option<Death>, Option<String>)> {
    let (tell, told) = channel();
    reaper.reap_then(process, move |death| {
        let name = thread::current().name().map(str::to_owned);
        tell.send((death, name)).unwrap();
    });
    told
}

#[test]
fn what_follows_an_end_follows_it_on_the_engines_thread() {
    let engine = Engine::new(&Config::default()).unwrap();
    let told: Vec<_> = (0..100)
        .map(|_| handed_over(&reaper(&engine), sleeper()))
        .collect();
    let killed = Some(Death::Killed(Signal::KILL));
    for told in told {
        let (death, thread) = told.recv_timeout(BOUND).unwrap();
        assert_eq!(death, killed);
        assert_eq!(thread.as_deref(), Some("cellwall-engine"));
    }
    // Asleep by now, perhaps, and over before it was handed over.
    thread::sleep(Duration::from_millis(50));
    let over = sleeper();
    over.kill().unwrap();
    while !is_dead(over.pidfd()) {
        thread::yield_now();
    }
    let told = handed_over(&reaper(&engine), over);
    assert_eq!(told.recv_timeout(BOUND).unwrap().0, killed);
}

/// Nobody but its parent is told how a process ended: only that it has.
#[test]
fn the_end_of_anothers_child_is_noticed_too() {
    let engine = Engine::new(&Config::default()).unwrap();
    let mut shell: Child = Command::new("sh")
        .args(["-c", "sleep 1000 & echo $!; wait"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let output = shell.stdout.take().unwrap();
    BufReader::new(output).read_line(&mut line).unwrap();
    let told = handed_over(&reaper(&engine), open(line.trim().parse().unwrap()));
    let (death, _) = told.recv_timeout(BOUND).unwrap();
    assert_eq!(death, Some(Death::Unknown));
    // It was what the shell waited for.
    assert!(shell.wait().is_ok());
}

#[test]
fn the_engines_end_waits_for_what_follows() {
    let engine = Engine::new(&Config::default()).unwrap();
    let reaper = reaper(&engine);
    let told: Vec<_> = (0..20).map(|_| handed_over(&reaper, sleeper())).collect();
    drop(engine);
    for told in told {
        assert!(told.try_recv().is_ok_and(|(death, _)| death.is_some()));
    }
    // Afterwards it is done by whoever asks.
    let told = handed_over(&reaper, sleeper());
    let (death, thread) = told.try_recv().unwrap();
    assert_eq!(death, Some(Death::Killed(Signal::KILL)));
    assert_eq!(thread.as_deref(), thread::current().name());
    let (done, is_done) = channel();
    reaper.run(move || done.send(()).unwrap());
    assert_eq!(is_done.try_recv(), Ok(()));
}

#[test]
fn a_task_that_panics_is_not_the_threads_end() {
    let engine = Engine::new(&Config::default()).unwrap();
    let reaper = reaper(&engine);
    reaper.run(|| std::panic::resume_unwind(Box::new("a bug")));
    reaper.reap_then(sleeper(), |_| std::panic::resume_unwind(Box::new("a bug")));
    for _ in 0..2 {
        let (done, is_done) = channel();
        reaper.run(move || done.send(()).unwrap());
        assert_eq!(is_done.recv_timeout(BOUND), Ok(()));
    }
    let told = handed_over(&reaper, sleeper());
    let killed = Some(Death::Killed(Signal::KILL));
    assert_eq!(told.recv_timeout(BOUND).unwrap().0, killed);
}

#[test]
fn a_task_may_have_the_last_handle() {
    let engine = Engine::new(&Config::default()).unwrap();
    let reaper = reaper(&engine);
    let (done, is_done) = channel();
    reaper.run(move || {
        drop(engine);
        done.send(()).unwrap();
    });
    assert_eq!(is_done.recv_timeout(BOUND), Ok(()));
}

const NO_SIGNALS: &[Refusal] = &[Refusal {
    call: nr::PIDFD_SEND_SIGNAL,
    when: &[],
    errno: Errno::EPERM,
}];
static FILTER: Program<{ length_refusing(NO_SIGNALS) }> = compile_refusing(NO_SIGNALS);

/// One round as the thread makes it.
fn round(mailbox: &Mailbox, dying: &mut Dying, waiter: &mut Waiter) {
    let due = dying.do_due(waiter);
    let mut ended = Vec::new();
    waiter.wait(mailbox, dying, due, &mut ended);
    for token in ended {
        dying.look_at(token);
    }
}

/// Who may not kill does not try all the time; what follows does not wait for ever, and is told
/// that the process lives; and that is reaped all the same when it ends.
#[test]
fn a_process_that_does_not_die() {
    let process = sleeper();
    let (another, mailbox) = (open(process.id()), Mailbox::new().unwrap());
    let (tell, told) = channel();
    let begun = Instant::now();
    let forbidden = thread::spawn(move || {
        prctl::set_no_new_privs().unwrap();
        install(FILTER.as_slice(), InstallFlags::empty()).unwrap();
        let ways = Arc::new(Ways::new(&Config::default()).unwrap());
        let (mut dying, mut waiter) = (Dying::new(), Waiter::new(&ways).unwrap());
        let reap = Reap {
            process,
            at_once: None,
            then: Some(Box::new(move |death| tell.send(death).unwrap())),
        };
        dying.add(reap, &mut waiter);
        let mut rounds = 0;
        while !dying.is_empty() {
            round(&mailbox, &mut dying, &mut waiter);
            rounds += 1;
        }
        (begun.elapsed(), rounds)
    });
    assert_eq!(told.recv_timeout(BOUND), Ok(None));
    assert!(begun.elapsed() >= REAP_TIMEOUT);
    another.kill().unwrap();
    let (took, rounds) = forbidden.join().unwrap();
    assert!(took < BOUND, "{took:?}");
    // One a second, and some for the bound and the end; not one a millisecond.
    assert!(rounds < 30, "{rounds} rounds in {took:?}");
    assert_eq!(another.try_reap(), Err(Errno::ECHILD), "a zombie");
}
