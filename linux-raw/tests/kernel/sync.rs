//! Futexes and counters, across threads.

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::Arc;
use std::thread;

use linux_raw::Errno;
use linux_raw::eventfd::{EventfdFlags, add, eventfd, take};
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

#[test]
fn a_counter_is_added_to_and_taken() {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let counter = eventfd(3, flags).unwrap();
    assert_eq!(take(&counter), Ok(3));
    assert_eq!(take(&counter), Err(Errno::EAGAIN));
    assert_eq!(add(&counter, u64::MAX - 1), Ok(()));
    assert_eq!(add(&counter, 1), Err(Errno::EAGAIN));
    assert_eq!(add(&counter, u64::MAX), Err(Errno::EINVAL));
    assert_eq!(take(&counter), Ok(u64::MAX - 1));
    let unknown = EventfdFlags::from_bits_retain(1 << 30);
    assert_eq!(eventfd(0, unknown), Err(Errno::EINVAL));
}

#[test]
fn a_counter_wakes_who_waits_for_it() {
    let counter = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
    let sleeper = thread::spawn({
        let counter = Arc::clone(&counter);
        move || take(&*counter)
    });
    add(&*counter, 9).unwrap();
    assert_eq!(sleeper.join().unwrap(), Ok(9));
}
