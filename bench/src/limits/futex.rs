//! The turn handed to another process and back, by futex alone: each side sleeps meanwhile.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use linux_raw::Errno;
use linux_raw::futex;
use linux_raw::process::exit_group;

use super::child::{Child, Word, die_with_the_parent};
use crate::cpus::{Cpu, all_cpus, two_cpus};
use crate::crowd::{Step, crowd};
use crate::measure::{Failure, Sampler, batch, each};

/// A child that gives each turn back.
struct Echo {
    // Killed before the word is unmapped.
    _child: Child,
    word: Word,
    last: u32,
}

impl Echo {
    /// On the CPU that this thread is on when it is made.
    fn new() -> Result<Self, Failure> {
        let word = Word::new()?;
        Ok(Self {
            _child: Child::new(word.get(), answer)?,
            word,
            last: 0,
        })
    }

    /// There and back.
    fn round(&mut self) -> Result<(), Failure> {
        let word = self.word.get();
        give(word, self.last.wrapping_add(1))?;
        self.last = take(word, self.last.wrapping_add(1))?;
        Ok(())
    }

    /// The same, but this side spins meanwhile: it only wakes the other one.
    fn wake(&mut self) -> Result<(), Failure> {
        let (word, given) = (self.word.get(), self.last.wrapping_add(1));
        give(word, given)?;
        // Acquire pairs with the Release of `give` on the other side.
        while word.load(Ordering::Acquire) == given {
            spin_loop();
        }
        self.last = given.wrapping_add(1);
        Ok(())
    }
}

fn answer(word: &AtomicU32) {
    die_with_the_parent();
    let mut last = 0;
    while let Ok(turn) = take(word, last) {
        last = turn.wrapping_add(1);
        if give(word, last).is_err() {
            break;
        }
    }
    exit_group(1)
}

/// Release pairs with the Acquire of `take` on the other side.
fn give(word: &AtomicU32, turn: u32) -> Result<(), Errno> {
    word.store(turn, Ordering::Release);
    futex::wake(word, 1).map(drop)
}

fn take(word: &AtomicU32, known: u32) -> Result<u32, Errno> {
    loop {
        // Acquire pairs with the Release of `give` on the other side.
        let turn = word.load(Ordering::Acquire);
        if turn != known {
            return Ok(turn);
        }
        match futex::wait(word, known, None) {
            Ok(()) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Both processes on one CPU, a pair of them on every CPU: rounds of all in a second, in millions.
pub(crate) fn on_every_cpu() -> Result<Sampler, Failure> {
    let cpus: Vec<Cpu> = all_cpus()?;
    Ok(Box::new(move || {
        let pair = |member: usize| -> Result<Step, Failure> {
            cpus[member].pin()?;
            let mut echo = Echo::new()?;
            Ok(Box::new(move || echo.round()))
        };
        Ok(vec![crowd(cpus.len(), pair)?.rate])
    }))
}

/// From one CPU to a process on another that has been idle for 1 ms, and back: who waits spins.
pub(crate) fn asleep() -> Result<Sampler, Failure> {
    let (here, there) = two_cpus()?;
    there.pin()?;
    let mut echo = Echo::new()?;
    here.pin()?;
    Ok(Box::new(move || {
        batch(5, || {
            sleep(Duration::from_millis(1));
            let start = Instant::now();
            echo.wake()?;
            Ok(each(start, 1))
        })
    }))
}
