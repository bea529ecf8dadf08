#![expect(unsafe_code, reason = "clones a copy that is traced")]
//! A child that lets itself be traced.

use core::ffi::c_void;
use core::ptr::null_mut;

use linux_raw::pidfd::{
    PidfdFlags, WaitFlags, WaitStatus, may_wait, pidfd_open, pidfd_send_signal, wait_for_stop,
    waitid_pidfd,
};
use linux_raw::process::{CloneArgs, CloneFlags, clone_copy, exit_group, getpid};
use linux_raw::signal::Signal;
use linux_raw::{Errno, ptrace};

use crate::child::{holds, in_child, must};

extern "C" fn signalled_as_a_tracee(_: *mut c_void) -> ! {
    let signalled = ptrace::let_the_parent_trace()
        .and_then(|()| pidfd_open(getpid()?, PidfdFlags::empty()))
        .and_then(|own| pidfd_send_signal(&own, Some(Signal::USR1)));
    exit_group(signalled.is_err().into())
}

#[test]
fn a_tracee_stops_and_shows_its_ports() {
    let status = in_child(|| {
        must!(may_wait());
        let args = CloneArgs {
            flags: CloneFlags::PIDFD,
            ..CloneArgs::default()
        };
        // SAFETY: the entry takes no lock and ends in `exit_group`.
        let tracee = unsafe { clone_copy(&args, None, signalled_as_a_tracee, null_mut()) };
        let tracee = must!(tracee);
        let process = must!(tracee.pidfd.ok_or(Errno::EBADF));
        holds!(must!(wait_for_stop(&process)) == Some(Signal::USR1));
        holds!(ptrace::port_map_of(tracee.pid) == Err(Errno::ENXIO));
        must!(pidfd_send_signal(&process, Some(Signal::KILL)));
        holds!(must!(wait_for_stop(&process)).is_none());
        holds!(waitid_pidfd(&process, WaitFlags::ALL) == Err(Errno::ECHILD));
        Ok(())
    });
    assert_eq!(status, WaitStatus::Exited(0));
}
