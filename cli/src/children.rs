#![expect(unsafe_code, reason = "sets a signal's disposition")]
//! What becomes of the exit status of a worker.

use linux_raw::signal::{SigAction, Signal, sigaction};

/// Has the kernel keep the status of children that ended until it is asked for. Whoever started
/// this program may have ignored SIGCHLD, which throws it away, and with it what a guest did.
pub(crate) fn announce() {
    // SAFETY: the default of this signal is to do nothing: no handler is installed.
    let set = unsafe { sigaction(Signal::CHLD, &SigAction::DEFAULT) };
    debug_assert!(set.is_ok(), "SIGCHLD has a default: {set:?}");
}
