#![expect(
    unsafe_code,
    reason = "clones a process that shares our memory until it executes"
)]
//! Starting a process of the zygote's, worker or nursery: a vfork-style clone in seven new
//! namespaces, then `execveat`.
//!
//! Not `CLONE_VFORK`, which waits without a bound, but `CLONE_CHILD_CLEARTID`: the kernel clears a
//! word and wakes us when the child leaves our memory, by exec or by its end.

mod child;

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use linux_raw::Errno;
use linux_raw::called::Failed;
use linux_raw::fd::{AsFd, OwnedFd, dup_cloexec_min};
use linux_raw::futex;
use linux_raw::mm::{self, Advice, Backing, MapFlags, Placement, Prot};
use linux_raw::nr;
use linux_raw::ns::{self, IdMap};
use linux_raw::pidfd::{self, PidfdFlags};
use linux_raw::process::{self, CloneArgs, CloneBy, CloneFlags, Stack};
use linux_raw::signal::{self, MaskHow, SigSet, Signal};
use linux_raw::time::Timespec;
use vmctx::{Step, Tier, slots};

use self::child::{Child, IdMaps};
use crate::deadline::time_left;
use crate::error::{Blame, Error, KernelResult, Stage};
use crate::identity::Identity;
use crate::probe::Feature;
use crate::process::Process;
use crate::ways::Ways;
use crate::wishes::Wishes;

/// Stack for the child until it executes, without its guard page, in bytes.
const STACK_BYTES: usize = 64 * 1024;
const GUARD_BYTES: usize = 4096;
/// How long a killed child may take to leave our memory.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// The slot of the host's pidfd.
const HOST_PIDFD: usize = slots::HOST_PIDFD as usize;

/// The call of [`above_slots`].
const DUP: &str = "fcntl(F_DUPFD_CLOEXEC)";

/// The search for a child that `/proc` does not show.
pub(crate) const NOT_IN_PROC: &str = "find the worker in /proc";

const NAMESPACES: CloneFlags = CloneFlags::NEWUSER
    .union(CloneFlags::NEWNS)
    .union(CloneFlags::NEWPID)
    .union(CloneFlags::NEWNET)
    .union(CloneFlags::NEWIPC)
    .union(CloneFlags::NEWUTS)
    .union(CloneFlags::NEWCGROUP);

/// What one process starts with besides what all share.
pub(crate) struct Start {
    /// What goes into each slot ([`vmctx::slots`]); the host's pidfd is put into its own.
    pub(crate) slots: [Option<OwnedFd>; SLOTS],
    pub(crate) timeout: Duration,
}

/// How many slots there are.
pub(crate) const SLOTS: usize = slots::COUNT as usize;

impl Start {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            slots: [const { None }; SLOTS],
            timeout,
        }
    }

    /// Puts a descriptor into a slot.
    pub(crate) fn with(mut self, slot: i32, fd: OwnedFd) -> Self {
        let place = usize::try_from(slot).ok();
        if let Some(place) = place.and_then(|slot| self.slots.get_mut(slot)) {
            *place = Some(fd);
        }
        self
    }
}

/// What all workers of an engine start with.
pub(crate) struct Spawner {
    zygote: OwnedFd,
    host: OwnedFd,
    stack: ChildStack,
    tier: Tier,
    identity: Identity,
    /// Where the processes are born, if that is not where the host is.
    cgroup: Option<OwnedFd>,
    ways: Arc<Ways>,
    #[cfg(cellwall_layer_switch)]
    left_out: vmctx::LayerSet,
}

impl Spawner {
    pub(crate) fn new(
        zygote: OwnedFd,
        host: OwnedFd,
        cgroup: Option<OwnedFd>,
        wishes: &Wishes,
        ways: &Arc<Ways>,
    ) -> Result<Self, Error> {
        Ok(Self {
            zygote: above_slots(zygote).at(Stage::Start, DUP)?,
            host: above_slots(host).at(Stage::Start, DUP)?,
            stack: ChildStack::new()?,
            tier: wishes.tier(),
            identity: wishes.identity(),
            cgroup,
            ways: Arc::clone(ways),
            #[cfg(cellwall_layer_switch)]
            left_out: wishes.left_out(),
        })
    }

    /// Lets workers look whether *this* thread lives, which is the one that the kernel kills them
    /// with: while a process ends, its threads end one after the other, and a worker whose thread
    /// is gone already would still see the process and never hear of its end.
    ///
    /// Before Linux 6.9 there is no descriptor of a thread, and they look at the process.
    pub(crate) fn watched_by_this_thread(mut self) -> Self {
        if self.ways.may_use(Feature::PidfdThread) {
            let thread = process::gettid()
                .and_then(|thread| pidfd::pidfd_open(thread, PidfdFlags::THREAD))
                .and_then(above_slots);
            match thread {
                Ok(thread) => self.host = thread,
                Err(errno) => self.ways.lack_from_now_on(Feature::PidfdThread, errno),
            }
        }
        self
    }

    pub(crate) fn ways(&self) -> &Arc<Ways> {
        &self.ways
    }

    /// Starts a worker and gives it back once it runs the zygote. Its lock-down goes on.
    ///
    /// The calling thread is the one whose end kills the worker.
    pub(crate) fn spawn(&self, start: Start) -> Result<Process, Error> {
        self.ways.still_hold()?;
        let mut sources = [None; SLOTS];
        let mut moved = [const { None }; SLOTS];
        for ((source, moved), fd) in sources.iter_mut().zip(&mut moved).zip(start.slots) {
            let above = fd.map(above_slots).transpose();
            *moved = above.at(Stage::Start, DUP)?;
            *source = moved.as_ref().map(OwnedFd::as_raw);
        }
        sources[HOST_PIDFD] = Some(self.host.as_raw());
        let child = Child::new(sources, self.zygote.as_raw(), self.id_maps());
        self.clone_and_wait(&child, start.timeout)
    }

    fn namespaces(&self) -> CloneFlags {
        let flags = match self.tier {
            Tier::WithoutNamespaces => CloneFlags::empty(),
            _ => NAMESPACES,
        };
        #[cfg(cellwall_layer_switch)]
        let flags = crate::layer_switch::kept_namespaces(flags, self.left_out);
        flags
    }

    /// The one user and group of the worker's namespace: its user 0, so that an exec keeps the
    /// powers over the namespace that the lock-down needs and then gives up.
    fn id_map(&self) -> IdMap {
        IdMap {
            inner_uid: 0,
            outer_uid: self.identity.uid,
            inner_gid: 0,
            outer_gid: self.identity.gid,
        }
    }

    fn id_maps(&self) -> IdMaps {
        let is_inside = self.namespaces().contains(CloneFlags::NEWUSER);
        match (is_inside, self.identity.is_another) {
            (false, _) => IdMaps::Nobody,
            (true, true) => IdMaps::Host,
            (true, false) => IdMaps::Child(self.id_map()),
        }
    }

    fn clone_and_wait(&self, child: &Child, timeout: Duration) -> Result<Process, Error> {
        let inside = AtomicU32::new(1);
        // Without an exit signal until it executes; exec makes it SIGCHLD (fs/exec.c, de_thread).
        let args = CloneArgs {
            flags: self.namespaces() | CloneFlags::PIDFD | CloneFlags::CLEAR_SIGHAND,
            cleared: Some(&inside),
            cgroup: self.cgroup.as_ref().map(AsFd::as_fd),
            by: self.ways.clones_by(),
            ..CloneArgs::default()
        };
        let data = std::ptr::from_ref(child).cast_mut().cast::<c_void>();
        let blocked = AllBlocked::new().at(Stage::Start, "rt_sigprocmask")?;
        // SAFETY: the stack is mapped while `self` lives and used by one child at a time, since
        // we wait below until it has left. `child` and `inside` outlive that wait too: it ends
        // the process rather than return while the child is still inside.
        let cloned = unsafe { process::clone_vm(&args, self.stack.whole(), child::run, data) };
        let cloned = cloned.map_err(|failed| self.clone_refused(failed))?;
        // From here on nothing returns or panics before the child has left: it runs on our
        // memory. A kernel that made no pidfd leaves no other way than to end.
        let Some(pidfd) = cloned.pidfd else {
            std::process::abort()
        };
        let mapped = self.write_id_maps(child, &pidfd);
        let in_time = mapped.is_ok() && has_left(&inside, timeout);
        if !in_time {
            let _ = pidfd::pidfd_send_signal(&pidfd, Some(Signal::KILL));
            if !has_left(&inside, KILL_TIMEOUT) {
                // A child that survives SIGKILL still runs on memory that we are about to reuse.
                std::process::abort();
            }
        }
        drop(blocked);
        if cloned.call != nr::CLONE3 && self.ways.may_use(Feature::Clone3) {
            self.ways.lack_from_now_on(Feature::Clone3, Errno::ENOSYS);
        }
        let failure = match (child.failure(), mapped) {
            // Nobody maps a child that has ended: its own failure came first.
            (Some((step, failed)), _) => Some(refused(Stage::Lockdown(step), failed)),
            (None, Err(error)) => Some(error),
            (None, Ok(())) if in_time => None,
            (None, Ok(())) => Some(too_late(timeout)),
        };
        if let Some(error) = failure {
            crate::process::reap_child(&pidfd);
            return Err(error);
        }
        Ok(Process::child(pidfd, cloned.pid.raw()))
    }

    fn clone_refused(&self, failed: Failed) -> Error {
        let stage = Stage::Start;
        if failed == Failed(nr::CLONE3, Errno::ENOSYS)
            && self.ways.clones_by() == CloneBy::Clone3
            && let Err(error) = self.ways.lack(stage, Feature::Clone3, Errno::ENOSYS)
        {
            return error;
        }
        refused(stage, failed)
    }

    /// Writes the id maps of a child that may not write them itself, and tells it.
    fn write_id_maps(&self, child: &Child, pidfd: &OwnedFd) -> Result<(), Error> {
        if self.id_maps() != IdMaps::Host {
            return Ok(());
        }
        let stage = Stage::Lockdown(Step::IdMaps);
        // Not the number that the clone answered: /proc may be of a pid namespace around ours,
        // and there that is another process'.
        let shown = pidfd::number_in_proc(pidfd).map_err(|failed| refused(stage, failed))?;
        let shown = shown.ok_or(Errno::ESRCH).at(stage, NOT_IN_PROC)?;
        // The number is the child's: it is ours to reap, and nobody has.
        ns::write_id_maps_of(shown, self.id_map()).map_err(|error| refused(stage, error.into()))?;
        child.maps_are_written();
        Ok(())
    }
}

/// All signals blocked in this thread, until it is dropped.
///
/// Around a clone also those of the C library, which the engine's thread takes otherwise: their
/// handlers would run in the child, on memory that it shares. Whoever changes the user of all
/// threads meanwhile waits for the child to leave, which is bounded.
struct AllBlocked(SigSet);

impl AllBlocked {
    fn new() -> Result<Self, Errno> {
        signal::sigprocmask(MaskHow::Set, &SigSet::FULL).map(Self)
    }
}

impl Drop for AllBlocked {
    fn drop(&mut self) {
        // This cannot fail: the set was this thread's before.
        let _ = signal::sigprocmask(MaskHow::Set, &self.0);
    }
}

fn refused(stage: Stage, Failed(call, errno): Failed) -> Error {
    Error::kernel(stage, call.name(), errno)
}

fn too_late(timeout: Duration) -> Error {
    let milliseconds = timeout.as_millis();
    let what = "execute the zygote";
    Error {
        stage: Stage::Start,
        blame: Blame::Timeout { what, milliseconds },
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
fn above_slots(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    if fd.as_raw() > slots::COUNT {
        return Ok(fd);
    }
    dup_cloexec_min(fd.as_fd(), slots::COUNT + 1)
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
        for advice in [Advice::DontDump, Advice::DontFork] {
            // SAFETY: the range is the mapping above, and nothing is on it yet.
            unsafe { mm::madvise(base.addr().get(), bytes, advice) }
                .at(Stage::Engine, "madvise")?;
        }
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
