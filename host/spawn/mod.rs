#![expect(
    unsafe_code,
    reason = "clones a process that shares our memory until it executes"
)]
//! Starting a worker directly: a vfork-style clone in seven new namespaces, then `execveat`.
//!
//! Not `CLONE_VFORK`, which waits without a bound, but `CLONE_CHILD_CLEARTID`: the kernel clears a
//! word and wakes us when the child leaves our memory, by exec or by its end.

mod child;

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use linux_raw::fd::{AsFd, OwnedFd, dup_cloexec_min};
use linux_raw::mm::{self, Backing, MapFlags, Placement, Prot};
use linux_raw::process::{self, CloneArgs, CloneFlags, Stack};
use linux_raw::signal::Signal;
use linux_raw::time::Timespec;
use linux_raw::{futex, pidfd};
use vmctx::{Step, slots};

use self::child::Child;
use crate::deadline::time_left;
use crate::error::{Blame, Error, KernelResult, Stage};
use crate::module::Module;
use crate::turn::WorkerEnds;

/// Stack for the child until it executes, without its guard page, in bytes.
const STACK_BYTES: usize = 64 * 1024;
const GUARD_BYTES: usize = 4096;
/// How long a killed child may take to leave our memory.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

const NAMESPACES: CloneFlags = CloneFlags::NEWUSER
    .union(CloneFlags::NEWNS)
    .union(CloneFlags::NEWPID)
    .union(CloneFlags::NEWNET)
    .union(CloneFlags::NEWIPC)
    .union(CloneFlags::NEWUTS)
    .union(CloneFlags::NEWCGROUP);

/// What one worker starts with besides what all share.
pub(crate) struct Start {
    pub(crate) ends: WorkerEnds,
    pub(crate) memory: OwnedFd,
    pub(crate) module: Module,
    pub(crate) timeout: Duration,
}

/// A started worker.
pub(crate) struct Process {
    /// For people and their tools. Nothing here acts on it: numbers are used again.
    pub(crate) id: u32,
    pub(crate) pidfd: OwnedFd,
}

/// What all workers of an engine start with.
pub(crate) struct Spawner {
    zygote: OwnedFd,
    host: OwnedFd,
    stack: ChildStack,
}

impl Spawner {
    pub(crate) fn new(zygote: OwnedFd, host: OwnedFd) -> Result<Self, Error> {
        Ok(Self {
            zygote: above_slots(zygote)?,
            host: above_slots(host)?,
            stack: ChildStack::new()?,
        })
    }

    /// Starts a worker and gives it back once it runs the zygote. Its lock-down goes on.
    ///
    /// The calling thread is the one whose end kills the worker.
    pub(crate) fn spawn(&self, start: Start) -> Result<Process, Error> {
        let host_page = above_slots(start.ends.host_page)?;
        let shared_pages = above_slots(start.ends.shared_pages)?;
        let memory = above_slots(start.memory)?;
        let module = dup_cloexec_min(start.module.fd(), slots::COUNT + 1)
            .at(Stage::Start, "fcntl(F_DUPFD_CLOEXEC)")?;
        let mut sources = [-1; slots::COUNT as usize];
        for (slot, fd) in [
            (slots::HOST_PAGE, &host_page),
            (slots::SHARED_PAGES, &shared_pages),
            (slots::MEMORY, &memory),
            (slots::MODULE, &module),
            (slots::HOST_PIDFD, &self.host),
        ] {
            sources[usize::try_from(slot).unwrap_or(usize::MAX)] = fd.as_raw();
        }
        let child = Child::new(sources, self.zygote.as_raw());
        self.clone_and_wait(&child, start.timeout)
    }

    fn clone_and_wait(&self, child: &Child, timeout: Duration) -> Result<Process, Error> {
        let inside = AtomicU32::new(1);
        // Without an exit signal until it executes; exec makes it SIGCHLD (fs/exec.c, de_thread).
        let args = CloneArgs {
            flags: NAMESPACES | CloneFlags::PIDFD | CloneFlags::CLEAR_SIGHAND,
            cleared: Some(&inside),
            ..CloneArgs::default()
        };
        let data = std::ptr::from_ref(child).cast_mut().cast::<c_void>();
        // SAFETY: the stack is mapped while `self` lives and used by one child at a time, since
        // we wait below until it has left. `child` and `inside` outlive that wait too: it ends
        // the process rather than return while the child is still inside.
        let cloned = unsafe { process::clone_vm(&args, self.stack.whole(), child::run, data) };
        let cloned = cloned.at(Stage::Start, "clone3")?;
        // From here on nothing returns or panics before the child has left: it runs on our
        // memory. A kernel that made no pidfd leaves no other way than to end.
        let Some(pidfd) = cloned.pidfd else {
            std::process::abort()
        };
        let in_time = has_left(&inside, timeout);
        if !in_time {
            let _ = pidfd::pidfd_send_signal(&pidfd, Some(Signal::KILL));
            if !has_left(&inside, KILL_TIMEOUT) {
                // A child that survives SIGKILL still runs on memory that we are about to reuse.
                std::process::abort();
            }
        }
        match child.failure() {
            Some((step, errno)) => {
                crate::worker::reap(&pidfd);
                Err(Error::kernel(
                    Stage::Lockdown(step),
                    child_call(step),
                    errno,
                ))
            }
            None if in_time => Ok(Process {
                id: cloned.pid.raw(),
                pidfd,
            }),
            None => {
                crate::worker::reap(&pidfd);
                let milliseconds = timeout.as_millis();
                let blame = Blame::Timeout {
                    what: "execute the zygote",
                    milliseconds,
                };
                Err(Error {
                    stage: Stage::Start,
                    blame,
                })
            }
        }
    }
}

/// What advice knows a step of the child by.
fn child_call(step: Step) -> &'static str {
    match step {
        Step::Exec => "execveat",
        step => step.name(),
    }
}

/// Waits until the kernel clears the word, at most for `timeout`.
fn has_left(inside: &AtomicU32, timeout: Duration) -> bool {
    // A timeout beyond what the clock can say is none.
    let deadline = Instant::now().checked_add(timeout);
    // Acquire pairs with the kernel's store after the child's last access to our memory.
    while inside.load(Ordering::Acquire) != 0 {
        let left = time_left(deadline);
        if left.is_zero() {
            return false;
        }
        // AGAIN, INTR and TIMEDOUT all mean: look again.
        let _ = futex::wait(inside, 1, Some(Timespec::from(left)));
    }
    true
}

/// The same descriptor under a number that no slot has, so that filling the slots in the child
/// replaces none of the sources.
fn above_slots(fd: OwnedFd) -> Result<OwnedFd, Error> {
    if fd.as_raw() > slots::COUNT {
        return Ok(fd);
    }
    dup_cloexec_min(fd.as_fd(), slots::COUNT + 1).at(Stage::Start, "fcntl(F_DUPFD_CLOEXEC)")
}

/// A stack with a guard page below it.
struct ChildStack(NonNull<u8>);

// SAFETY: it is an address range that this value owns.
unsafe impl Send for ChildStack {}

impl ChildStack {
    fn new() -> Result<Self, Error> {
        let bytes = GUARD_BYTES + STACK_BYTES;
        let prot = Prot::READ | Prot::WRITE;
        // SAFETY: the kernel chooses a free place, so nothing of ours is replaced.
        let base = unsafe {
            mm::mmap(
                Placement::Anywhere,
                bytes,
                prot,
                Backing::Anonymous,
                MapFlags::empty(),
            )
        }
        .at(Stage::Engine, "mmap")?;
        let stack = Self(base);
        // SAFETY: the page is the lowest of the mapping above, and nothing is on it yet.
        unsafe { mm::mprotect(base.addr().get(), GUARD_BYTES, Prot::empty()) }
            .at(Stage::Engine, "mprotect")?;
        Ok(stack)
    }

    fn whole(&self) -> Stack {
        // SAFETY: the mapping is `GUARD_BYTES + STACK_BYTES` long.
        let base = unsafe { self.0.add(GUARD_BYTES) };
        Stack {
            base,
            bytes: STACK_BYTES,
        }
    }
}

impl Drop for ChildStack {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and no child is on it: each was waited for.
        let _ = unsafe { mm::munmap(self.0.addr().get(), GUARD_BYTES + STACK_BYTES) };
    }
}
