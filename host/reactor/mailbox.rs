//! What the thread is asked for, and how it is woken.
//!
//! To wake a thread costs the waker microseconds, and most of what is handed over can wait for one
//! millisecond. So nobody writes to the eventfd but the first one of a burst; and for a while after
//! it had something to do the thread looks by itself.

use std::sync::{Mutex, MutexGuard, PoisonError};

use linux_raw::Errno;
use linux_raw::eventfd::{self, EventfdFlags};
use linux_raw::fd::{AsFd, BorrowedFd, OwnedFd};
use linux_raw::nr;

use super::Request;
use crate::error::{Error, KernelResult as _, Stage};

/// Requests, and the eventfd that the thread waits for.
pub(super) struct Mailbox {
    inbox: Mutex<Inbox>,
    alarm: OwnedFd,
}

struct Inbox {
    /// As many as there are instances that are started or dropped at once.
    requests: Vec<Request>,
    reader: Reader,
    is_open: bool,
}

/// What the thread is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reader {
    /// It will look before it rests, or has been woken to.
    Awake,
    /// It looks every so often.
    Dozing,
    /// It looks when it is woken.
    Asleep,
}

/// A request that the thread does not see.
pub(super) enum Unposted {
    /// It has ended, or is about to. The request comes back.
    Closed(Request),
    /// It could not be woken: it will look when it is awake for another reason.
    Asleep(Errno),
}

impl Request {
    /// Whether somebody waits for it.
    fn is_urgent(&self) -> bool {
        matches!(self, Self::Start(..))
    }
}

impl Mailbox {
    pub(super) fn new() -> Result<Self, Error> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let alarm = eventfd::eventfd(0, flags).at(Stage::Engine, nr::EVENTFD2.name())?;
        let inbox = Inbox {
            requests: Vec::new(),
            reader: Reader::Awake,
            is_open: true,
        };
        Ok(Self {
            inbox: Mutex::new(inbox),
            alarm,
        })
    }

    /// Nobody panics while it holds the lock, and nothing is dropped or called under it.
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a request, and wakes the thread if it would not look soon enough.
    pub(super) fn post(&self, request: Request) -> Result<(), Unposted> {
        let is_urgent = request.is_urgent();
        let mut inbox = self.inbox();
        if !inbox.is_open {
            drop(inbox);
            return Err(Unposted::Closed(request));
        }
        inbox.requests.push(request);
        let sleeps = match inbox.reader {
            Reader::Awake => false,
            Reader::Dozing => is_urgent,
            Reader::Asleep => true,
        };
        if !sleeps {
            return Ok(());
        }
        inbox.reader = Reader::Awake;
        drop(inbox);
        self.wake().map_err(Unposted::Asleep)
    }

    /// Takes no more requests, and has the thread end.
    pub(super) fn close(&self) -> Result<(), Errno> {
        let mut inbox = self.inbox();
        inbox.is_open = false;
        let was = std::mem::replace(&mut inbox.reader, Reader::Awake);
        drop(inbox);
        match was {
            Reader::Awake => Ok(()),
            Reader::Dozing | Reader::Asleep => self.wake(),
        }
    }

    fn wake(&self) -> Result<(), Errno> {
        let woken = match eventfd::add(&self.alarm, 1) {
            // Nobody has taken the last ones, all 2^64 of them.
            Ok(()) | Err(Errno::EAGAIN) => return Ok(()),
            woken => woken,
        };
        // A filter has come over this thread. What is to die dies all the same, and the next one
        // tries to wake again.
        let mut inbox = self.inbox();
        inbox.reader = Reader::Asleep;
        for request in &inbox.requests {
            if let Request::Reap(reap) = request {
                let _ = reap.process.kill();
            }
        }
        woken
    }

    /// For the thread: swaps the requests with `empty`. Whether there may be more.
    pub(super) fn take(&self, empty: &mut Vec<Request>) -> bool {
        let mut inbox = self.inbox();
        inbox.reader = Reader::Awake;
        std::mem::swap(&mut inbox.requests, empty);
        inbox.is_open
    }

    /// For the thread: what it is about to do, unless there is something to look at.
    pub(super) fn may_rest(&self, as_what: Reader) -> bool {
        let mut inbox = self.inbox();
        let nothing = inbox.requests.is_empty() && inbox.is_open;
        if nothing {
            inbox.reader = as_what;
        }
        nothing
    }

    /// Readable once the thread was woken, until it was [`hear`](Self::hear)d.
    pub(super) fn alarm(&self) -> BorrowedFd<'_> {
        self.alarm.as_fd()
    }

    /// For the thread, once it has been woken.
    pub(super) fn hear(&self) {
        // EAGAIN: nobody rang, or a bell of before was late.
        let _ = eventfd::take(&self.alarm);
    }
}
