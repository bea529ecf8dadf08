#![expect(unsafe_code, reason = "runs a test's body in a copy of this process")]
//! A body that runs in a child of its own, and says where it failed.
//!
//! The test process has threads, so the child may not allocate, panic or print: it writes the line
//! and the error number into a shared page.

use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use linux_raw::mm::{Backing, MapFlags, Placement, Prot, mmap, munmap};
use linux_raw::pidfd::{WaitFlags, WaitStatus, waitid_pidfd};
use linux_raw::process::{CloneArgs, CloneFlags, clone_copy, exit_group};
use linux_raw::signal::Signal;
use linux_raw::{Errno, OwnedFd};

/// Where a child's body failed, and with what.
pub(crate) struct Failed {
    pub(crate) line: u32,
    pub(crate) errno: Option<Errno>,
}

/// What a child's body answers.
pub(crate) type Outcome = Result<(), Failed>;

/// The value of a call that must succeed, in a child.
macro_rules! must {
    ($call:expr) => {
        match $call {
            Ok(value) => value,
            Err(error) => {
                return Err(crate::child::Failed {
                    line: line!(),
                    errno: Some(error.into()),
                });
            }
        }
    };
}

/// What must hold, in a child.
macro_rules! holds {
    ($condition:expr) => {
        if !$condition {
            return Err(crate::child::Failed {
                line: line!(),
                errno: None,
            });
        }
    };
}

pub(crate) use {holds, must};

/// What the child gets: its body, and where to report.
struct Errand<'run> {
    body: Option<&'run mut dyn FnMut() -> Outcome>,
    line: *const AtomicU32,
    errno: *const AtomicU32,
}

extern "C" fn run(errand: *mut c_void) -> ! {
    // SAFETY: `spawn` passes an `Errand`, of which the child has a copy to itself.
    let errand = unsafe { &mut *errand.cast::<Errand<'_>>() };
    let code = match errand.body.as_mut().map(|body| body()) {
        Some(Ok(())) => 0,
        Some(Err(failed)) => {
            // SAFETY: the shared page is mapped in the copy too.
            unsafe { &*errand.line }.store(failed.line, Relaxed);
            let errno = failed.errno.map_or(0, |errno| errno.raw().into());
            // SAFETY: as above.
            unsafe { &*errand.errno }.store(errno, Relaxed);
            101
        }
        None => 102,
    };
    exit_group(code)
}

/// Runs a body in a child and answers how that ended; fails the test if the body says where.
pub(crate) fn in_child(mut body: impl FnMut() -> Outcome) -> WaitStatus {
    let page = shared_page();
    let words = page.cast::<AtomicU32>();
    let mut errand = Errand {
        body: Some(&mut body),
        line: words,
        errno: words.wrapping_add(1),
    };
    let pidfd = start(run, (&raw mut errand).cast());
    let status = waitid_pidfd(&pidfd, WaitFlags::default()).unwrap().unwrap();
    // SAFETY: the page is ours, zeroed, and the only other writer has ended.
    let line = unsafe { &*words }.load(Relaxed);
    // SAFETY: as above.
    let errno = unsafe { &*words.wrapping_add(1) }.load(Relaxed);
    // SAFETY: nobody uses the page after this.
    unsafe { munmap(page.addr(), 4096) }.unwrap();
    let errno = u16::try_from(errno).ok().and_then(Errno::from_raw);
    assert_eq!(line, 0, "the child failed at that line: {errno:?}");
    status
}

/// Starts a copy of this process in `entry`.
pub(crate) fn start(entry: extern "C" fn(*mut c_void) -> !, data: *mut c_void) -> OwnedFd {
    let args = CloneArgs {
        flags: CloneFlags::PIDFD,
        exit_signal: Some(Signal::CHLD),
        ..CloneArgs::default()
    };
    // SAFETY: the entries in these tests take no lock, and end in `exit_group`.
    let child = unsafe { clone_copy(&args, None, entry, data) }.unwrap();
    child.pidfd.unwrap()
}

/// A zeroed page that children share.
pub(crate) fn shared_page() -> *mut u8 {
    // SAFETY: a new mapping replaces nothing.
    let page = unsafe {
        mmap(
            Placement::Anywhere,
            4096,
            Prot::READ | Prot::WRITE,
            Backing::SharedAnonymous,
            MapFlags::empty(),
        )
    };
    page.unwrap().as_ptr()
}
