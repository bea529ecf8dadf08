#![expect(
    unsafe_code,
    reason = "runs in a process that shares the host's memory"
)]
//! What the child does between clone and exec, in the host's memory.
//!
//! It allocates nothing, takes no lock, panics nowhere and calls nothing that acts on the memory
//! it shares: `PR_SET_DUMPABLE` here would change the *host*, and so would a change of user
//! (kernel/cred.c, `commit_creds`) or `/proc/self/oom_score_adj` (fs/proc/base.c,
//! `__set_oom_adj`). Such steps are the zygote's. All signals are blocked: the clone is made so,
//! and the host's handlers are cleared by the clone, or by the exec at the latest.

use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use linux_raw::called::{Called as _, Failed};
use linux_raw::cred::{self, Capability};
use linux_raw::fd::{BorrowedFd, CloseRangeFlags, RawFd, close_range, dup_to, set_cloexec};
use linux_raw::futex;
use linux_raw::io::{self, PollFd, PollFlags};
use linux_raw::nr::{self, Nr};
use linux_raw::ns::{self, IdMap};
use linux_raw::process::{AtFlags, execveat, exit_group};
use linux_raw::signal::Signal;
use linux_raw::time::Timespec;
use linux_raw::{Errno, prctl};
use vmctx::{Step, slots};

/// The descriptor of the zygote's image, right above the slots.
const IMAGE_SLOT: RawFd = slots::COUNT;
const NAME: &CStr = c"cellwall-worker";
/// What the lock-down needs of a namespace's powers: to become its user 0, to give up what is left
/// to gain, to mount the root.
const KEPT_POWERS: [Capability; 4] = [
    Capability::SETUID,
    Capability::SETGID,
    Capability::SETPCAP,
    Capability::SYS_ADMIN,
];

/// Who writes the id maps of the child's user namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum IdMaps {
    /// There is no such namespace.
    Nobody,
    /// The child itself may map nobody but the host's own user.
    Child(IdMap),
    /// The host maps another user, for which it has the privilege.
    Host,
}

/// How often a child that waits for its maps looks whether the host lives.
const HOST_INTERVAL: Timespec = Timespec::from_nanos(10_000_000);

/// The values of [`Child::maps`].
const WAITING: u32 = 0;
const WRITTEN: u32 = 1;

/// What the child is told, and what it answers if it fails.
pub(super) struct Child {
    /// What goes into each slot; one without a source is left empty.
    sources: [Option<RawFd>; slots::COUNT as usize],
    image: RawFd,
    id_maps: IdMaps,
    /// A futex: [`WRITTEN`] once the host has written the id maps.
    maps: AtomicU32,
    step: AtomicU32,
    errno: AtomicU32,
    call: AtomicU32,
}

type Action = fn(&Child) -> Result<(), Failed>;

impl Child {
    pub(super) fn new(
        sources: [Option<RawFd>; slots::COUNT as usize],
        image: RawFd,
        id_maps: IdMaps,
    ) -> Self {
        Self {
            sources,
            image,
            id_maps,
            maps: AtomicU32::new(WAITING),
            step: AtomicU32::new(0),
            errno: AtomicU32::new(0),
            call: AtomicU32::new(0),
        }
    }

    /// The step and the call of a failure, once the child is gone.
    pub(super) fn failure(&self) -> Option<(Step, Failed)> {
        // Acquire pairs with the Release of `fail`.
        let step = u8::try_from(self.step.load(Ordering::Acquire)).ok()?;
        let errno = u16::try_from(self.errno.load(Ordering::Relaxed)).ok()?;
        let call = Nr::from_raw(self.call.load(Ordering::Relaxed));
        let failed = Failed(call, Errno::from_raw(errno)?);
        Some((Step::from_number(step)?, failed))
    }

    /// Lets a child go on that waits for its id maps.
    pub(super) fn maps_are_written(&self) {
        // Release pairs with the Acquire of `wait_for_maps`.
        self.maps.store(WRITTEN, Ordering::Release);
        // The only error is a bad address, which ours is not.
        let _ = futex::wake(&self.maps, 1);
    }

    fn fail(&self, step: Step, Failed(call, errno): Failed) -> ! {
        self.errno.store(errno.raw().into(), Ordering::Relaxed);
        self.call.store(call.raw(), Ordering::Relaxed);
        // Release pairs with the Acquire of `failure`: who sees the step also sees the rest.
        self.step.store(step as u32, Ordering::Release);
        exit_group(step as i32)
    }

    fn fill_slots(&self) -> Result<(), Failed> {
        for (slot, source) in (0..).zip(self.sources) {
            match source {
                Some(source) => move_to(source, slot)?,
                None => close_slot(slot)?,
            }
        }
        move_to(self.image, IMAGE_SLOT)?;
        // SAFETY: the table is a copy that only this child uses, and it knows what it needs.
        unsafe {
            close_range(
                IMAGE_SLOT.cast_unsigned() + 1,
                u32::MAX,
                CloseRangeFlags::empty(),
            )
        }
        .called(nr::CLOSE_RANGE)?;
        // SAFETY: `move_to` has just put the image there.
        set_cloexec(unsafe { BorrowedFd::borrow_raw(IMAGE_SLOT) }, true).called(nr::FCNTL)
    }

    /// An exec by a user whom the namespace does not know takes all capabilities away, but for the
    /// ambient ones (capabilities(7)).
    fn keep_powers(&self) -> Result<(), Failed> {
        if self.id_maps != IdMaps::Host {
            return Ok(());
        }
        let mask = KEPT_POWERS.iter().fold(0, |mask, power| mask | power.bit());
        let held = cred::capget().called(nr::CAPGET)?;
        cred::capset_inheritable(held, mask).called(nr::CAPSET)?;
        for power in KEPT_POWERS {
            prctl::raise_ambient(power).called(nr::PRCTL)?;
        }
        Ok(())
    }

    fn settle_id_maps(&self) -> Result<(), Failed> {
        match self.id_maps {
            IdMaps::Nobody => Ok(()),
            IdMaps::Child(map) => ns::write_own_id_maps(map).map_err(Failed::from),
            IdMaps::Host => {
                self.wait_for_maps();
                Ok(())
            }
        }
    }

    /// The host writes or kills: it waits no longer for us than we may take. One that died before
    /// we asked to die with it does neither.
    fn wait_for_maps(&self) {
        // SAFETY: `fill_slots` has put the host's pidfd there.
        let host = unsafe { BorrowedFd::borrow_raw(slots::HOST_PIDFD) };
        // Acquire pairs with the Release of `maps_are_written`.
        while self.maps.load(Ordering::Acquire) == WAITING {
            // AGAIN, INTR, TIMEDOUT: look again.
            let _ = futex::wait(&self.maps, WAITING, Some(HOST_INTERVAL));
            let mut poll = [PollFd::new(host, PollFlags::IN)];
            if io::poll(&mut poll, Some(Timespec::from_nanos(0))).is_ok_and(|ready| ready > 0) {
                exit_group(Step::IdMaps as i32)
            }
        }
    }

    fn execute(&self) -> Errno {
        let argv = [NAME.as_ptr(), ptr::null()];
        let envp = [ptr::null()];
        // SAFETY: `fill_slots` has put the image there.
        let image = unsafe { BorrowedFd::borrow_raw(IMAGE_SLOT) };
        // SAFETY: both arrays end with a null pointer and outlive the call.
        unsafe {
            execveat(
                image,
                c"",
                argv.as_ptr(),
                envp.as_ptr(),
                AtFlags::EMPTY_PATH,
            )
        }
    }
}

/// The child's whole life before exec.
pub(super) extern "C" fn run(data: *mut c_void) -> ! {
    // SAFETY: the parent passes a `Child` that outlives this process' stay in its memory, and
    // reads it only through atomics until then.
    let child = unsafe { &*data.cast::<Child>() };
    // The zygote asks for this too, and looks whether the host lives. Here it closes the time
    // until then: the wish is the task's own and outlives exec.
    let steps: [(Step, Action); 4] = [
        (Step::DeathSignal, |_| {
            prctl::set_pdeathsig(Signal::KILL).called(nr::PRCTL)
        }),
        (Step::Descriptors, Child::fill_slots),
        (Step::Ambient, Child::keep_powers),
        (Step::IdMaps, Child::settle_id_maps),
    ];
    for (step, take) in steps {
        if let Err(failed) = take(child) {
            child.fail(step, failed)
        }
    }
    let errno = child.execute();
    child.fail(Step::Exec, Failed(nr::EXECVEAT, errno))
}

/// Closes whatever the host has under this number.
fn close_slot(slot: RawFd) -> Result<(), Failed> {
    let number = slot.cast_unsigned();
    // SAFETY: the table is a copy that only this child uses, and nothing of its own is there.
    unsafe { close_range(number, number, CloseRangeFlags::empty()) }.called(nr::CLOSE_RANGE)
}

fn move_to(source: RawFd, slot: RawFd) -> Result<(), Failed> {
    // SAFETY: the parent keeps the source open until this child has left its memory, and the
    // child's descriptor table is a copy.
    let source = unsafe { BorrowedFd::borrow_raw(source) };
    // SAFETY: the slot is below every source, and whatever the host had there is not ours.
    unsafe { dup_to(source, slot) }.called(nr::DUP3)
}
