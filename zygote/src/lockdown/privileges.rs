#![expect(unsafe_code, reason = "borrows a descriptor by its number")]
//! Nothing to lose and nothing to gain; and no life without the host.

use linux_raw::cred::{self, Securebits};
use linux_raw::fd::BorrowedFd;
use linux_raw::io::{self, PollFd, PollFlags};
use linux_raw::process::exit_group;
use linux_raw::signal::Signal;
use linux_raw::time::Timespec;
use linux_raw::{Errno, prctl};
use vmctx::{Step, slots};

/// No new privileges, securebits locked, no capability in any set, no dump.
pub(crate) fn drop_all() -> Result<(), Errno> {
    prctl::set_no_new_privs()?;
    // Both need CAP_SETPCAP, which the step after them gives up.
    cred::drop_bounding_set()?;
    prctl::set_securebits(Securebits::LOCKED_DOWN)?;
    cred::capset_none()?;
    prctl::set_dumpable(false)
}

/// The kernel kills us when the host's thread that started us ends. The host may have died
/// before the call: then its pidfd is readable.
pub(crate) fn die_with_the_host() -> Result<(), Errno> {
    prctl::set_pdeathsig(Signal::KILL)?;
    // SAFETY: the host put its pidfd into this slot; it is open until every descriptor is closed.
    let host = unsafe { BorrowedFd::borrow_raw(slots::HOST_PIDFD) };
    let mut poll = [PollFd::new(host, PollFlags::IN)];
    if io::poll(&mut poll, Some(Timespec::from_nanos(0)))? > 0 {
        exit_group(Step::HostDeath as i32)
    }
    Ok(())
}
