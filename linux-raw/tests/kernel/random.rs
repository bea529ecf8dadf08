#![expect(unsafe_code, reason = "installs a handler")]
//! Random bytes.

use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use linux_raw::pidfd::{PidfdFlags, WaitFlags, WaitStatus};
use linux_raw::pidfd::{pidfd_open, pidfd_send_signal, waitid_pidfd};
use linux_raw::process::{exit_group, getpid};
use linux_raw::random::fill;
use linux_raw::signal::{SaFlags, SigAction, SigSet, Signal, sigaction};
use linux_raw::{Errno, OwnedFd};

use crate::child::{holds, in_child, must, start};

/// Whether no stretch was left out: a chunk is all zeroes by chance once in 2^128.
fn is_full(bytes: &[u8]) -> bool {
    bytes.chunks_exact(16).all(|chunk| chunk != [0; 16])
}

#[test]
fn no_two_fillings_are_alike() {
    let mut one = [0; 64];
    let mut other = one;
    fill(&mut one).unwrap();
    fill(&mut other).unwrap();
    assert!(is_full(&one) && is_full(&other));
    assert_ne!(one, other);
    assert_eq!(fill(&mut []), Ok(()));
}

/// How many signals came; the test's child has a copy of its own.
static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count() {
    SIGNALS.fetch_add(1, SeqCst);
}

/// Sends signals to a process until it is gone.
extern "C" fn disturb(process: *mut c_void) -> ! {
    // SAFETY: the test passes its descriptor, of which this process has a copy.
    let process = unsafe { &*process.cast::<OwnedFd>() };
    while pidfd_send_signal(process, Some(Signal::USR1)).is_ok() {
        linux_raw::process::sched_yield();
    }
    exit_group(0)
}

#[test]
fn a_signal_does_not_cut_a_filling_short() {
    let mut bytes = vec![0; 4 << 20];
    let status = in_child(|| {
        let action = SigAction {
            handler: count as *const () as usize,
            flags: SaFlags::RESTORER,
            restorer: linux_raw::arch::sigreturn as *const () as usize,
            mask: SigSet::EMPTY,
        };
        // SAFETY: the handler only touches an atomic.
        must!(unsafe { sigaction(Signal::USR1, &action) });
        let mut own = must!(pidfd_open(must!(getpid()), PidfdFlags::empty()));
        let disturber = start(disturb, (&raw mut own).cast());
        // The kernel looks for signals after each page.
        let mut during = 0;
        while during < 10 {
            bytes.fill(0);
            let before = SIGNALS.load(SeqCst);
            must!(fill(&mut bytes));
            during += SIGNALS.load(SeqCst) - before;
            holds!(is_full(&bytes));
        }
        must!(pidfd_send_signal(&disturber, Some(Signal::KILL)));
        // Its last signal may come before its end does.
        while waitid_pidfd(&disturber, WaitFlags::empty()) == Err(Errno::EINTR) {}
        Ok(())
    });
    assert_eq!(status, WaitStatus::Exited(0));
}
