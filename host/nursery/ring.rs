#![expect(unsafe_code, reason = "the only door to the ring")]
//! The host's end of the ring: one request at a time, each answered or given up in bounded time.

#[cfg(test)]
pub(super) mod tests;

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release, SeqCst};
use std::time::{Duration, Instant};

use linux_raw::fd::{BorrowedFd, OwnedFd};
use linux_raw::nr::Nr;
use linux_raw::signal::Signal;
use linux_raw::time::Timespec;
use linux_raw::{Errno, futex};
use vmctx::ring::{READY, Request};
use vmctx::{Alleged, Forged, PAGE_BYTES, slots};

use crate::deadline::{AWAKE, stay_awake, time_left};
use crate::error::{Error, Stage};
use crate::interrupt::Death;
use crate::lineage::Lineage;
use crate::mapping::{Mapping, Sharing};
use crate::memfd;
use crate::turn::is_dead;

/// How long it sleeps at once, before it looks whether the nursery lives.
const SLICE: Duration = Duration::from_millis(5);
/// One more than the highest number that a process can have (include/linux/threads.h,
/// `PID_MAX_LIMIT`).
const PIDS: u32 = 4 * 1024 * 1024 + 1;

/// The ring as the host has it.
pub(super) struct Ring {
    page: Mapping,
    last: u32,
    /// What was asked last, if that has not been answered in time.
    late: Option<u32>,
    told_late: Vec<(u32, Death)>,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// The nursery is dead.
    Dead,
    /// It has not answered in time.
    Late,
    /// It has refused.
    Refused(Nr, Errno),
    /// It has answered what no honest one answers.
    Forged(Forged),
}

/// A new worker, as the nursery tells of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Born {
    pub(super) pid: u32,
    /// The number of its pidfd, in the nursery.
    pub(super) pidfd: i32,
}

impl Ring {
    /// A new one, and the nursery's end of it.
    pub(super) fn new(lineage: &Arc<Lineage>) -> Result<(Self, OwnedFd), Error> {
        let stage = Stage::Nursery;
        let fd = memfd::writable(c"cellwall-ring", PAGE_BYTES, stage)?;
        let page = Mapping::new(&fd, PAGE_BYTES, Sharing::ReadWrite, stage, lineage)?;
        Ok((Self::of(page), fd))
    }

    fn of(page: Mapping) -> Self {
        Self {
            page,
            last: READY,
            late: None,
            told_late: Vec::new(),
        }
    }

    /// Waits until the nursery has locked itself down.
    pub(super) fn wait_for_ready(
        &self,
        nursery: BorrowedFd<'_>,
        deadline: Option<Instant>,
    ) -> Result<(), Unanswered> {
        self.wait(READY, nursery, deadline)
    }

    /// Wakes the nursery ahead of a request: that takes longer than what the host does until then.
    /// One that finds none sleeps again, and is woken once more with the request.
    pub(super) fn nudge(&self) {
        // The only error is a bad address, which ours is not.
        let _ = futex::wake(&self.words().host.request, 1);
    }

    /// Asks for something, and waits for the answer. The words in `place` and `numbers` are what
    /// the request takes.
    pub(super) fn ask(
        &mut self,
        what: Request,
        place: u32,
        numbers: [i32; 3],
        nursery: BorrowedFd<'_>,
        deadline: Option<Instant>,
    ) -> Result<(), Unanswered> {
        self.ask_by_number(what as u32, place, numbers, nursery, deadline)
    }

    fn ask_by_number(
        &mut self,
        what: u32,
        place: u32,
        numbers: [i32; 3],
        nursery: BorrowedFd<'_>,
        deadline: Option<Instant>,
    ) -> Result<(), Unanswered> {
        self.settle_late(nursery, deadline)?;
        let line = &self.words().host;
        let [memory, module, code] = numbers.map(i32::cast_unsigned);
        line.what.store(what, Relaxed);
        line.place.store(place, Relaxed);
        line.memory.store(memory, Relaxed);
        line.module.store(module, Relaxed);
        line.code.store(code, Relaxed);
        let number = self.next();
        // Release pairs with the nursery's Acquire in `nursery::serve`.
        line.request.store(number, Release);
        // The only error is a bad address, which ours is not.
        let _ = futex::wake(&line.request, 1);
        self.last = number;
        let answered = self.wait(number, nursery, deadline);
        if matches!(answered, Err(Unanswered::Late)) {
            self.late = Some(what);
        }
        answered
    }

    /// Waits for the answer of a request that was given up. Until then its words are as they are:
    /// it might read half of them and half of the next one's.
    fn settle_late(
        &mut self,
        nursery: BorrowedFd<'_>,
        deadline: Option<Instant>,
    ) -> Result<(), Unanswered> {
        let Some(what) = self.late else {
            return Ok(());
        };
        let answered = self.wait(self.last, nursery, deadline);
        // That it refused tells nobody anything any more.
        if !matches!(answered, Ok(()) | Err(Unanswered::Refused(..))) {
            return answered;
        }
        self.late = None;
        if what == Request::Reap as u32 && answered.is_ok() {
            let (ends, _) = self.ends().map_err(Unanswered::Forged)?;
            self.told_late.extend(ends);
        }
        Ok(())
    }

    /// Whether a request that was given up is still not answered.
    pub(super) fn is_late(&self) -> bool {
        // Relaxed: whoever asks next looks again.
        self.late.is_some() && self.words().nursery.answer.load(Relaxed) != self.last
    }

    /// Workers that have ended, of whom it told too late. Gives each once.
    pub(super) fn told_late(&mut self) -> Vec<(u32, Death)> {
        mem::take(&mut self.told_late)
    }

    /// The number of the next request: what goes over the socket for it carries that.
    pub(super) fn next(&self) -> u32 {
        match self.last.wrapping_add(1) {
            0 => 1, // what a new page says
            number => number,
        }
    }

    fn wait(
        &self,
        number: u32,
        nursery: BorrowedFd<'_>,
        deadline: Option<Instant>,
    ) -> Result<(), Unanswered> {
        let words = self.words();
        // SeqCst, as the nursery's `answer`: either it sees that we sleep, or we see its answer.
        let has_answered = || words.nursery.answer.load(SeqCst) == number;
        stay_awake(AWAKE, has_answered);
        if has_answered() {
            return self.judge();
        }
        words.host.sleeps.store(1, SeqCst);
        let answered = loop {
            let seen = words.nursery.answer.load(SeqCst);
            if seen == number {
                break Ok(());
            }
            let left = time_left(deadline).min(SLICE);
            if left.is_zero() {
                break Err(Unanswered::Late);
            }
            // AGAIN, TIMEDOUT, INTR: look again.
            let _ = futex::wait(&words.nursery.answer, seen, Some(Timespec::from(left)));
            if is_dead(nursery) && !has_answered() {
                break Err(Unanswered::Dead);
            }
        };
        words.host.sleeps.store(0, SeqCst);
        answered.and_then(|()| self.judge())
    }

    fn judge(&self) -> Result<(), Unanswered> {
        let line = &self.words().nursery;
        let errno = Alleged::new(line.errno.load(Relaxed)).opaque();
        if errno == 0 {
            return Ok(());
        }
        let call = Nr::from_raw(Alleged::new(line.call.load(Relaxed)).opaque());
        match u16::try_from(errno).ok().and_then(Errno::from_raw) {
            Some(errno) => Err(Unanswered::Refused(call, errno)),
            None => Err(Unanswered::Forged(Forged {
                word: "ring errno",
                value: errno.into(),
            })),
        }
    }

    /// The worker of an answered [`Request::Spawn`].
    pub(super) fn born(&self) -> Result<Born, Forged> {
        let line = &self.words().nursery;
        let pid = Alleged::new(line.pid.load(Relaxed)).check("ring pid", &(2..PIDS))?;
        Ok(Born {
            pid,
            pidfd: fresh("ring pidfd", line.pidfd.load(Relaxed))?,
        })
    }

    /// The workers of an answered [`Request::Reap`]. The second word of an answer says whether
    /// there may be more.
    pub(super) fn ends(&self) -> Result<(Vec<(u32, Death)>, bool), Forged> {
        let words = self.words();
        let most = u32::try_from(words.ends.len()).unwrap_or(0);
        let count = Alleged::new(words.nursery.count.load(Relaxed));
        let count = count.check("ring count", &(0..most + 1))?;
        let ends = words.ends.iter().take(usize::try_from(count).unwrap_or(0));
        let ends = ends.map(|end| {
            let pid = Alleged::new(end.pid.load(Relaxed)).check("ring pid", &(2..PIDS))?;
            let signal = Alleged::new(end.signal.load(Relaxed)).opaque();
            let status = Alleged::new(end.status.load(Relaxed)).opaque();
            let death =
                Signal::from_raw(signal).map_or(Death::Exited(status.cast_signed()), Death::Killed);
            Ok((pid, death))
        });
        Ok((ends.collect::<Result<_, Forged>>()?, count == most))
    }

    fn words(&self) -> &vmctx::Ring {
        // SAFETY: the mapping is one page, mapped while `self` lives. All words of a ring are
        // atomics, for which any bits are a value.
        unsafe { self.page.start().cast::<vmctx::Ring>().as_ref() }
    }
}

/// The number of a descriptor that has just been made in the nursery.
pub(super) fn fresh(word: &'static str, number: u32) -> Result<i32, Forged> {
    let range = slots::nursery::FRESH;
    let legal = range.start.cast_unsigned()..range.end.cast_unsigned();
    let number = Alleged::new(number).check(word, &legal)?;
    Ok(number.cast_signed())
}
