//! What the thread does, round by round: what it was asked for, one start, what is due, what has
//! ended; then it rests.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use linux_raw::signal::{self, MaskHow, SigSet, Signal};

use super::dying::{Dying, Token};
use super::mailbox::{Mailbox, Reader};
use super::waiter::Waiter;
use super::{Answer, Reap, Request};
use crate::error::Error;
use crate::process::REAP_TIMEOUT;
use crate::spawn::{Spawner, Start};

/// For how long after the last request the thread looks by itself, and how often: a host that makes
/// and drops instances all the time drops them without waking anybody.
const DOZE: Duration = Duration::from_millis(10);
const DOZE_INTERVAL: Duration = Duration::from_millis(1);

/// All that the thread has.
pub(super) struct Rounds {
    spawner: Spawner,
    mailbox: Arc<Mailbox>,
    waiter: Waiter,
    dying: Dying,
    starts: VecDeque<(Box<Start>, Answer)>,
    requests: Vec<Request>,
    ended: Vec<Token>,
    /// When it was last asked for something.
    asked: Instant,
}

impl Rounds {
    pub(super) fn new(spawner: Spawner, mailbox: Arc<Mailbox>) -> Result<Self, Error> {
        Ok(Self {
            waiter: Waiter::new(spawner.ways())?,
            spawner,
            mailbox,
            dying: Dying::new(),
            starts: VecDeque::new(),
            requests: Vec::new(),
            ended: Vec::new(),
            asked: Instant::now(),
        })
    }

    /// Until the mailbox is closed and all is done.
    pub(super) fn run(mut self) {
        block_signals();
        self.spawner = self.spawner.watched_by_this_thread();
        while self.handle_requests() {
            // One at a time: it takes long, and kills do not wait for all of them.
            if let Some((start, answer)) = self.starts.pop_front() {
                self.start(*start, &answer);
            }
            self.rest();
        }
        // Their callers have gone.
        self.starts.clear();
        self.reap_the_rest();
    }

    /// Does what was asked for meanwhile; starts are only noted. Whether more can come.
    fn handle_requests(&mut self) -> bool {
        let is_open = self.mailbox.take(&mut self.requests);
        if !self.requests.is_empty() {
            self.asked = Instant::now();
        }
        for request in self.requests.drain(..) {
            match request {
                Request::Start(start, answer) => self.starts.push_back((start, answer)),
                Request::Reap(reap) => self.dying.add(reap, &mut self.waiter),
                Request::Watch(process) => self.dying.watch(process, &mut self.waiter),
                Request::Run(task) => contained(task),
            }
        }
        is_open
    }

    fn start(&mut self, start: Start, answer: &Answer) {
        // The caller waits for the answer, and if it panicked meanwhile nobody else wants the
        // worker.
        if let Err(lost) = answer.send(self.spawner.spawn(start))
            && let Ok(process) = lost.0
        {
            let reap = Reap {
                process,
                at_once: None,
                then: None,
            };
            self.dying.add(reap, &mut self.waiter);
        }
        self.asked = Instant::now();
    }

    /// Waits until there is something to do, and reaps what has ended.
    fn rest(&mut self) {
        let due = self.dying.do_due(&mut self.waiter);
        let (reader, interval) = if self.asked.elapsed() < DOZE {
            (Reader::Dozing, Some(DOZE_INTERVAL))
        } else {
            (Reader::Asleep, None)
        };
        let busy = !self.starts.is_empty() || !self.mailbox.may_rest(reader);
        let timeout = if busy {
            Some(Duration::ZERO)
        } else {
            shorter(due, interval)
        };
        self.wait(timeout);
    }

    fn wait(&mut self, timeout: Option<Duration>) {
        let ended = &mut self.ended;
        self.waiter.wait(&self.mailbox, &self.dying, timeout, ended);
        for token in ended.drain(..) {
            self.dying.look_at(token);
        }
    }

    /// All of them have been killed: what one takes to end, the others take too.
    fn reap_the_rest(&mut self) {
        let deadline = Instant::now() + REAP_TIMEOUT;
        while !self.dying.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let due = self.dying.do_due(&mut self.waiter);
            self.wait(shorter(due, Some(left)));
        }
        self.dying.give_up_all();
    }
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

/// A task that panics has a bug, for which not every worker of the engine has to die: the kernel
/// kills them with this thread.
pub(super) fn contained(task: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(task)).is_err() {
        tracing::error!("a task of the engine's thread panicked");
    }
}

/// The last of the signals, from 32 on, that the C library keeps for itself.
const LAST_OF_THE_LIBRARYS: u32 = if cfg!(target_env = "musl") { 34 } else { 33 };

/// Keeps the embedder's signals from a thread of the engine's.
pub(crate) fn block_signals() {
    // This cannot fail: the set and the operation are valid.
    let _ = signal::sigprocmask(MaskHow::Set, &standing_mask());
}

/// What such a thread blocks while it waits: the embedder's signal handlers run on its own threads.
///
/// Not the C library's signals. Users are a thread's own to Linux, so its `setuid` and the like
/// signal every thread of the process and wait until each has changed its user: who blocks that
/// signal keeps the embedder waiting for ever.
fn standing_mask() -> SigSet {
    let librarys = (32..=LAST_OF_THE_LIBRARYS).filter_map(Signal::from_raw);
    librarys.fold(SigSet::FULL, SigSet::without)
}
