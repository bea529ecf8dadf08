#![expect(
    unsafe_code,
    reason = "runs in a process that shares the host's memory"
)]
//! What the child does between clone and exec, in the host's memory.
//!
//! It allocates nothing, takes no lock, panics nowhere and calls nothing that acts on the memory
//! it shares (`PR_SET_DUMPABLE` here would change the *host*). Signals are blocked: the keeper
//! thread has them blocked, and its handlers are cleared by the clone.

use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use linux_raw::fd::{BorrowedFd, CloseRangeFlags, RawFd, close_range, dup_to, set_cloexec};
use linux_raw::process::{AtFlags, execveat, exit_group, getegid, geteuid};
use linux_raw::signal::Signal;
use linux_raw::{Errno, ns, prctl};
use vmctx::{Step, slots};

/// The descriptor of the zygote's image, right above the slots.
const IMAGE_SLOT: RawFd = slots::COUNT;
const NAME: &CStr = c"cellwall-worker";
/// The user and group that the worker is, inside: root of a namespace without powers. An exec by
/// an unmapped user would lose the capabilities that the lock-down needs.
const INNER_ID: u32 = 0;

/// What the child is told, and what it answers if it fails.
pub(super) struct Child {
    sources: [RawFd; slots::COUNT as usize],
    image: RawFd,
    outer_uid: u32,
    outer_gid: u32,
    step: AtomicU32,
    errno: AtomicU32,
}

impl Child {
    pub(super) fn new(sources: [RawFd; slots::COUNT as usize], image: RawFd) -> Self {
        Self {
            sources,
            image,
            outer_uid: geteuid(),
            outer_gid: getegid(),
            step: AtomicU32::new(0),
            errno: AtomicU32::new(0),
        }
    }

    /// The step that failed, once the child is gone.
    pub(super) fn failure(&self) -> Option<(Step, Errno)> {
        let step = u8::try_from(self.step.load(Ordering::Acquire)).ok()?;
        let errno = u16::try_from(self.errno.load(Ordering::Relaxed)).ok()?;
        Some((Step::from_number(step)?, Errno::from_raw(errno)?))
    }

    fn fail(&self, step: Step, errno: Errno) -> ! {
        self.errno.store(errno.raw().into(), Ordering::Relaxed);
        // Release pairs with the Acquire of `failure`: who sees the step also sees the errno.
        self.step.store(step as u32, Ordering::Release);
        exit_group(step as i32)
    }

    fn fill_slots(&self) -> Result<(), Errno> {
        for (slot, source) in (0..).zip(self.sources) {
            move_to(source, slot)?;
        }
        move_to(self.image, IMAGE_SLOT)?;
        // SAFETY: the table is a copy that only this child uses, and it knows what it needs.
        unsafe {
            close_range(
                IMAGE_SLOT.cast_unsigned() + 1,
                u32::MAX,
                CloseRangeFlags::empty(),
            )
        }?;
        // SAFETY: `move_to` has just put the image there.
        set_cloexec(unsafe { BorrowedFd::borrow_raw(IMAGE_SLOT) }, true)
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
    if let Err(errno) = prctl::set_pdeathsig(Signal::KILL) {
        child.fail(Step::DeathSignal, errno)
    }
    if let Err(errno) = child.fill_slots() {
        child.fail(Step::Descriptors, errno)
    }
    let maps = ns::write_id_maps(INNER_ID, child.outer_uid, INNER_ID, child.outer_gid);
    if let Err(error) = maps {
        child.fail(Step::IdMaps, error.errno)
    }
    let errno = child.execute();
    child.fail(Step::Exec, errno)
}

fn move_to(source: RawFd, slot: RawFd) -> Result<(), Errno> {
    // SAFETY: the parent keeps the source open until this child has left its memory, and the
    // child's descriptor table is a copy.
    let source = unsafe { BorrowedFd::borrow_raw(source) };
    // SAFETY: the slot is below every source, and whatever the host had there is not ours.
    unsafe { dup_to(source, slot) }
}
