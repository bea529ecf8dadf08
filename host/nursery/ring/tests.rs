//! Another side of the ring that writes what no nursery writes, or nothing.

use std::process::{Child, Command};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread;

use linux_raw::AsFd as _;
use linux_raw::pidfd::{PidfdFlags, pidfd_open};
use linux_raw::process::Pid;
use vmctx::ring::ENDS_MAX;
use vmctx::slots::nursery::FRESH;

use super::*;

/// Within this all answers come that come at all.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long is waited for one that does not.
const SHORT: Duration = Duration::from_millis(30);
/// What cannot be the number of a process in a nursery's namespace: it is 1 itself.
const NO_PIDS: [u32; 5] = [0, 1, PIDS, 1 << 31, u32::MAX];

impl Ring {
    /// Asks for what may be no request.
    pub(in crate::nursery) fn ask_for_anything(
        &mut self,
        what: u32,
        place: u32,
        numbers: [i32; 3],
        nursery: BorrowedFd<'_>,
    ) -> Result<(), Unanswered> {
        let deadline = Instant::now().checked_add(PATIENCE);
        self.ask_by_number(what, place, numbers, nursery, deadline)
    }

    /// Answers the next request before it is made, as `write` says.
    pub(in crate::nursery) fn forge_next(&self, write: impl Fn(&vmctx::Ring)) {
        write(self.words());
        // Release pairs with `Ring::wait`.
        self.words().nursery.answer.store(self.next(), Release);
    }
}

/// A process that does nothing, whether it lives or not.
struct Process {
    child: Child,
    pidfd: OwnedFd,
}

impl Process {
    fn alive() -> Self {
        let child = Command::new("sleep").arg("60").spawn().expect("a process");
        let number = Pid::from_raw(child.id()).expect("a number");
        let pidfd = pidfd_open(number, PidfdFlags::empty()).expect("it lives");
        Self { child, pidfd }
    }

    fn dead() -> Self {
        let mut process = Self::alive();
        process.child.kill().expect("it is ours");
        process.child.wait().expect("it is ours");
        process
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both ends: the host's, and one that is used as the nursery's.
fn ends() -> (Ring, Ring) {
    let lineage = Arc::new(Lineage::new().expect("a page"));
    let (host, fd) = Ring::new(&lineage).expect("a ring");
    let stage = Stage::Nursery;
    let page = Mapping::new(&fd, PAGE_BYTES, Sharing::ReadWrite, stage, &lineage);
    let page = page.expect("a second mapping");
    (host, Ring::of(page))
}

/// Asks once, and answers by what is written so; `number` says which request is answered.
fn ask(
    what: Request,
    number: impl Fn(u32) -> u32 + Sync,
    write: impl Fn(&vmctx::Ring) + Sync,
    deadline: Duration,
) -> (Result<(), Unanswered>, Ring) {
    let (mut host, nursery) = ends();
    let process = Process::alive();
    let asked = thread::scope(|scope| {
        scope.spawn(|| {
            let words = nursery.words();
            let begun = Instant::now();
            while words.host.request.load(Acquire) == 0 {
                assert!(begun.elapsed() < PATIENCE, "nobody asks");
                thread::yield_now();
            }
            write(words);
            let request = words.host.request.load(Relaxed);
            words.nursery.answer.store(number(request), Release);
            let _ = futex::wake(&words.nursery.answer, 1);
        });
        let deadline = Instant::now().checked_add(deadline);
        host.ask(what, 0, [0; 3], process.pidfd.as_fd(), deadline)
    });
    (asked, host)
}

fn answered(what: Request, write: impl Fn(&vmctx::Ring) + Sync) -> Ring {
    let (asked, ring) = ask(what, |number| number, write, PATIENCE);
    assert_eq!(asked, Ok(()));
    ring
}

fn born(pid: u32, pidfd: u32) -> Result<Born, Forged> {
    let ring = answered(Request::Spawn, |words| {
        words.nursery.pid.store(pid, Relaxed);
        words.nursery.pidfd.store(pidfd, Relaxed);
    });
    ring.born()
}

fn forged<T>(word: &'static str, value: u32) -> Result<T, Forged> {
    let value = value.into();
    Err(Forged { word, value })
}

#[test]
fn only_a_number_that_can_be_is_a_worker_s() {
    for pid in [2, PIDS - 1] {
        assert_eq!(born(pid, 7), Ok(Born { pid, pidfd: 7 }));
    }
    for pid in NO_PIDS {
        assert_eq!(born(pid, 7), forged("ring pid", pid));
    }
}

#[test]
fn only_a_fresh_descriptor_is_fetched() {
    for pidfd in FRESH {
        let number = pidfd.cast_unsigned();
        assert_eq!(born(2, number), Ok(Born { pid: 2, pidfd }));
    }
    let (first, end) = (FRESH.start.cast_unsigned(), FRESH.end.cast_unsigned());
    for number in (0..first).chain([end, end + 1, 1 << 31, u32::MAX]) {
        assert_eq!(born(2, number), forged("ring pidfd", number));
    }
}

#[test]
fn no_more_ends_than_there_is_room_for() {
    let most = u32::try_from(ENDS_MAX).unwrap();
    let told = |count: u32| {
        let ring = answered(Request::Reap, |words| {
            for (pid, end) in (2..).zip(&words.ends) {
                end.pid.store(pid, Relaxed);
                end.status.store(pid + 1, Relaxed);
            }
            words.nursery.count.store(count, Relaxed);
        });
        ring.ends()
    };
    for (count, may_be_more) in [(0, false), (1, false), (most - 1, false), (most, true)] {
        let (ends, more) = told(count).unwrap();
        let exited = |pid: u32| (pid, Death::Exited((pid + 1).cast_signed()));
        let expected: Vec<(u32, Death)> = (2..count + 2).map(exited).collect();
        assert_eq!((ends, more), (expected, may_be_more));
    }
    for count in [most + 1, 1 << 31, u32::MAX] {
        assert_eq!(told(count), forged("ring count", count));
    }
}

#[test]
fn only_a_number_that_can_be_has_ended() {
    for pid in NO_PIDS {
        let ring = answered(Request::Reap, |words| {
            words.ends[0].pid.store(2, Relaxed);
            words.ends[1].pid.store(pid, Relaxed);
            words.nursery.count.store(2, Relaxed);
        });
        assert_eq!(ring.ends(), forged("ring pid", pid));
    }
}

/// A signal that there is not killed nobody.
#[test]
fn how_a_worker_ended() {
    let cases = [
        (0, 7, Death::Exited(7)),
        (9, 7, Death::Killed(Signal::KILL)),
        (65, 7, Death::Exited(7)),
        (u32::MAX, u32::MAX, Death::Exited(-1)),
    ];
    for (signal, status, death) in cases {
        let ring = answered(Request::Reap, |words| {
            words.ends[0].pid.store(2, Relaxed);
            words.ends[0].signal.store(signal, Relaxed);
            words.ends[0].status.store(status, Relaxed);
            words.nursery.count.store(1, Relaxed);
        });
        assert_eq!(ring.ends(), Ok((vec![(2, death)], false)));
    }
}

#[test]
fn an_errno_that_there_is_not_is_forged() {
    let refused = |errno: u32| {
        let write = |words: &vmctx::Ring| {
            words.nursery.errno.store(errno, Relaxed);
            words.nursery.call.store(56, Relaxed); // clone
        };
        ask(Request::Spawn, |number| number, write, PATIENCE).0
    };
    let clone = Nr::from_raw(56);
    for errno in [Errno::EPERM, Errno::ENOMEM, Errno::ENOSYS] {
        let number = u32::from(errno.raw());
        assert_eq!(refused(number), Err(Unanswered::Refused(clone, errno)));
    }
    for errno in [4096, 1 << 16, 1 << 31, u32::MAX] {
        let word = "ring errno";
        let value = errno.into();
        let forged = Unanswered::Forged(Forged { word, value });
        assert_eq!(refused(errno), Err(forged));
    }
}

/// An answer to another request is none.
#[test]
fn only_the_request_that_was_made_is_answered() {
    let others: [fn(u32) -> u32; 4] = [
        |number| number + 1,
        |number| number - 1,
        |_| 0,
        |number| number | 1 << 31,
    ];
    for other in others {
        let begun = Instant::now();
        let (asked, _) = ask(Request::Reap, other, |_| {}, SHORT);
        assert_eq!(asked, Err(Unanswered::Late));
        let took = begun.elapsed();
        assert!((SHORT..10 * SHORT).contains(&took), "{took:?}");
    }
}

#[test]
fn a_dead_nursery_answers_nothing_more() {
    let process = Process::dead();
    let (mut host, nursery) = ends();
    let deadline = Instant::now().checked_add(PATIENCE);
    let begun = Instant::now();
    let nobody = process.pidfd.as_fd();
    let asked = host.ask(Request::Spawn, 0, [0; 3], nobody, deadline);
    assert_eq!(asked, Err(Unanswered::Dead));
    assert_eq!(host.wait_for_ready(nobody, deadline), Err(Unanswered::Dead));
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    // What it has said before is heard.
    nursery.words().nursery.answer.store(READY, Release);
    assert_eq!(host.wait_for_ready(nobody, deadline), Ok(()));
}

/// The number that a new page says is never a request's.
#[test]
fn numbers_begin_anew() {
    let (mut host, _) = ends();
    host.last = u32::MAX - 1;
    let process = Process::dead();
    for expected in [u32::MAX, 1, 2] {
        let asked = host.ask(Request::Reap, 0, [0; 3], process.pidfd.as_fd(), None);
        assert_eq!(asked, Err(Unanswered::Dead));
        assert_eq!(host.words().host.request.load(Relaxed), expected);
    }
}
