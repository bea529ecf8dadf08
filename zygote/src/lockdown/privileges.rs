#![expect(unsafe_code, reason = "borrows a descriptor by its number")]
//! Nothing to lose and nothing to gain; and no life without the host.

use core::sync::atomic::Ordering::Relaxed;

use linux_raw::cred::{self, Securebits};
use linux_raw::fd::BorrowedFd;
use linux_raw::io::{self, PollFd, PollFlags};
use linux_raw::process::{self, exit_group};
use linux_raw::signal::Signal;
use linux_raw::time::Timespec;
use linux_raw::{Errno, nr, prctl};
use vmctx::host_page::KEEP_ID;
use vmctx::{Layer, Options, Step, slots};

use super::Wall;
use super::failed::{Called as _, Failed};
use crate::boot::host_page;

/// An empty bounding set and locked securebits. Both take a capability that only a user namespace
/// of our own is sure to give.
pub(super) fn lock_away(wall: &mut Wall) -> Result<(), Failed> {
    if wall.has(Options::WITHOUT_NAMESPACES) {
        return Ok(());
    }
    cred::drop_bounding_set().called(nr::PRCTL)?;
    prctl::set_securebits(Securebits::LOCKED_DOWN).called(nr::PRCTL)?;
    wall.up(Layer::BoundingSet);
    wall.up(Layer::Securebits);
    Ok(())
}

/// Becomes whom the host says, without supplementary groups. That takes the wish to die with the
/// host away (prctl(2), PR_SET_PDEATHSIG), which a later step repeats.
pub(super) fn change_user(_: &mut Wall) -> Result<(), Failed> {
    let page = host_page();
    let (uid, gid) = (page.uid.load(Relaxed), page.gid.load(Relaxed));
    if (uid, gid) == (KEEP_ID, KEEP_ID) {
        return Ok(());
    }
    cred::setgroups_none().called(nr::SETGROUPS)?;
    cred::setresgid(gid).called(nr::SETRESGID)?;
    cred::setresuid(uid).called(nr::SETRESUID)?;
    // A worker that stays root would be the worst of all silent failures.
    if process::geteuid() == uid && process::getegid() == gid {
        Ok(())
    } else {
        Err(Failed(nr::SETRESUID, Errno::EPROTO))
    }
}

/// No new privileges, no capability in any set, no dump.
pub(super) fn drop_all(_: &mut Wall) -> Result<(), Failed> {
    prctl::set_no_new_privs().called(nr::PRCTL)?;
    cred::capset_none().called(nr::CAPSET)?;
    prctl::set_dumpable(false).called(nr::PRCTL)
}

/// The kernel kills us when the host's thread that started us ends. The host may have died
/// before the call: then its pidfd is readable.
pub(super) fn die_with_the_host(_: &mut Wall) -> Result<(), Failed> {
    prctl::set_pdeathsig(Signal::KILL).called(nr::PRCTL)?;
    // SAFETY: the host put its pidfd into this slot; it is open until every descriptor is closed.
    let host = unsafe { BorrowedFd::borrow_raw(slots::HOST_PIDFD) };
    let mut poll = [PollFd::new(host, PollFlags::IN)];
    if io::poll(&mut poll, Some(Timespec::from_nanos(0))).called(nr::PPOLL)? > 0 {
        exit_group(Step::HostDeath as i32)
    }
    Ok(())
}
