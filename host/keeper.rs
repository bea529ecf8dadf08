//! The engine's own thread: it starts every worker and reaps the killed ones.
//!
//! A worker is killed by the kernel when the *thread* that started it ends. So it is this thread,
//! which lives as long as the engine, and never one of the embedder's.

use std::sync::Arc;
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, channel, sync_channel,
};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use linux_raw::fd::OwnedFd;
use linux_raw::signal::{self, MaskHow, SigSet, Signal};

use crate::error::{Blame, Error, Stage, errno_of};
use crate::lineage::Lineage;
use crate::spawn::{Process, Spawner, Start};
use crate::worker::{REAP_TIMEOUT, kill, reap, reap_until, try_reap};

/// How often the thread looks at processes that were killed and have not ended yet.
const REAP_INTERVAL: Duration = Duration::from_millis(1);

enum Request {
    Start(Box<Start>, SyncSender<Result<Process, Error>>),
    Reap(OwnedFd),
}

/// The thread, which ends when this is dropped, after it has reaped everything.
pub(crate) struct Keeper {
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    lineage: Arc<Lineage>,
}

/// Where killed processes are handed over.
pub(crate) struct Reaper {
    requests: Sender<Request>,
    lineage: Arc<Lineage>,
}

/// A start that the keeper has been asked for. It is bounded: by its timeout, then by
/// [`crate::worker::REAP_TIMEOUT`].
pub(crate) struct Pending(Receiver<Result<Process, Error>>);

impl Pending {
    /// Waits until the worker executes the zygote.
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
        blame: Blame::KeeperGone,
    }
}

impl Keeper {
    pub(crate) fn new(spawner: Spawner, lineage: Arc<Lineage>) -> Result<Self, Error> {
        let (requests, incoming) = channel();
        let thread = Builder::new()
            .name("cellwall-keeper".into())
            .spawn(move || keep(&spawner.watched_by_this_thread(), &incoming))
            .map_err(|error| Error::kernel(Stage::Engine, "pthread_create", errno_of(&error)))?;
        Ok(Self {
            requests: Some(requests),
            thread: Some(thread),
            lineage,
        })
    }

    /// Starts a worker on the keeper's thread.
    pub(crate) fn start(&self, start: Start) -> Result<Pending, Error> {
        let (answer, answered) = sync_channel(1);
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests
            .send(Request::Start(Box::new(start), answer))
            .map_err(|_| gone())?;
        Ok(Pending(answered))
    }

    /// Where an instance hands its killed worker over; `None` while the engine is dropped.
    pub(crate) fn reaper(&self) -> Option<Reaper> {
        let lineage = Arc::clone(&self.lineage);
        let requests = self.requests.clone()?;
        Some(Reaper { requests, lineage })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.requests = None;
        let Some(thread) = self.thread.take() else {
            return;
        };
        if self.lineage.is_ours() {
            // A keeper that panicked took its workers with it: the kernel killed them.
            let _ = thread.join();
        } else {
            // A forked child has the handle of a thread that it does not have.
            std::mem::forget(thread);
        }
    }
}

impl Reaper {
    /// Whether workers are this process' own to kill and to reap.
    pub(crate) fn is_ours(&self) -> bool {
        self.lineage.is_ours()
    }

    /// Hands over a process that has been killed, or is still to be.
    pub(crate) fn reap(&self, pidfd: OwnedFd) {
        if let Err(refused) = self.requests.send(Request::Reap(pidfd))
            && let Request::Reap(pidfd) = refused.0
        {
            // The keeper is gone, and with it the kernel killed the worker.
            reap(&pidfd);
        }
    }
}

/// The last of the signals, from 32 on, that the C library keeps for itself.
const LAST_OF_THE_LIBRARYS: u32 = if cfg!(target_env = "musl") { 34 } else { 33 };

/// What this thread blocks while it waits: the embedder's signal handlers run on its own threads.
///
/// Not the C library's signals. Users are a thread's own to Linux, so its `setuid` and the like
/// signal every thread of the process and wait until each has changed its user: who blocks that
/// signal keeps the embedder waiting for ever.
fn standing_mask() -> SigSet {
    let librarys = (32..=LAST_OF_THE_LIBRARYS).filter_map(Signal::from_raw);
    librarys.fold(SigSet::FULL, SigSet::without)
}

fn keep(spawner: &Spawner, incoming: &Receiver<Request>) {
    // This cannot fail: the set and the operation are valid.
    let _ = signal::sigprocmask(MaskHow::Set, &standing_mask());
    let mut dying: Vec<OwnedFd> = Vec::new();
    loop {
        let request = if dying.is_empty() {
            incoming.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            incoming.recv_timeout(REAP_INTERVAL)
        };
        match request {
            Ok(Request::Start(start, answer)) => {
                // The caller waits for the answer, and if it panicked meanwhile nobody else wants
                // the worker.
                if let Err(lost) = answer.send(spawner.spawn(*start))
                    && let Ok(process) = lost.0
                {
                    dying.push(process.pidfd);
                }
            }
            Ok(Request::Reap(pidfd)) => dying.push(pidfd),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        dying.retain(|pidfd| {
            // Whoever handed it over may not have been allowed to. If this thread is not either,
            // there is nobody to tell, and the next round tries again.
            let _ = kill(pidfd);
            matches!(try_reap(pidfd), Ok(None))
        });
    }
    // All of them have been killed: what one takes to end, the others take too.
    let deadline = Instant::now() + REAP_TIMEOUT;
    for pidfd in dying {
        reap_until(&pidfd, deadline);
    }
}
