#![expect(unsafe_code, reason = "borrows a descriptor by its number")]
//! Nothing to lose and nothing to gain; and no life without the host.

use core::sync::atomic::Ordering::Relaxed;

use linux_raw::called::{Called as _, Failed};
use linux_raw::cred::{self, Securebits};
use linux_raw::fd::BorrowedFd;
use linux_raw::io::{self, PollFd, PollFlags};
use linux_raw::process::exit_group;
use linux_raw::signal::Signal;
use linux_raw::time::Timespec;
use linux_raw::{Errno, nr, ports, prctl};
use vmctx::{Options, Step, slots};

use super::Wall;
use crate::boot::host_page;

/// An empty bounding set and locked securebits. Both take a capability that only a user namespace
/// of our own is sure to give.
pub(super) fn lock_away() -> Result<(), Failed> {
    cred::drop_bounding_set().called(nr::PRCTL)?;
    prctl::set_securebits(Securebits::LOCKED_DOWN).called(nr::PRCTL)
}

/// Becomes whom the host says, in each of its three ids: a host that was root may be so again by
/// the real or the saved one. Becoming another takes the wish to die with the host away (prctl(2),
/// PR_SET_PDEATHSIG), which a later step repeats.
pub(super) fn change_user(wall: &mut Wall) -> Result<(), Failed> {
    let page = host_page();
    let (uid, gid) = (page.uid.load(Relaxed), page.gid.load(Relaxed));
    if wall.has(Options::DROP_GROUPS) {
        cred::setgroups_none().called(nr::SETGROUPS)?;
    }
    cred::setresgid(gid).called(nr::SETRESGID)?;
    cred::setresuid(uid).called(nr::SETRESUID)?;
    // A worker that stays root would be the worst of all silent failures.
    let users = cred::getresuid().called(nr::GETRESUID)?;
    let groups = cred::getresgid().called(nr::GETRESGID)?;
    if users.are_all(uid) && groups.are_all(gid) {
        Ok(())
    } else {
        Err(Failed(nr::SETRESUID, Errno::EPROTO))
    }
}

/// No I/O port, no new privileges, no capability in any set, no dump.
pub(super) fn drop_all(wall: &Wall) -> Result<(), Failed> {
    // A host that reaches ports would hand them on, through the exec too (ioperm(2), iopl(2)).
    ports::give_up(wall.has(Options::NO_PORTS))?;
    prctl::set_no_new_privs().called(nr::PRCTL)?;
    cred::capset_none().called(nr::CAPSET)?;
    prctl::set_dumpable(false).called(nr::PRCTL)
}

/// The kernel kills us when the host's thread that started us ends. The host may have died
/// before the call: then its pidfd is readable.
pub(super) fn die_with_the_host() -> Result<(), Failed> {
    prctl::set_pdeathsig(Signal::KILL).called(nr::PRCTL)?;
    // SAFETY: the host put its pidfd into this slot; it is open until every descriptor is closed.
    let host = unsafe { BorrowedFd::borrow_raw(slots::HOST_PIDFD) };
    let mut poll = [PollFd::new(host, PollFlags::IN)];
    if io::poll(&mut poll, Some(Timespec::from_nanos(0))).called(nr::PPOLL)? > 0 {
        exit_group(Step::HostDeath as i32)
    }
    Ok(())
}
