//! Futexes, randomness, time and CPUs, across threads.

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::Arc;
use std::thread;

use linux_raw::Errno;
use linux_raw::futex;
use linux_raw::process::{RandomFlags, getrandom, sched_getaffinity, sched_setaffinity};
use linux_raw::time::{Clock, Timespec, clock_gettime, monotonic};

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
fn random_bytes_differ() {
    let (mut one, mut other) = ([0; 32], [0; 32]);
    assert_eq!(getrandom(&mut one, RandomFlags::empty()), Ok(32));
    assert_eq!(getrandom(&mut other, RandomFlags::NONBLOCK), Ok(32));
    assert_ne!(one, other);
}

#[test]
fn cpu_time_passes_while_a_thread_works() {
    let start = clock_gettime(Clock::ThreadCpu).unwrap();
    while clock_gettime(Clock::ThreadCpu).unwrap() <= start {}
    assert!(clock_gettime(Clock::ProcessCpu).unwrap() > Timespec::default());
}

#[test]
fn a_thread_stays_on_the_cpu_it_was_put_on() {
    thread::spawn(|| {
        let mut allowed = [0; 128];
        let bytes = sched_getaffinity(&mut allowed).unwrap();
        assert!(bytes > 0);
        let last = (0..8192u32)
            .rev()
            .find(|cpu| allowed[*cpu as usize / 64] >> (cpu % 64) & 1 == 1)
            .unwrap();
        let mut only = [0u64; 128];
        only[last as usize / 64] = 1 << (last % 64);
        sched_setaffinity(&only).unwrap();
        assert_eq!(linux_raw::arch::current_cpu(), last);
        assert_eq!(sched_setaffinity(&[0; 128]), Err(Errno::EINVAL));
    })
    .join()
    .unwrap();
}
