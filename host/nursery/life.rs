//! One nursery process, from its start to its death.

mod files;
#[cfg(test)]
mod tests;

use std::mem;
use std::sync::atomic::Ordering::Acquire;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use linux_raw::fd::{AsFd, OwnedFd};
use linux_raw::io::{self, PollFd, PollFlags};
use linux_raw::nr::{self, Nr};
use linux_raw::time::Timespec;
use linux_raw::{Errno, pidfd, socket};
use vmctx::ring::Request;
use vmctx::slots::nursery::{self as slots, ADOPTED};
use vmctx::{Options, Step};

use super::Wanted;
use super::ring::{Ring, Unanswered, fresh};
use crate::deadline::time_left;
use crate::error::{Blame, Error, KernelResult as _, Stage};
use crate::interrupt::Death;
use crate::lineage::Lineage;
use crate::memfd;
use crate::memory::MemoryFile;
use crate::module::WeakModule;
use crate::process::Process;
use crate::reactor::Reactor;
use crate::spawn::Start;
use crate::start;
use crate::turn::{Pages, Slab, WorkerEnds, is_dead};
use crate::wishes::Wishes;

/// How many modules' files it keeps.
const MODULES: i32 = 16;
/// The number of the code of the instance whose worker is being cloned.
const CODE: i32 = ADOPTED.start + MODULES;
/// The number of the first place's memory.
const MEMORIES: i32 = CODE + 1;
/// The numbers of descriptors below those of workers' memories.
pub(super) const OTHERS: u32 = MEMORIES.cast_unsigned();

/// A nursery that has locked itself down.
pub(super) struct Life {
    number: u64,
    process: Process,
    ring: Ring,
    /// Its own pages, which say why it has ended.
    _pages: Pages,
    socket: OwnedFd,
    /// Whose files it has, by their numbers.
    modules: Vec<Option<WeakModule>>,
    /// Which of them is replaced next.
    oldest: usize,
    memories: Vec<Weak<MemoryFile>>,
    /// Whether it has the code of the instance whose worker is being cloned.
    has_code: bool,
    /// Whether it has only answered what an honest one answers.
    is_trusted: bool,
    /// Whether the kernel lets us fetch descriptors from it. Otherwise it sends them.
    can_fetch: bool,
    timeout: Duration,
}

impl Life {
    pub(super) fn begin(
        number: u64,
        reactor: &Reactor,
        wishes: &Wishes,
        ends: &WorkerEnds,
        lineage: &Arc<Lineage>,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let stage = Stage::Nursery;
        let deadline = Instant::now().checked_add(timeout);
        let (slab, own) = Slab::new(lineage, 1, stage)?;
        let pages = slab.pages(0);
        pages.describe_wall(wishes);
        pages.ask_for(Options::NURSERY);
        if wishes.host_is_spared()? {
            pages.ask_for(Options::RAISE_OOM_SCORE);
        }
        let (ring, ring_end) = Ring::new(lineage)?;
        let (ours, theirs) = socket::socketpair_seqpacket().at(stage, "socketpair")?;
        let start = Start::new(timeout)
            .with(vmctx::slots::HOST_PAGE, own.host_page)
            .with(vmctx::slots::SHARED_PAGES, own.shared_pages)
            .with(slots::RING, ring_end)
            .with(slots::SOCKET, theirs)
            .with(slots::HOST_PAGES, memfd::another(&ends.host_page, stage)?)
            .with(
                slots::SHARED_PAGES,
                memfd::another(&ends.shared_pages, stage)?,
            );
        let process = reactor.start(start)?.wait()?;
        let ready = ring.wait_for_ready(process.pidfd(), deadline);
        let ready = ready.map_err(|why| not_ready(why, &process, &pages, timeout));
        // One that is killed while nobody asks it for anything is not to lie about until somebody
        // does.
        let another = ready.and_then(|()| process.another().at(stage, "fcntl(F_DUPFD_CLOEXEC)"));
        match another {
            Ok(another) => reactor.reaper().watch(another),
            Err(error) => {
                reactor.reaper().reap(process);
                return Err(error);
            }
        }
        tracing::debug!(nursery = process.id(), "the nursery is ready");
        Ok(Self {
            number,
            process,
            ring,
            _pages: pages,
            socket: ours,
            modules: Vec::new(),
            oldest: 0,
            memories: Vec::new(),
            has_code: false,
            is_trusted: true,
            can_fetch: true,
            timeout,
        })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it lives, and may be asked for anything.
    pub(super) fn is_alive(&self) -> bool {
        self.is_trusted && !is_dead(self.process.pidfd())
    }

    /// Kills it, and with it the kernel kills its workers.
    pub(super) fn bury(self, reactor: &Reactor) {
        reactor.reaper().reap(self.process);
    }

    /// Lets go of the handles alone.
    pub(super) fn leave(self) {}

    /// Says that a request is about to come.
    pub(super) fn nudge(&self) {
        self.ring.nudge();
    }

    /// Clones a worker: its pidfd, and its number in the nursery's pid namespace.
    pub(super) fn spawn(
        &mut self,
        wanted: &Wanted<'_>,
        deadline: Option<Instant>,
    ) -> Result<(OwnedFd, u32), Unanswered> {
        self.forget_modules(deadline)?;
        let memory = self.memory(wanted, deadline)?;
        let module = self.module(wanted.module, deadline)?;
        let code = match wanted.code {
            Some(code) => {
                self.adopt(code, CODE, deadline)?;
                self.has_code = true;
                CODE
            }
            None => 0,
        };
        let numbers = [memory, module, code];
        self.ask(Request::Spawn, wanted.slot.place(), numbers, deadline)?;
        let born = self.ring.born().map_err(Unanswered::Forged)?;
        match self.fetch(born.pidfd, deadline) {
            Ok(pidfd) => Ok((pidfd, born.pid)),
            // Nobody could ever end it, and it would live where the next one does.
            Err(why) => match self.ask(Request::Kill, born.pidfd.cast_unsigned(), [0; 3], deadline)
            {
                Ok(()) | Err(Unanswered::Dead) => Err(why),
                Err(_) => Err(Unanswered::Late),
            },
        }
    }

    /// Takes back what only the worker that was cloned last has needed, once it is locked down:
    /// until then it shares the nursery's descriptors.
    pub(super) fn take_back(&mut self) {
        if mem::take(&mut self.has_code) {
            let deadline = Instant::now().checked_add(self.timeout);
            // A nursery that refuses is dead, which the next request finds.
            let answered = self.ask(Request::Close, CODE.cast_unsigned(), [0; 3], deadline);
            self.distrust_forger(answered);
        }
    }

    /// Ends it for an answer that no honest nursery gives, where nobody waits for the answer who
    /// could be told. Its workers end with it, and the next request finds it dead.
    fn distrust_forger(&mut self, answered: Result<(), Unanswered>) {
        if let Err(Unanswered::Forged(forged)) = answered {
            tracing::warn!(nursery = self.id(), %forged, "killed");
            self.is_trusted = false;
            // Where this thread may not, whoever buries it does.
            let _ = self.process.kill();
        }
    }

    /// The userfaultfd of the worker that was cloned last, once it is locked down.
    pub(super) fn paging(&mut self, pages: &Pages) -> Result<OwnedFd, Error> {
        let stage = Stage::Start;
        // Acquire pairs with the Release of the zygote's `leave_in_nursery`.
        let word = pages.guest().paging.load(Acquire);
        let number = fresh("paging descriptor", word.wrapping_sub(1));
        let refused = |why| match why {
            Unanswered::Refused(call, errno) => Error::kernel(stage, call.name(), errno),
            Unanswered::Forged(forged) => Error {
                stage,
                blame: Blame::Forged(forged),
            },
            Unanswered::Dead | Unanswered::Late => Error {
                stage,
                blame: Blame::NurseryDied,
            },
        };
        let number = number.map_err(Unanswered::Forged).map_err(refused)?;
        let deadline = Instant::now().checked_add(self.timeout);
        self.fetch(number, deadline).map_err(refused)
    }

    /// Workers that have ended since it was last asked, and whether those are all.
    pub(super) fn ends(&mut self, deadline: Option<Instant>) -> (Vec<(u32, Death)>, bool) {
        let mut all = Vec::new();
        let told = loop {
            match self.some_ends(deadline) {
                Ok((ends, may_be_more)) => {
                    all.extend(ends);
                    if !may_be_more {
                        break Ok(());
                    }
                }
                Err(why) => break Err(why),
            }
        };
        all.extend(self.ring.told_late());
        let is_all = !matches!(told, Err(Unanswered::Late));
        // A module that has been dropped need not wait for the next worker.
        let told = told.and_then(|()| self.forget_modules(deadline));
        self.distrust_forger(told);
        (all, is_all)
    }

    /// As many ends as are told at once, and whether there may be more.
    fn some_ends(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<(Vec<(u32, Death)>, bool), Unanswered> {
        self.ask(Request::Reap, 0, [0; 3], deadline)?;
        self.ring.ends().map_err(Unanswered::Forged)
    }

    /// Whether it has not yet answered a request that was given up.
    pub(super) fn is_late(&self) -> bool {
        self.ring.is_late() && self.is_alive()
    }

    fn ask(
        &mut self,
        what: Request,
        place: u32,
        numbers: [i32; 3],
        deadline: Option<Instant>,
    ) -> Result<(), Unanswered> {
        let nursery = self.process.pidfd();
        self.ring.ask(what, place, numbers, nursery, deadline)
    }

    /// Hands a descriptor over.
    fn adopt(
        &mut self,
        fd: &impl AsFd,
        number: i32,
        deadline: Option<Instant>,
    ) -> Result<(), Unanswered> {
        let message = self.ring.next().to_ne_bytes();
        match socket::send_fd(&self.socket, &message, Some(fd.as_fd())) {
            Ok(sent) if sent == message.len() => {}
            Ok(_) => return Err(Unanswered::Refused(nr::SENDMSG, Errno::EIO)),
            Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(self.ending(deadline)),
            Err(errno) => return Err(Unanswered::Refused(nr::SENDMSG, errno)),
        }
        self.ask(Request::Adopt, number.cast_unsigned(), [0; 3], deadline)
    }

    /// It has no descriptors any more. That is before its workers are dead: only when it has ended
    /// may somebody have the place of one of them.
    fn ending(&self, deadline: Option<Instant>) -> Unanswered {
        let mut poll = [PollFd::new(self.process.pidfd(), PollFlags::IN)];
        match io::poll(&mut poll, Some(Timespec::from(time_left(deadline)))) {
            Ok(1) => Unanswered::Dead,
            // In doubt nobody gets that place.
            _ => Unanswered::Late,
        }
    }

    /// A descriptor that was made in the nursery.
    fn fetch(&mut self, number: i32, deadline: Option<Instant>) -> Result<OwnedFd, Unanswered> {
        if self.can_fetch {
            match pidfd::pidfd_getfd(self.process.pidfd(), number) {
                Ok(fd) => return Ok(fd),
                Err(Errno::ESRCH | Errno::EBADF) => return Err(self.ending(deadline)),
                // No right to, as with Yama's strictest setting, or no such call: it sends them.
                Err(Errno::EPERM | Errno::EACCES | Errno::ENOSYS) => self.can_fetch = false,
                Err(errno) => return Err(Unanswered::Refused(nr::PIDFD_GETFD, errno)),
            }
        }
        let request = self.ring.next().to_ne_bytes();
        self.ask(Request::Send, number.cast_unsigned(), [0; 3], deadline)?;
        let mut message = [0; 4];
        // What could not be received when it was its turn is still there, and is nothing now.
        loop {
            let received = socket::try_recv_fd(&self.socket, &mut message)
                .map_err(|errno| Unanswered::Refused(nr::RECVMSG, errno))?;
            if received.bytes == 0 {
                return Err(self.ending(deadline));
            }
            if message == request {
                let none = Unanswered::Refused(nr::RECVMSG, Errno::EPROTO);
                return received.fd.ok_or(none);
            }
        }
    }
}

/// Why a nursery has not become one.
fn not_ready(why: Unanswered, process: &Process, pages: &Pages, timeout: Duration) -> Error {
    let _ = process.kill();
    match why {
        Unanswered::Dead => start::failed(pages, process.reap()),
        Unanswered::Late => Error {
            stage: start::stage(pages, Death::Unknown),
            blame: Blame::Timeout {
                what: "become a nursery",
                milliseconds: timeout.as_millis(),
            },
        },
        Unanswered::Refused(call, errno) => refused(call, errno),
        Unanswered::Forged(forged) => Error {
            stage: Stage::Lockdown(Step::Ready),
            blame: Blame::Forged(forged),
        },
    }
}

fn refused(call: Nr, errno: Errno) -> Error {
    Error::kernel(Stage::Nursery, call.name(), errno)
}
