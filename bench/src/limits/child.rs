#![expect(unsafe_code, reason = "clones processes that share a word")]
//! A copy of this process that does one small thing with a word that both share.

use std::ffi::c_void;
use std::sync::atomic::AtomicU32;

use linux_raw::fd::{AsFd as _, OwnedFd};
use linux_raw::mm::Backing;
use linux_raw::pidfd::{WaitFlags, pidfd_send_signal, waitid_pidfd};
use linux_raw::prctl::set_pdeathsig;
use linux_raw::process::{CloneArgs, CloneFlags, clone_copy, exit_group};
use linux_raw::signal::Signal;

use crate::measure::Failure;
use crate::window::{Window, file};

/// A word in memory that children share.
pub(super) struct Word {
    window: Window,
}

impl Word {
    /// A new one, zero.
    pub(super) fn new() -> Result<Self, Failure> {
        let file = file(1)?;
        let (fd, offset) = (file.as_fd(), 0);
        let window = Window::map(1, Backing::Shared { fd, offset })?;
        Ok(Self { window })
    }

    /// To wait on and to change.
    pub(super) fn get(&self) -> &AtomicU32 {
        let address = self.window.page(0).cast();
        // SAFETY: the page is mapped, aligned and used as atomic words alone, as long as `self`.
        unsafe { AtomicU32::from_ptr(address) }
    }
}

/// What a child does: system calls and atomic accesses, no locks, nothing on the heap.
pub(super) type Body = fn(&AtomicU32);

/// What a child is told; it reads its own copy.
struct Errand<'word> {
    word: &'word AtomicU32,
    body: Body,
}

extern "C" fn run(errand: *mut c_void) -> ! {
    // SAFETY: `Child::new` passes an `Errand`, of which the child has a copy.
    let errand = unsafe { &*errand.cast::<Errand<'_>>() };
    (errand.body)(errand.word);
    exit_group(0)
}

/// Ends this child along with the thread that made it.
pub(super) fn die_with_the_parent() {
    let _ = set_pdeathsig(Signal::KILL);
}

/// A child that runs, or has ended by itself.
pub(super) struct Child {
    pidfd: OwnedFd,
}

impl Child {
    /// Clones one.
    pub(super) fn new(word: &AtomicU32, body: Body) -> Result<Self, Failure> {
        let args = CloneArgs {
            flags: CloneFlags::PIDFD,
            exit_signal: Some(Signal::CHLD),
            ..CloneArgs::default()
        };
        let errand = Errand { word, body };
        let data = (&raw const errand).cast_mut().cast();
        // SAFETY: a `Body` waits for no lock and touches nothing but the shared word; errand and
        // word are mapped in the copy, and the child ends without dropping anything.
        let cloned = unsafe { clone_copy(&args, None, run, data) };
        let pidfd = cloned.map_err(|failed| failed.to_string())?.pidfd;
        let pidfd = pidfd.ok_or("the kernel gave no descriptor of a child")?;
        Ok(Self { pidfd })
    }

    /// Waits until it has ended by itself.
    pub(super) fn wait(&self) -> Result<(), Failure> {
        waitid_pidfd(&self.pidfd, WaitFlags::default())?;
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Neither finds anything where it has ended and been waited for.
        let _ = pidfd_send_signal(&self.pidfd, Some(Signal::KILL));
        let _ = waitid_pidfd(&self.pidfd, WaitFlags::default());
    }
}
