//! Signals during waits, and filters that forbid rings before or after they are made.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use linux_raw::seccomp::{ALLOW, InstallFlags, Instruction, bpf, install};
use linux_raw::signal::{SaFlags, SigAction, SigSet, Signal, sigaction};
use linux_raw::sys::general::{__NR_gettid, __NR_tgkill};
use linux_raw::time::{Timespec, monotonic};
use linux_raw::uring::{Setup, Transfer};
use linux_raw::{Errno, arch, nr, prctl};

use crate::{allowed, lend, pipe, ring};

/// How many signals have been handled.
static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn handle(_signal: i32) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// The number of this thread.
fn thread() -> u32 {
    // SAFETY: the call takes nothing and changes nothing.
    let answer = unsafe { arch::syscall0(nr::Nr::from_raw(__NR_gettid)) };
    answer.word().unwrap()
}

/// Sends `SIGUSR1` to one thread of this process.
fn disturb(thread: u32) {
    let tgkill = nr::Nr::from_raw(__NR_tgkill);
    let process = std::process::id();
    let signal = Signal::USR1.raw();
    // SAFETY: nothing is passed but numbers, and the handler is this file's.
    let answer = unsafe { arch::syscall3(tgkill, process.into(), thread.into(), signal.into()) };
    answer.done().unwrap();
}

/// Runs `wait` while a signal comes every other millisecond.
fn under_signals<T>(wait: impl FnOnce() -> T) -> T {
    let action = SigAction {
        handler: handle as *const () as usize,
        flags: SaFlags::RESTORER,
        restorer: arch::sigreturn as *const () as usize,
        mask: SigSet::EMPTY,
    };
    // SAFETY: the handler adds to an atomic, and the restorer is the one for this frame.
    unsafe { sigaction(Signal::USR1, &action) }.unwrap();
    let waiting = thread();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                disturb(waiting);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let waited = wait();
        done.store(true, Ordering::Relaxed);
        waited
    })
}

#[test]
fn signals_shorten_no_wait() {
    let (reader, _writer) = pipe();
    let mut into = [0; 4];
    let span = Duration::from_millis(60);
    let handled = HANDLED.load(Ordering::Relaxed);
    let mut ways = vec![Transfer::plain()];
    ways.extend(allowed(Transfer::uring()));
    for transfer in &mut ways {
        let deadline = monotonic() + span;
        let late = under_signals(|| transfer.read(lend(&reader), &mut into, Some(deadline)));
        assert_eq!(late, Err(Errno::ETIME));
        assert!(monotonic() >= deadline, "{}", transfer.kind());
    }
    if let Some(mut ring) = ring(Setup::new(4)) {
        let before = Instant::now();
        let timeout = Some(Timespec::from(span));
        assert_eq!(under_signals(|| ring.submit_and_wait(1, timeout)), Ok(0));
        assert!(before.elapsed() >= span);
    }
    assert!(HANDLED.load(Ordering::Relaxed) > handled);
}

/// Makes a system call fail with `errno` in this thread, for good.
fn forbid(call: nr::Nr, errno: Errno) {
    const ERRNO: u32 = 0x0005_0000;
    let step = |code, if_true, if_false, operand| Instruction {
        code,
        if_true,
        if_false,
        operand,
    };
    let program = [
        step(bpf::LOAD, 0, 0, 0),
        step(bpf::JUMP_IF_EQUAL, 0, 1, call.raw()),
        step(bpf::RETURN, 0, 0, ERRNO | u32::from(errno.raw())),
        step(bpf::RETURN, 0, 0, ALLOW),
    ];
    prctl::set_no_new_privs().unwrap();
    install(&program, InstallFlags::empty()).unwrap();
}

/// Runs `test` in a thread of its own, which may forbid itself things.
fn apart(test: impl FnOnce() + Send + 'static) {
    std::thread::spawn(test).join().unwrap();
}

/// A transfer that must work, whichever way.
fn works(transfer: &mut Transfer) {
    let (reader, writer) = pipe();
    let mut into = [0; 4];
    let deadline = Some(monotonic() + Duration::from_millis(10));
    assert_eq!(
        transfer.read(lend(&reader), &mut into, deadline),
        Err(Errno::ETIME)
    );
    assert_eq!(transfer.write(lend(&writer), b"abc", None), Ok(3));
    assert_eq!(transfer.read(lend(&reader), &mut into, None), Ok(3));
}

#[test]
fn where_rings_are_forbidden_transfers_go_plainly() {
    for errno in [Errno::EPERM, Errno::ENOSYS, Errno::EACCES, Errno::ENOMEM] {
        apart(move || {
            forbid(nr::IO_URING_SETUP, errno);
            assert_eq!(Transfer::uring().err(), Some(errno));
            let mut transfer = Transfer::new();
            assert_eq!(
                (transfer.kind(), transfer.plain_because()),
                ("plain", Some(errno))
            );
            works(&mut transfer);
        });
    }
}

#[test]
fn a_ring_that_is_forbidden_later_is_given_up() {
    apart(|| {
        let Some(mut transfer) = allowed(Transfer::uring()) else {
            return;
        };
        works(&mut transfer);
        forbid(nr::IO_URING_ENTER, Errno::EPERM);
        works(&mut transfer);
        assert_eq!(
            (transfer.kind(), transfer.plain_because()),
            ("plain", Some(Errno::EPERM))
        );
    });
}

#[test]
fn without_memory_for_requests_a_transfer_goes_plainly_once() {
    apart(|| {
        let Some(mut transfer) = allowed(Transfer::uring()) else {
            return;
        };
        forbid(nr::IO_URING_ENTER, Errno::EAGAIN);
        works(&mut transfer);
        assert_eq!(transfer.kind(), "io_uring");
    });
}
