//! The worker's side in Rust: `cellwall_turn` in `zygote/src/trampoline.rs`, step by step.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use vmctx::{State, StateWord};

use super::room::{Flaw, Room, Side};

/// The kernel has killed the worker.
pub(super) struct Killed;

pub(super) struct Twin<'a> {
    pub(super) room: &'a Room,
    pub(super) spin_iterations: u32,
    pub(super) yields: u32,
    /// How many steps it may still take. At 0 the kernel kills it.
    pub(super) steps_left: Cell<u32>,
    /// How many states it has published.
    pub(super) published: Cell<usize>,
}

impl Twin<'_> {
    /// Every access to shared memory and every system call is one, and may be the last.
    fn step(&self) -> Result<(), Killed> {
        let left = self.steps_left.get().checked_sub(1).ok_or(Killed)?;
        self.steps_left.set(left);
        Ok(())
    }

    pub(super) fn write(&self, args: u64, value: u64) -> Result<(), Killed> {
        self.step()?;
        self.room.args.store(args, Relaxed);
        self.step()?;
        self.room.value.store(value, Relaxed);
        Ok(())
    }

    /// Publishes `state`: the `xchg`, and the wake at label 8. Gives the word as it was.
    pub(super) fn publish(&self, state: State) -> Result<u32, Killed> {
        self.step()?;
        let word = StateWord::publish(state, 0).raw();
        let old = self
            .room
            .word
            .swap(word, self.unless(Flaw::WorkerPublishesRelaxed, AcqRel));
        self.published.set(self.published.get() + 1);
        if old & StateWord::HOST_SLEEPS != 0 && self.room.flaw != Flaw::WorkerNeverWakes {
            self.step()?;
            self.room.futex_wake();
        }
        Ok(old)
    }

    /// Publishes `state` and waits for an order: labels 3 to 7.
    pub(super) fn turn(&self, state: State) -> Result<State, Killed> {
        let old = self.publish(state)?;
        // Both CPU fields are compared as they are: the worker's own is 1, for CPU 0.
        if old >> StateWord::CPU_SHIFT != 1 {
            for _ in 0..self.spin_iterations {
                if let Ok(order) = self.look()? {
                    return Ok(order);
                }
            }
        }
        let mut yields = self.yields;
        loop {
            let word = match self.look()? {
                Ok(order) => return Ok(order),
                Err(word) => word,
            };
            if let Some(left) = yields.checked_sub(1) {
                yields = left;
                self.step()?;
            } else if let Some(asleep) = self.say_asleep(word)? {
                self.step()?;
                self.room.futex_wait(Side::Worker, asleep);
            }
        }
    }

    /// The order, or else the word.
    fn look(&self) -> Result<Result<State, u32>, Killed> {
        self.step()?;
        let order = self.unless(Flaw::WorkerReadsRelaxed, Acquire);
        let word = self.room.word.load(order);
        Ok([State::Enter, State::Resume]
            .into_iter()
            .find(|order| StateWord::from_raw(word).is(*order))
            .ok_or(word))
    }

    /// Label 9: sets the sleep bit in the word as it was read. `None`: it has changed.
    fn say_asleep(&self, word: u32) -> Result<Option<u32>, Killed> {
        self.step()?;
        let asleep = word | StateWord::WORKER_SLEEPS;
        match self.room.flaw {
            Flaw::WorkerSleepsUnsaid => return Ok(Some(word)),
            Flaw::WorkerStoresItsBit => self.room.word.store(asleep, Release),
            _ => {
                let said = self
                    .room
                    .word
                    .compare_exchange(word, asleep, AcqRel, Acquire);
                return Ok(said.ok().map(|_| asleep));
            }
        }
        Ok(Some(asleep))
    }

    fn unless(&self, flaw: Flaw, order: Ordering) -> Ordering {
        if self.room.flaw == flaw {
            Relaxed
        } else {
            order
        }
    }
}
