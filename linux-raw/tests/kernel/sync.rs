//! Futexes, across threads.

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::Arc;
use std::thread;

use linux_raw::Errno;
use linux_raw::futex;
use linux_raw::time::{Timespec, monotonic};

#[test]
fn a_wait_ends_by_value_time_or_wake() {
    let word = Arc::new(AtomicU32::new(1));
    assert_eq!(futex::wait(&word, 0, None), Err(Errno::EAGAIN));
    let before = monotonic();
    let timed_out = futex::wait(&word, 1, Some(Timespec::from_millis(5)));
    assert_eq!(timed_out, Err(Errno::ETIMEDOUT));
    assert!((monotonic() - before).as_millis() >= 5);
    assert_eq!(futex::wake(&word, 1), Ok(0));

    let sleeper = thread::spawn({
        let word = Arc::clone(&word);
        move || {
            while word.load(SeqCst) == 1 {
                match futex::wait(&word, 1, None) {
                    Ok(()) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(errno) => panic!("futex wait: {errno}"),
                }
            }
        }
    });
    // Without changing the word: woken only once it sleeps.
    while futex::wake(&word, 1) != Ok(1) {
        linux_raw::process::sched_yield();
    }
    word.store(2, SeqCst);
    futex::wake(&word, u32::MAX >> 1).unwrap();
    sleeper.join().unwrap();
}
