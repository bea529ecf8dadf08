//! The engine's own thread: it starts every worker and reaps the killed ones.
//!
//! A worker is killed by the kernel when the *thread* that started it ends. So it is this thread,
//! which lives as long as the engine, and never one of the embedder's.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use linux_raw::Errno;
use linux_raw::fd::OwnedFd;
use linux_raw::signal::{self, MaskHow, SigSet};

use crate::error::{Blame, Error, Stage};
use crate::spawn::{Process, Spawner, Start};
use crate::worker::{kill, reap, try_reap};

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
}

/// Where killed processes are handed over.
#[derive(Clone)]
pub(crate) struct Reaper(Sender<Request>);

impl Keeper {
    pub(crate) fn new(spawner: Spawner) -> Result<Self, Error> {
        let (requests, incoming) = channel();
        let thread = Builder::new()
            .name("cellwall-keeper".into())
            .spawn(move || keep(&spawner, &incoming))
            .map_err(|error| Error::kernel(Stage::Engine, "clone3", errno_of(&error)))?;
        Ok(Self {
            requests: Some(requests),
            thread: Some(thread),
        })
    }

    /// Starts a worker on the keeper's thread and waits until it executes the zygote, which is
    /// bounded by the start's timeout.
    pub(crate) fn start(&self, start: Start) -> Result<Process, Error> {
        let gone = || Error {
            stage: Stage::Start,
            blame: Blame::KeeperGone,
        };
        let (answer, answered) = sync_channel(1);
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests
            .send(Request::Start(Box::new(start), answer))
            .map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }

    pub(crate) fn reaper(&self) -> Option<Reaper> {
        self.requests.clone().map(Reaper)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A keeper that panicked has nothing left to reap: its workers died with it.
            let _ = thread.join();
        }
    }
}

impl Reaper {
    /// Hands over a process that has been killed.
    pub(crate) fn reap(&self, pidfd: OwnedFd) {
        if let Err(refused) = self.0.send(Request::Reap(pidfd))
            && let Request::Reap(pidfd) = refused.0
        {
            // The keeper is gone, and with it the kernel killed the worker.
            reap(&pidfd);
        }
    }
}

/// The errno of a failed start of a thread, which is `EAGAIN` where the library gives none.
fn errno_of(error: &std::io::Error) -> Errno {
    let number = error
        .raw_os_error()
        .and_then(|number| u16::try_from(number).ok());
    number.and_then(Errno::from_raw).unwrap_or(Errno::EAGAIN)
}

fn keep(spawner: &Spawner, incoming: &Receiver<Request>) {
    // The embedder's signal handlers run on its own threads, and children start with all signals
    // blocked. This cannot fail: the set and the operation are valid.
    let _ = signal::sigprocmask(MaskHow::Set, &SigSet::FULL);
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
                    dying.push(kill(process.pidfd));
                }
            }
            Ok(Request::Reap(pidfd)) => dying.push(pidfd),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        dying.retain(|pidfd| matches!(try_reap(pidfd), Ok(None)));
    }
    for pidfd in dying {
        reap(&pidfd);
    }
}
