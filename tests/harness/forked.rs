#![expect(unsafe_code, reason = "forks")]
//! A child that the host forks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use cellwall::{Blame, Error, Misuse};
use linux_raw::AsFd as _;
use linux_raw::io::{self, PollFd, PollFlags};
use linux_raw::pidfd::{
    PidfdFlags, WaitFlags, WaitStatus, pidfd_open, pidfd_send_signal, waitid_pidfd,
};
use linux_raw::process::{Pid, exit_group};
use linux_raw::signal::Signal;
use linux_raw::time::Timespec;

/// Longer than any child takes.
const BOUND: Duration = Duration::from_secs(120);

unsafe extern "C" {
    /// The C library's: an embedder's `fork` is no bare system call.
    pub(crate) safe fn fork() -> i32;
}

/// Runs `body` in a forked child, where no assertion may fail and no signal may come.
pub(crate) fn in_a_child(body: impl FnOnce()) {
    let child = fork();
    if child == 0 {
        let outcome = catch_unwind(AssertUnwindSafe(body));
        exit_group(i32::from(outcome.is_err()))
    }
    let child = Pid::from_raw(u32::try_from(child).expect("fork")).expect("a child");
    let child = pidfd_open(child, PidfdFlags::empty()).expect("it is not reaped");
    // One that waits for a lock of the parent's would wait for ever.
    let mut poll = [PollFd::new(child.as_fd(), PollFlags::IN)];
    if io::poll(&mut poll, Some(Timespec::from(BOUND))) != Ok(1) {
        pidfd_send_signal(&child, Some(Signal::KILL)).expect("it is ours");
    }
    let ended = waitid_pidfd(&child, WaitFlags::ALL).expect("it is ours");
    assert_eq!(ended, Some(WaitStatus::Exited(0)));
}

/// Whether the child was told that it is one.
pub(crate) fn is_refused<T>(result: Result<T, Error>) -> bool {
    result.is_err_and(|error| error.blame == Blame::Caller(Misuse::Forked))
}
