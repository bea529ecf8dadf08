//! Processes that are to be killed and reaped, or only reaped when they end.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use linux_raw::Errno;
use linux_raw::fd::BorrowedFd;

use super::rounds::contained;
use super::waiter::Waiter;
use super::{Reap, Then};
use crate::interrupt::Death;
use crate::process::{Process, REAP_TIMEOUT};
use crate::turn::is_dead;

/// How long until what did not work is tried again: to kill for a host that has given up the right
/// to, to reap what a debugger holds on to.
const RETRY: Duration = Duration::from_secs(1);

/// How long until a nursery is asked again how one has ended, which is busy just now.
const ASK_AGAIN: Duration = Duration::from_millis(2);

/// What one process is called while it is watched. Never used twice.
pub(super) type Token = u64;

/// The first one. Those below are a waiter's own.
const FIRST: Token = 1;

struct One {
    process: Process,
    then: Option<Then>,
    is_watched: bool,
    /// Whether it is to be killed.
    is_condemned: bool,
}

/// All of them. Each leaves when it has been reaped, however long that takes.
pub(super) struct Dying {
    processes: HashMap<Token, One>,
    next: Token,
    /// When what follows follows in any case. In order, since the bound is the same for all; some
    /// are reaped by now.
    bounds: VecDeque<(Instant, Token)>,
    /// When to try again.
    retries: BTreeSet<(Instant, Token)>,
}

impl Dying {
    pub(super) fn new() -> Self {
        Self {
            processes: HashMap::new(),
            next: FIRST,
            bounds: VecDeque::new(),
            retries: BTreeSet::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// Kills a process, and has it watched.
    pub(super) fn add(&mut self, reap: Reap, waiter: &mut Waiter) {
        let Reap {
            process,
            at_once,
            then,
        } = reap;
        let has_then = then.is_some();
        let token = self.insert(One {
            process,
            then,
            is_watched: false,
            is_condemned: true,
        });
        if has_then {
            self.bounds
                .push_back((Instant::now() + REAP_TIMEOUT, token));
        }
        self.attempt(token, waiter);
        if let Some(at_once) = at_once {
            contained(at_once);
        }
    }

    /// Has a process watched that may live on.
    pub(super) fn watch(&mut self, process: Process, waiter: &mut Waiter) {
        let token = self.insert(One {
            process,
            then: None,
            is_watched: false,
            is_condemned: false,
        });
        self.attempt(token, waiter);
    }

    fn insert(&mut self, one: One) -> Token {
        let token = self.next;
        self.next += 1;
        self.processes.insert(token, one);
        token
    }

    fn attempt(&mut self, token: Token, waiter: &mut Waiter) {
        let Some(one) = self.processes.get_mut(&token) else {
            return; // reaped by now
        };
        // Refused, there is nobody to tell.
        if one.is_condemned && one.process.kill().is_err() {
            self.retries.insert((Instant::now() + RETRY, token));
        }
        // It may end by itself too.
        if !one.is_watched {
            one.is_watched = true;
            waiter.watch(token, one.process.pidfd());
        }
    }

    /// Those that a waiter is to report, each of them once.
    pub(super) fn watched(&self) -> impl Iterator<Item = (Token, BorrowedFd<'_>)> {
        let watched = self.processes.iter().filter(|(_, one)| one.is_watched);
        watched.map(|(token, one)| (*token, one.process.pidfd()))
    }

    /// Reaps a process that a waiter has reported.
    pub(super) fn look_at(&mut self, token: Token) {
        let Some(one) = self.processes.get_mut(&token) else {
            return;
        };
        one.is_watched = false;
        let Some(death) = ended(&one.process) else {
            let wait = if one.process.is_nursed() {
                ASK_AGAIN
            } else {
                RETRY
            };
            self.retries.insert((Instant::now() + wait, token));
            return;
        };
        let Some(one) = self.processes.remove(&token) else {
            return;
        };
        tracing::debug!(worker = one.process.known_id(), %death, "reaped");
        // What follows may need what the handle holds.
        drop(one.process);
        if let Some(then) = one.then {
            contained(|| then(Some(death)));
        }
    }

    /// Does what is due: what follows at the bound, and second attempts. How long until more is.
    pub(super) fn do_due(&mut self, waiter: &mut Waiter) -> Option<Duration> {
        let now = Instant::now();
        while let Some((due, token)) = self.retries.first().copied()
            && due <= now
        {
            self.retries.pop_first();
            self.attempt(token, waiter);
        }
        while let Some((_, token)) = self.bounds.front()
            && !self.processes.contains_key(token)
        {
            self.bounds.pop_front();
        }
        while let Some(token) = pop_due(&mut self.bounds, now) {
            self.give_up(token);
        }
        let due = [self.bounds.front(), self.retries.first()];
        let first = due.into_iter().flatten().map(|(due, _)| *due).min();
        first.map(|due| due.saturating_duration_since(now))
    }

    /// What follows does not wait any longer. The process is reaped all the same, some day.
    fn give_up(&mut self, token: Token) {
        let one = self.processes.get_mut(&token);
        if let Some(then) = one.and_then(|one| one.then.take()) {
            contained(|| then(None));
        }
    }

    /// The thread ends: nothing is waited for any more.
    pub(super) fn give_up_all(&mut self) {
        for (_, one) in self.processes.drain() {
            if let Some(then) = one.then {
                contained(|| then(None));
            }
        }
    }
}

fn pop_due(queue: &mut VecDeque<(Instant, Token)>, now: Instant) -> Option<Token> {
    let (_, token) = queue.pop_front_if(|(due, _)| *due <= now)?;
    Some(token)
}

/// Takes a process' exit status. `None` if it lives, or a debugger is to have the status first.
fn ended(process: &Process) -> Option<Death> {
    match process.try_reap() {
        Ok(death) => death,
        // Taken by an embedder that waits for all of its children, if it has ended at all.
        Err(Errno::ECHILD) => is_dead(process.pidfd()).then_some(Death::Unknown),
        Err(_) => None,
    }
}
