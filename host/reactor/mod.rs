//! The engine's own thread: it starts the nursery and workers that have none, kills and reaps those
//! that are dropped, and does what has to wait for their end.
//!
//! The kernel kills what is started here when the *thread* that started it ends, and a nursery
//! takes its workers along. So it is this thread, which lives as long as the engine, and never one
//! of the embedder's.
//!
//! | file | what |
//! |---|---|
//! | `mailbox` | what the thread is asked for, and how it is woken |
//! | `rounds` | what it does, round by round |
//! | `dying` | processes that are to be killed and reaped |
//! | `waiter` | waiting: by io_uring (`ring`), or by `poll` where that is not to be had |

mod dying;
mod mailbox;
mod poll;
pub(crate) mod ring;
mod rounds;
#[cfg(test)]
mod tests;
mod waiter;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, Builder, JoinHandle};

use linux_raw::nr;

use self::mailbox::{Mailbox, Unposted};
use self::rounds::Rounds;
pub(crate) use self::rounds::block_signals;
use crate::error::{Blame, Error, Stage, errno_of};
use crate::interrupt::Death;
use crate::lineage::Lineage;
use crate::process::Process;
use crate::spawn::{Spawner, Start};

/// What the thread is asked for.
enum Request {
    Start(Box<Start>, Answer),
    Reap(Reap),
    Watch(Process),
    Run(Task),
}

/// A process that is to be killed and reaped.
struct Reap {
    process: Process,
    /// What is done as soon as it is killed.
    at_once: Option<Task>,
    then: Option<Then>,
}

/// Where whoever asked for a start waits.
type Answer = SyncSender<Result<Process, Error>>;

/// What is done on the thread. It delays all else that the thread does: no waiting in it.
pub(crate) type Task = Box<dyn FnOnce() + Send>;

/// What follows the end of a process. `None`: it has not ended within
/// [`REAP_TIMEOUT`](crate::process::REAP_TIMEOUT), so what it uses must stay what it is.
pub(crate) type Then = Box<dyn FnOnce(Option<Death>) + Send>;

/// The thread, which ends when this is dropped, after it has reaped everything.
pub(crate) struct Reactor {
    reaper: Reaper,
    thread: Option<JoinHandle<()>>,
}

/// Where processes are handed over.
#[derive(Clone)]
pub(crate) struct Reaper {
    mailbox: Arc<Mailbox>,
    lineage: Arc<Lineage>,
}

/// A start that the thread has been asked for. It is bounded: by its timeout, then by
/// [`crate::process::REAP_TIMEOUT`].
pub(crate) struct Pending(Receiver<Result<Process, Error>>);

impl Pending {
    /// Waits until the process executes the zygote.
    pub(crate) fn wait(self) -> Result<Process, Error> {
        self.0.recv().map_err(|_| gone())?
    }

    /// The answer, if there is one already.
    pub(crate) fn poll(&self) -> Option<Result<Process, Error>> {
        match self.0.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(gone())),
        }
    }
}

fn gone() -> Error {
    Error {
        stage: Stage::Start,
        blame: Blame::ReactorGone,
    }
}

impl Reactor {
    pub(crate) fn new(spawner: Spawner, lineage: Arc<Lineage>) -> Result<Self, Error> {
        let mailbox = Arc::new(Mailbox::new()?);
        let rounds = Rounds::new(spawner, Arc::clone(&mailbox))?;
        let thread = Builder::new()
            .name("cellwall-engine".into())
            .spawn(|| rounds.run())
            .map_err(|error| Error::kernel(Stage::Engine, "pthread_create", errno_of(&error)))?;
        Ok(Self {
            reaper: Reaper { mailbox, lineage },
            thread: Some(thread),
        })
    }

    /// Starts a process on the thread: a nursery, or a worker that has none.
    pub(crate) fn start(&self, start: Start) -> Result<Pending, Error> {
        let (answer, answered) = sync_channel(1);
        let request = Request::Start(Box::new(start), answer);
        match self.reaper.mailbox.post(request) {
            Ok(()) => Ok(Pending(answered)),
            Err(Unposted::Closed(_)) => Err(gone()),
            Err(Unposted::Asleep(errno)) => {
                Err(Error::kernel(Stage::Start, nr::WRITE.name(), errno))
            }
        }
    }

    /// Where an instance hands its worker over.
    pub(crate) fn reaper(&self) -> &Reaper {
        &self.reaper
    }
}

impl Reap {
    /// The thread is gone, and with it the kernel killed what it had started: the rest is done by
    /// the caller, who waits.
    fn here(self) {
        let _ = self.process.kill();
        if let Some(at_once) = self.at_once {
            at_once();
        }
        let death = self.process.reap();
        if let Some(then) = self.then {
            then(Some(death));
        }
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        if !self.reaper.is_ours() {
            // A forked child has the handle of a thread that it does not have.
            std::mem::forget(thread);
            return;
        }
        // One that nobody can wake is not waited for, nor does the thread wait for itself: a task
        // may have had the engine's last handle.
        if self.reaper.mailbox.close().is_ok() && thread.thread().id() != thread::current().id() {
            // A thread that panicked took its workers with it: the kernel killed them.
            let _ = thread.join();
        }
    }
}

impl Reaper {
    /// Whether workers are this process' own to kill and to reap.
    pub(crate) fn is_ours(&self) -> bool {
        self.lineage.is_ours()
    }

    /// Hands over a process: the thread kills it, unless somebody has, and reaps it. The caller
    /// waits for neither.
    pub(crate) fn reap(&self, process: Process) {
        self.hand_over(process, None, None);
    }

    /// The same, with what is to be done on the thread as soon as it is killed, and once it is
    /// reaped.
    pub(crate) fn reap_and(
        &self,
        process: Process,
        at_once: impl FnOnce() + Send + 'static,
        then: Option<Then>,
    ) {
        self.hand_over(process, Some(Box::new(at_once)), then);
    }

    /// The same, only once it is reaped.
    #[cfg(test)]
    pub(crate) fn reap_then(
        &self,
        process: Process,
        then: impl FnOnce(Option<Death>) + Send + 'static,
    ) {
        self.hand_over(process, None, Some(Box::new(then)));
    }

    fn hand_over(&self, process: Process, at_once: Option<Task>, then: Option<Then>) {
        let reap = Reap {
            process,
            at_once,
            then,
        };
        if let Err(Unposted::Closed(Request::Reap(refused))) =
            self.mailbox.post(Request::Reap(reap))
        {
            refused.here();
        }
    }

    /// Has the thread reap a process whenever it ends. To end it stays its owner's business, who
    /// has another handle and does that before the engine is gone.
    pub(crate) fn watch(&self, process: Process) {
        // Refused, the thread is gone: it has taken the process along.
        let _ = self.mailbox.post(Request::Watch(process));
    }

    /// Has something done on the thread.
    pub(crate) fn run(&self, task: impl FnOnce() + Send + 'static) {
        if let Err(Unposted::Closed(Request::Run(task))) =
            self.mailbox.post(Request::Run(Box::new(task)))
        {
            task();
        }
    }
}
