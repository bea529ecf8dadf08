//! Processes that do nothing.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use linux_raw::futex;
use linux_raw::process::sched_yield;

use super::child::{Child, Word, die_with_the_parent};
use crate::machine::memory_of_each;
use crate::measure::{Failure, Sampler, batch, each};

/// From the clone of a small process to the first thing that the child does.
pub(crate) fn to_the_first_effect() -> Result<Sampler, Failure> {
    let word = Word::new()?;
    Ok(Box::new(move || {
        batch(10, || {
            let word = word.get();
            word.store(0, Ordering::Relaxed);
            let start = Instant::now();
            let child = Child::new(word, |word| word.store(1, Ordering::Release))?;
            // Acquire pairs with the child's Release. It may be on this CPU.
            while word.load(Ordering::Acquire) == 0 {
                sched_yield();
            }
            let took = each(start, 1);
            child.wait()?;
            Ok(took)
        })
    }))
}

/// What each of so many children that sleep takes of the machine's memory, in KiB.
pub(crate) fn memory_asleep() -> Result<Sampler, Failure> {
    const CHILDREN: u32 = 500;
    let word = Word::new()?;
    Ok(Box::new(move || {
        let word = word.get();
        let each = memory_of_each(CHILDREN, || -> Result<Vec<Child>, Failure> {
            (0..CHILDREN).map(|_| Child::new(word, sleep)).collect()
        });
        Ok(vec![each?])
    }))
}

fn sleep(word: &AtomicU32) {
    die_with_the_parent();
    loop {
        let _ = futex::wait(word, word.load(Ordering::Relaxed), None);
    }
}
