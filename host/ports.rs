#![expect(unsafe_code, reason = "clones a copy that is traced")]
//! Whether this thread reaches an I/O port, where a filter forbids a worker to give them up.
//!
//! Container engines have such filters around all that may not take ports. But whoever took some
//! before the filter came has them still, and what it makes has them too; and nothing in `/proc`
//! tells. A tracer sees both ways to have them: the map of single ports (`ioperm`) is a set of
//! registers of its tracee's, and whom the kernel gave all of them (`iopl`) it spares the fault of
//! an instruction that is the kernel's alone.

use std::ffi::c_void;
use std::ptr;
use std::time::Duration;

use linux_raw::pidfd::{self, WaitFlags};
use linux_raw::process::{self, CloneArgs, CloneBy, CloneFlags};
use linux_raw::signal::Signal;
use linux_raw::{Errno, arch, ports, prctl, ptrace};

use crate::copy::{self, End};
use crate::interrupt::Death;

/// How long the proof may take.
const TIME: Duration = Duration::from_secs(2);

/// How the tracer ends.
const PROVEN: u8 = 42;
const UNPROVEN: u8 = 1;

/// Whether ports cannot be given up here and this thread has none: because the kernel gives nobody
/// any, or because a filter forbids it, which may answer as such a kernel does. It can get none
/// later: that takes a call that is a part of the same filter, and a thread has its own.
///
/// Two system calls where there is no filter. The probe asks the same, for [`Feature::IoPorts`].
///
/// [`Feature::IoPorts`]: crate::Feature::IoPorts
pub(crate) fn proves_to_have_none() -> bool {
    if prctl::is_filtered() == Ok(false) {
        return !ports::can_be_had();
    }
    let args = CloneArgs {
        by: CloneBy::Clone,
        ..CloneArgs::default()
    };
    let proven = End::Died(Death::Exited(PROVEN.into()));
    copy::run(args, TIME, &|| trace().unwrap_or(UNPROVEN)) == Ok(proven)
}

/// In a copy of the process: the stops of a tracee are no news for the embedder.
fn trace() -> Result<u8, Errno> {
    if ports::give_up_level().is_ok() || ports::give_up_each().is_ok() {
        return Ok(UNPROVEN); // nor needed: workers can do the same
    }
    let args = CloneArgs {
        flags: CloneFlags::PIDFD,
        by: CloneBy::Clone,
        ..CloneArgs::default()
    };
    // SAFETY: this copy has one thread, and the other takes no lock, drops nothing and ends.
    let tracee = unsafe { process::clone_copy(&args, None, be_traced, ptr::null_mut()) }?;
    let process = tracee.pidfd.ok_or(Errno::EBADF)?;
    let faulted = pidfd::wait_for_stop(&process)? == Some(Signal::SEGV);
    let proven = faulted && ptrace::port_map_of(tracee.pid) == Err(Errno::ENXIO);
    pidfd::pidfd_send_signal(&process, Some(Signal::KILL))?;
    // Else it were left to whoever adopts orphans, which may be the embedder.
    pidfd::waitid_pidfd(&process, WaitFlags::ALL)?;
    Ok(if proven { PROVEN } else { UNPROVEN })
}

extern "C" fn be_traced(_: *mut c_void) -> ! {
    if ptrace::let_the_parent_trace() == Ok(()) {
        arch::set_interrupt_flag();
    }
    process::exit_group(0)
}
