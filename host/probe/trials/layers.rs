#![expect(
    unsafe_code,
    reason = "maps pages in a child to try what can be done with them"
)]
//! What whole layers of the wall rest on: each must have its effect.

use std::arch::x86_64::_rdtsc;

use linux_raw::Errno;
use linux_raw::landlock::{self, AccessNet, RestrictFlags, Rights, Scope};
use linux_raw::mm::{self, Backing, MapFlags, Placement, Prot};
use linux_raw::prctl::{self, Speculation, SpeculationState};
use linux_raw::process::{self, CloneFlags, Pid};
use linux_raw::signal::Signal;

use super::{NO_EFFECT, effect, root};
use crate::probe::attempt::{Failure, Found, in_child};
use crate::probe::raw;

/// A page, on every architecture that we know; more where pages are larger.
const PAGE_BYTES: usize = 4096;

/// A finding's value where the rules are in force, but their effect cannot be seen: what they
/// forbid is not to be had anyway, or a filter kills for it. An engine does not try it either.
pub(in crate::probe) const UNTRIED: u64 = 0;

/// From here on this process is kept from what `rights` are about.
fn restrict(rights: &Rights) -> Result<(), Errno> {
    prctl::set_no_new_privs()?;
    let ruleset = landlock::create_ruleset(rights)?;
    landlock::restrict_self(&ruleset, RestrictFlags::empty())
}

/// The version of the rules. A domain of all of them must keep this process from its own root.
pub(super) fn landlock() -> Found {
    let abi = landlock::abi()?;
    restrict(&Rights::known(abi))?;
    match root() {
        Err(Errno::EACCES) => Ok(Some(abi.into())),
        Err(errno) => Err(errno.into()),
        Ok(_) => Err(NO_EFFECT.into()),
    }
}

/// A domain without TCP must keep this process from taking a port.
pub(super) fn landlock_network() -> Found {
    let before = in_child(CloneFlags::empty(), &raw::bind_to_loopback);
    restrict(&Rights {
        net: AccessNet::BIND_TCP | AccessNet::CONNECT_TCP,
        ..Rights::default()
    })?;
    // Without that address the kernel says so after it has asked Landlock.
    if !matches!(before, Ok(()) | Err(Failure::Refused(Errno::EADDRNOTAVAIL))) {
        return Ok(Some(UNTRIED));
    }
    match raw::bind_to_loopback() {
        Err(Errno::EACCES) => Ok(None),
        Err(errno) => Err(errno.into()),
        Ok(()) => Err(NO_EFFECT.into()),
    }
}

/// A domain of its own must keep this process from signalling its parent, which it could before.
pub(super) fn landlock_scopes() -> Found {
    // The first process of a pid namespace sees no parent.
    let parent = Pid::from_raw(process::getppid()).filter(|parent| {
        let before = in_child(CloneFlags::empty(), &|| raw::ask_for(*parent));
        before.is_ok()
    });
    restrict(&Rights {
        scoped: Scope::SIGNAL | Scope::ABSTRACT_UNIX_SOCKET,
        ..Rights::default()
    })?;
    match parent {
        Some(parent) => effect(raw::ask_for(parent) == Err(Errno::EPERM)),
        None => Ok(Some(UNTRIED)),
    }
}

fn writable_page() -> Result<usize, Errno> {
    let prot = Prot::READ | Prot::WRITE;
    // SAFETY: the kernel chooses a free place, so nothing of ours is replaced.
    let page = unsafe {
        mm::mmap(
            Placement::Anywhere,
            PAGE_BYTES,
            prot,
            Backing::Anonymous,
            MapFlags::empty(),
        )
    }?;
    Ok(page.addr().get())
}

pub(super) fn mseal() -> Found {
    let page = writable_page()?;
    mm::mseal(page, PAGE_BYTES)?;
    // SAFETY: nothing lives in the page.
    effect(unsafe { mm::munmap(page, PAGE_BYTES) } == Err(Errno::EPERM))
}

pub(super) fn deny_write_execute() -> Found {
    prctl::set_mdwe()?;
    let page = writable_page()?;
    // SAFETY: nothing lives in the page.
    let gained = unsafe { mm::mprotect(page, PAGE_BYTES, Prot::READ | Prot::EXEC) };
    // EACCES, unless a filter around this process has forbidden it before.
    effect(gained.is_err())
}

/// A finding's value where a kind of speculation is disabled for everybody.
pub(in crate::probe) const DISABLED: u64 = 1;

/// As a worker judges it: what is disabled for everybody is as good (`ENXIO`: the CPU does not do
/// it; `EPERM`: a process has no say in it).
pub(super) fn speculation(kind: Speculation) -> Found {
    let state = prctl::speculation(kind)?;
    let disabled = SpeculationState::DISABLE | SpeculationState::FORCE_DISABLE;
    if state.contains(SpeculationState::PRCTL) {
        prctl::disable_speculation(kind)?;
        effect(prctl::speculation(kind)?.intersects(disabled))
    } else if state.intersects(disabled) {
        Ok(Some(DISABLED))
    } else if state == SpeculationState::NOT_AFFECTED {
        Err(Errno::ENXIO.into())
    } else {
        Err(Errno::EPERM.into())
    }
}

/// Reading the counter must kill.
pub(super) fn timestamp_counter() -> Found {
    let read = in_child(CloneFlags::empty(), &|| {
        // A death by SIGSEGV would dump core otherwise.
        prctl::set_dumpable(false)?;
        prctl::set_timestamp_counter(false)?;
        // SAFETY: every x86-64 CPU has the instruction, which reads a register.
        let _ = std::hint::black_box(unsafe { _rdtsc() });
        Err(NO_EFFECT)
    });
    match read {
        Err(Failure::Killed(Signal::SEGV)) => Ok(None),
        Err(failure) => Err(failure),
        Ok(()) => Err(NO_EFFECT.into()),
    }
}
