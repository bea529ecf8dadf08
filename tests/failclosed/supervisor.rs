//! Who answers for every system call of one thread and all that it starts: its workers too.
//!
//! A supervised thread may wait for an answer in the middle of the allocator. So the supervisor,
//! which is not supervised, allocates nothing; and nobody makes a supervised call while it holds
//! the script. Locks themselves are futexes, which pass.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;
use std::{fmt, fs};

use linux_raw::fd::OwnedFd;
use linux_raw::io::{PollFd, PollFlags, poll};
use linux_raw::nr::{self, Nr};
use linux_raw::seccomp::notify::{self, Notification, Response};
use linux_raw::seccomp::{
    InstallFlags, Program, Rule, compile_notifying, install_with_listener, length_notifying,
};
use linux_raw::time::Timespec;
use linux_raw::{AsFd, Errno, prctl};

use crate::harness::nurseries;

const PASSED: &[Rule] = &[
    Rule {
        call: nr::FUTEX,
        when: &[],
        why: "how often somebody waits is a matter of chance, and the script's lock needs it",
    },
    Rule {
        call: nr::SCHED_YIELD,
        when: &[],
        why: "likewise; it cannot fail",
    },
    Rule {
        call: nr::EXIT_GROUP,
        when: &[],
        why: "the end of whoever has failed",
    },
    Rule {
        call: Nr::from_raw(linux_raw::sys::general::__NR_exit),
        when: &[],
        why: "the end of a thread, which does not expect an answer",
    },
];
static FILTER: Program<{ length_notifying(PASSED) }> = compile_notifying(PASSED);

/// More calls than a start makes.
const CALLS_MAX: usize = 1024;
/// How long it is quiet before the supervisor looks whether the test is over.
const QUIET: Duration = Duration::from_millis(500);

/// A system call that was made.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) nr: Nr,
    pub(super) args: [u64; 6],
}

impl fmt::Debug for Call {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} ({}) {:x?}",
            self.nr.name(),
            self.nr.raw(),
            self.args
        )
    }
}

/// Whose calls count.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose {
    /// Those of the process that is started, from the clone on: a worker, or a nursery.
    Started,
    /// Those of the nurseries that there are.
    Nursery,
    /// Those of the host's threads that this accepts, given the last one that it accepted.
    Host(fn(Option<&Call>, &Call) -> bool),
}

/// What is done to a start.
#[derive(Clone, Copy, Debug)]
pub(super) enum Disturb {
    Nothing,
    /// The call that comes after this many is answered so.
    Once(usize, Response),
    /// That one and every later one of the same number.
    FromThenOn(usize, Response),
}

struct Script {
    whose: Whose,
    disturb: Disturb,
    /// The threads of the host's, by number.
    hosts: Vec<u32>,
    nurseries: Vec<u32>,
    /// The calls that counted; has room for all that are noted.
    seen: Vec<Call>,
    /// The number of the calls that fail from now on.
    gone: Option<Nr>,
}

/// Between the supervised thread and its supervisor.
pub(super) struct Supervised {
    listener: OnceLock<OwnedFd>,
    script: Mutex<Option<Script>>,
}

impl Supervised {
    /// Makes the start and disturbs it. Gives what became of it, and the calls that counted.
    ///
    /// Every thread of the host's that makes calls must be there before.
    pub(super) fn disturbed<T>(
        &self,
        whose: Whose,
        disturb: Disturb,
        start: impl FnOnce() -> T,
    ) -> (T, Vec<Call>) {
        let script = Script {
            whose,
            disturb,
            hosts: threads(),
            nurseries: nurseries(),
            seen: Vec::with_capacity(CALLS_MAX),
            gone: None,
        };
        self.replace(Some(script));
        let result = start();
        let script = self.replace(None).expect("the script of above");
        assert!(script.seen.len() < CALLS_MAX, "more calls than were noted");
        (result, script.seen)
    }

    /// Nothing is dropped or made while the lock is held.
    fn replace(&self, script: Option<Script>) -> Option<Script> {
        std::mem::replace(&mut self.script(), script)
    }

    fn script(&self) -> MutexGuard<'_, Option<Script>> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the calling thread under supervision. From here on it can do nothing until
    /// [`Self::supervise`] has the listener, hence allocates nothing in between.
    fn enter(&self) {
        let flags = InstallFlags::empty();
        let listener = match install_with_listener(FILTER.as_slice(), flags) {
            // An ordinary user's thread must have promised this. A root host's has not, so that a
            // worker that does not is noticed.
            Err(Errno::EACCES) => {
                prctl::set_no_new_privs().expect("no_new_privs");
                install_with_listener(FILTER.as_slice(), flags)
            }
            result => result,
        };
        let given = self
            .listener
            .set(listener.expect("a filter with a listener"));
        assert!(given.is_ok(), "one thread is supervised");
    }

    /// Answers until nobody is left to ask, or it `is_over` and quiet.
    fn supervise(&self, is_over: impl Fn() -> bool) {
        loop {
            let Some(listener) = self.listener.get() else {
                if is_over() {
                    return; // without a filter
                }
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            let mut ready = [PollFd::new(listener.as_fd(), PollFlags::IN)];
            match poll(&mut ready, Some(Timespec::from(QUIET))) {
                Ok(0) if is_over() => return,
                Ok(0) | Err(_) => continue,
                Ok(_) => {}
            }
            let [ready] = ready;
            if !ready.found().contains(PollFlags::IN) {
                return; // hung up
            }
            // ENOENT: whoever asked was killed meanwhile.
            if let Ok(asked) = notify::receive(listener) {
                let answer = self
                    .script()
                    .as_mut()
                    .map_or(Response::Continue, |script| script.answer(&asked));
                let _ = notify::respond(listener, asked.id, answer);
            }
        }
    }
}

impl Script {
    /// Before it executes, a child looks for the host's end while it waits for its id maps: how
    /// often is a matter of chance, and a look that fails is followed by the next.
    fn waits_for_maps(&self, call: &Call) -> bool {
        let has_executed = self.seen.iter().any(|seen| seen.nr == nr::EXECVEAT);
        call.nr == nr::PPOLL && !has_executed
    }

    fn answer(&mut self, asked: &Notification) -> Response {
        let call = Call {
            nr: Nr::from_raw(asked.data.nr),
            args: asked.data.args,
        };
        let is_host = self.hosts.contains(&asked.pid);
        let is_nursery = self.nurseries.contains(&asked.pid);
        let counts = match self.whose {
            Whose::Started => !is_host && !is_nursery && !self.waits_for_maps(&call),
            Whose::Nursery => is_nursery,
            Whose::Host(accepts) => is_host && accepts(self.seen.last(), &call),
        };
        if !counts || self.seen.len() >= CALLS_MAX {
            return Response::Continue;
        }
        let index = self.seen.len();
        self.seen.push(call);
        match self.disturb {
            Disturb::Once(at, response) if at == index => response,
            Disturb::FromThenOn(at, response) if at == index => {
                self.gone = Some(call.nr);
                response
            }
            Disturb::FromThenOn(_, response) if self.gone == Some(call.nr) => response,
            _ => Response::Continue,
        }
    }
}

/// Runs `body` on a thread of its own, which is supervised.
pub(super) fn under_supervision(body: impl FnOnce(&Supervised) + Send) {
    let supervised = Supervised {
        listener: OnceLock::new(),
        script: Mutex::new(None),
    };
    let shared = &supervised;
    thread::scope(|scope| {
        let test = scope.spawn(move || {
            shared.enter();
            body(shared);
        });
        supervised.supervise(|| test.is_finished());
    });
}

/// The numbers of this process' threads.
fn threads() -> Vec<u32> {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc");
    let number = |name: std::ffi::OsString| name.to_str()?.parse().ok();
    tasks
        .filter_map(|task| number(task.ok()?.file_name()))
        .collect()
}
