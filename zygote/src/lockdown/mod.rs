#![expect(unsafe_code, reason = "leaves for the assembly that never comes back")]
//! The start of a worker as a list: each step is short, in an order that is visible here.

mod limits;
mod memory;
mod policy;
mod privileges;
mod root;

use linux_raw::Errno;
use linux_raw::fd::{self, CloseRangeFlags};
use linux_raw::prctl;
use linux_raw::process;
use linux_raw::scheduling::{self, Policy};
use linux_raw::seccomp::{self, InstallFlags};
use vmctx::Step;

use crate::last_words::{begin, die};
use crate::{signal, trampoline};

/// What the steps know of the process besides the host page.
pub(crate) struct Boot {
    /// The largest signal frame, in bytes.
    frame_bytes: usize,
}

type Action = fn(&Boot) -> Result<(), Errno>;

/// Later steps forbid earlier ones: descriptors are needed until the memory is mapped, and the
/// filter allows nothing of all this.
const STEPS: [(Step, Action); 10] = [
    (Step::Session, |_| session()),
    (Step::Root, |_| root::empty()),
    (Step::Privileges, |_| privileges::drop_all()),
    (Step::HostDeath, |_| privileges::die_with_the_host()),
    (Step::Regions, |_| memory::map_regions()),
    (Step::Unmap, |_| memory::unmap_the_rest()),
    (Step::Signals, |boot| signal::install(boot.frame_bytes)),
    (Step::Limits, |_| limits::set()),
    (Step::CloseAll, |_| close_all()),
    (Step::Seccomp, |_| {
        seccomp::install(policy::FILTER.as_slice(), InstallFlags::empty())
    }),
];

/// Takes every step, then waits for the first order. A step that fails ends the process.
///
/// # Safety
///
/// To be called once, on the stack that `boot` mapped.
pub(crate) unsafe extern "C" fn lockdown(frame_bytes: usize) -> ! {
    let boot = Boot { frame_bytes };
    for (step, action) in STEPS {
        begin(step);
        if let Err(errno) = action(&boot) {
            die(step, errno)
        }
    }
    begin(Step::Ready);
    // SAFETY: it takes the stack from its top; nothing below is needed again.
    unsafe { trampoline::cellwall_idle() }
}

/// None of the slots is needed any more, and nothing else is open.
fn close_all() -> Result<(), Errno> {
    // SAFETY: no owned descriptor exists: what was mapped stays mapped without one.
    unsafe { fd::close_range(0, u32::MAX, CloseRangeFlags::empty()) }
}

/// No terminal and no job control reach us, no real-time priority of the host's is ours, and `ps`
/// shows what we are.
fn session() -> Result<(), Errno> {
    process::setsid()?;
    // A host that only runs when nobody else does may have workers that do so too: leaving that
    // policy would take a privilege.
    if scheduling::policy()? != Policy::IDLE {
        scheduling::set_normal()?;
    }
    prctl::set_name(c"cellwall-worker")
}
