//! Setting up, filling, overflowing, waiting, forking.

use std::time::{Duration, Instant};

use linux_raw::arg::Arg;
use linux_raw::time::Timespec;
use linux_raw::uring::op::{self, Op};
use linux_raw::uring::{Features, Full, RESERVED_USER_DATA, Ring, Setup, SetupFlags};
use linux_raw::{Errno, arch, nr};

use crate::{allowed, index, push, ring, run};

/// The most entries that the kernel allows.
const ENTRIES_MAX: u32 = 32768;

/// Pushes `count` nops, numbered, submitting and reaping when there is no room; each must come
/// back once, in order.
fn burst(ring: &mut Ring, count: u64) {
    let mut expected = 0;
    let mut pushed = 0;
    while expected < count {
        while pushed < count && ring.free_entries() > 0 {
            ring.push(op::nop().with_user_data(pushed)).unwrap();
            pushed += 1;
        }
        ring.submit_and_wait(1, None).unwrap();
        for cqe in ring.completions() {
            assert_eq!((cqe.user_data(), cqe.result()), (expected, Ok(0)));
            expected += 1;
        }
    }
    assert_eq!(ring.ready(), 0);
    assert_eq!(ring.unsubmitted(), 0);
    assert_eq!(ring.dropped(), 0);
}

#[test]
fn bursts_larger_than_the_ring() {
    for entries in [1, 2, 8, 256] {
        let Some(mut ring) = ring(Setup::new(entries)) else {
            return;
        };
        burst(&mut ring, 10_000);
    }
}

#[test]
fn every_way_of_setting_up_works() {
    let deferred = SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN;
    let cooperative = SetupFlags::COOP_TASKRUN | SetupFlags::TASKRUN_FLAG;
    for setup in [
        Setup::new(8).completions(64),
        Setup::new(8).flags(SetupFlags::CLAMP),
        Setup::new(8).flags(SetupFlags::SUBMIT_ALL),
        Setup::new(8).flags(cooperative),
        Setup::new(8).flags(deferred),
        Setup::new(8).without(Features::SINGLE_MMAP),
        Setup::new(8).without(Features::EXT_ARG),
    ] {
        match setup.build() {
            // The flags are younger than rings themselves.
            Err(Errno::EINVAL) => println!("kernel too old for {setup:?}"),
            made => {
                let Some(mut ring) = allowed(made) else {
                    return;
                };
                burst(&mut ring, 1000);
                let (reader, writer) = crate::pipe();
                linux_raw::io::write(crate::lend(&writer), b"abc").unwrap();
                let mut into = [0; 8];
                let at = op::Position::Current;
                let fd = op::Fd::new(&crate::lend(&reader));
                // SAFETY: `run` waits for the completion.
                let read = unsafe { op::read(fd, into.as_mut_ptr(), 8, at) };
                assert_eq!(run(&mut ring, [read]), [Ok(3)]);
                assert_eq!(&into, b"abc\0\0\0\0\0");
            }
        }
    }
}

#[test]
fn sizes() {
    if ring(Setup::new(1)).is_none() {
        return;
    }
    for entries in (0..=12).flat_map(|power| [1 << power, (1 << power) + 1]) {
        let mut ring = Setup::new(entries).build().unwrap();
        assert_eq!(ring.entries(), entries.next_power_of_two());
        assert_eq!(ring.completion_entries(), 2 * entries.next_power_of_two());
        assert_eq!(ring.free_entries(), ring.entries());
        burst(&mut ring, 2 * u64::from(entries) + 1);
    }
    assert_eq!(Setup::new(0).build().err(), Some(Errno::EINVAL));
    assert_eq!(
        Setup::new(ENTRIES_MAX + 1).build().err(),
        Some(Errno::EINVAL)
    );
    let clamped = Setup::new(ENTRIES_MAX + 1)
        .flags(SetupFlags::CLAMP)
        .build()
        .unwrap();
    assert_eq!(clamped.entries(), ENTRIES_MAX);
    let narrow = Setup::new(8).completions(4).build();
    assert_eq!(narrow.err(), Some(Errno::EINVAL));
    // A kernel thread that polls the queue is nothing this module can live with.
    let polled = SetupFlags::from_bits_retain(linux_raw::sys::io_uring::IORING_SETUP_SQPOLL);
    assert_eq!(
        Setup::new(8).flags(polled).build().err(),
        Some(Errno::EINVAL)
    );
}

#[test]
fn a_full_queue_gives_the_entry_back() {
    let Some(mut ring) = ring(Setup::new(4)) else {
        return;
    };
    push(&mut ring, [op::nop(), op::nop(), op::nop(), op::nop()]);
    assert_eq!((ring.free_entries(), ring.unsubmitted()), (0, 4));
    let Err(Full(entry)) = ring.push(op::nop().with_user_data(5)) else {
        panic!("room for five")
    };
    assert_eq!(ring.submit(), Ok(4));
    assert_eq!(ring.free_entries(), 4);
    ring.push(entry).unwrap();
    ring.submit_and_wait(5, None).unwrap();
    assert!(ring.completions().map(|cqe| cqe.user_data()).eq(1..=5));
}

#[test]
fn what_is_taken_back_never_happens() {
    let Some(mut ring) = ring(Setup::new(4)) else {
        return;
    };
    burst(&mut ring, 3);
    push(&mut ring, [op::nop(), op::nop(), op::nop()]);
    assert_eq!(ring.discard_unsubmitted(), 3);
    assert_eq!(ring.submit(), Ok(0));
    assert_eq!(ring.ready(), 0);
    burst(&mut ring, 9);
}

#[test]
fn completions_that_overflow_are_not_lost() {
    let Some(mut ring) = ring(Setup::new(4).completions(4)) else {
        return;
    };
    let mut submitted = 0;
    while submitted < 40 {
        ring.push(op::nop().with_user_data(submitted)).unwrap();
        match ring.submit() {
            Ok(1) => submitted += 1,
            // Old kernels take nothing while something overflowed.
            Err(Errno::EBUSY) => {
                assert!(ring.overflowed());
                assert_eq!(ring.discard_unsubmitted(), 1);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(submitted > 4 && ring.overflowed());
    let mut seen = 0;
    while seen < submitted {
        // Brings in what overflowed, even where nothing has to be waited for.
        ring.submit_and_wait(0, None).unwrap();
        assert!((1..=4).contains(&ring.ready()), "{}", ring.ready());
        for cqe in ring.completions() {
            assert_eq!(cqe.user_data(), seen);
            seen += 1;
        }
    }
    assert!(!ring.overflowed());
    assert_eq!(ring.dropped(), 0);
    burst(&mut ring, 9);
}

#[test]
fn completions_not_asked_for_stay() {
    let Some(mut ring) = ring(Setup::new(4)) else {
        return;
    };
    push(&mut ring, [op::nop(), op::nop(), op::nop()]);
    ring.submit_and_wait(3, None).unwrap();
    assert_eq!(ring.completions().next().map(|cqe| index(&cqe)), Some(0));
    let unused = ring.completions();
    assert_eq!(unused.size_hint(), (0, Some(2)));
    assert_eq!(ring.ready(), 2);
    assert!(ring.completions().map(|cqe| index(&cqe)).eq([1, 2]));
}

/// Both ways of waiting: the argument, and the operation of older kernels.
fn waits_end_in_time(setup: Setup) {
    let Some(mut ring) = ring(setup) else { return };
    let wait = |ring: &mut Ring, want, millis| {
        let before = Instant::now();
        let ready = ring
            .submit_and_wait(want, Some(Timespec::from_millis(millis)))
            .unwrap();
        (ready, before.elapsed())
    };
    // Nothing in flight: time alone ends it.
    let (ready, took) = wait(&mut ring, 1, 30);
    assert_eq!(ready, 0);
    assert!(took >= Duration::from_millis(30), "{took:?}");
    let (ready, took) = wait(&mut ring, 1, 0);
    assert_eq!(ready, 0);
    assert!(took < Duration::from_secs(5), "{took:?}");
    // Too few: what there is stays ready, and the timeout is not among it.
    push(&mut ring, [op::nop(), op::nop()]);
    let (ready, took) = wait(&mut ring, 3, 30);
    assert_eq!(ready, 2);
    assert!(took >= Duration::from_millis(30), "{took:?}");
    // Enough, long before the time is up; and then no timeout is left that ends the next wait.
    for _ in 0..100 {
        let (ready, took) = wait(&mut ring, 2, 20_000);
        assert_eq!(ready, 2);
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert!(ring.completions().map(|cqe| index(&cqe)).eq([0, 1]));
        push(&mut ring, [op::nop(), op::nop()]);
        assert_eq!(wait(&mut ring, 1, 20_000).0, 2);
    }
    assert_eq!(ring.completions().count(), 2);
    let (ready, took) = wait(&mut ring, 1, 30);
    assert_eq!(ready, 0);
    assert!(took >= Duration::from_millis(30), "{took:?}");
    // More than the queue can hold is as much as it can hold.
    for _ in 0..2 {
        push(&mut ring, [op::nop(), op::nop(), op::nop(), op::nop()]);
        ring.submit().unwrap();
    }
    let (ready, _) = wait(&mut ring, u32::MAX, 1000);
    assert!((6..=8).contains(&ready), "{ready}");
    assert!(
        ring.completions()
            .all(|cqe| cqe.user_data() < RESERVED_USER_DATA)
    );
}

#[test]
fn waits_end_in_time_by_argument() {
    waits_end_in_time(Setup::new(4));
}

#[test]
fn waits_end_in_time_by_operation() {
    waits_end_in_time(Setup::new(4).without(Features::EXT_ARG));
}

#[test]
fn operations_that_the_kernel_knows() {
    let Some(ring) = ring(Setup::new(1)) else {
        return;
    };
    let probe = ring.probe().unwrap();
    for op in [
        Op::Nop,
        Op::ReadFixed,
        Op::PollAdd,
        Op::LinkTimeout,
        Op::Read,
        Op::Write,
    ] {
        assert!(probe.supports(op), "{op:?}");
    }
    assert!(probe.supports_number(probe.last()));
    assert!(!probe.supports_number(u8::MAX));
    println!("{probe:?}");
}

#[test]
fn a_ring_moves_between_threads() {
    let Some(mut ring) = ring(Setup::new(8)) else {
        return;
    };
    burst(&mut ring, 20);
    let mut ring = std::thread::spawn(move || {
        burst(&mut ring, 20);
        ring
    })
    .join()
    .unwrap();
    burst(&mut ring, 20);
}

#[test]
fn a_forked_child_gets_errors() {
    let Some(mut ring) = ring(Setup::new(4)) else {
        return;
    };
    push(&mut ring, [op::nop()]);
    // SAFETY: the child makes system calls and exits; it takes no lock and allocates nothing.
    let child = unsafe { arch::syscall0(nr::FORK) }.int().unwrap();
    if child == 0 {
        let refused = ring.is_forked()
            && ring.push(op::nop()).is_err()
            && ring.submit() == Err(Errno::ESTALE)
            && ring.submit_and_wait(1, None) == Err(Errno::ESTALE)
            && ring.completions().next().is_none()
            && (ring.ready(), ring.unsubmitted(), ring.free_entries()) == (0, 0, 0)
            && ring.register_files(&[]) == Err(Errno::ESTALE)
            && ring.probe().err() == Some(Errno::ESTALE);
        drop(ring);
        // SAFETY: exit_group does not return.
        unsafe { arch::syscall1_noreturn(nr::EXIT_GROUP, i32::from(!refused).into()) }
    }
    let mut status = -1_i32;
    // SAFETY: wait4 writes one int through the pointer.
    let waited = unsafe {
        arch::syscall4(
            nr::WAIT4,
            child.into(),
            (&raw mut status).into(),
            0.into(),
            Arg::NULL,
        )
    };
    assert_eq!(waited.int(), Ok(child));
    assert_eq!(status, 0, "the child's exit status");
    assert_eq!(ring.submit_and_wait(1, None), Ok(1));
    assert_eq!(ring.completions().count(), 1);
}
