#![expect(unsafe_code, reason = "clones copies of this process")]
//! A copy of this process that lives for one function.

use std::ffi::c_void;
use std::time::{Duration, Instant};

use linux_raw::Errno;
use linux_raw::io::{self, PollFd, PollFlags};
use linux_raw::pidfd;
use linux_raw::process::{self, CloneArgs, CloneFlags, Resource};
use linux_raw::signal::{self, MaskHow, SigAction, SigSet, Signal};
use linux_raw::time::Timespec;

use crate::interrupt::Death;
use crate::process::Process;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, or by a signal.
    Died(Death),
    /// It outlived its time and was killed.
    TimedOut,
}

/// For how many more copies of this process there is time in a life.
const COPIES: u32 = 4;

/// Runs `life` in a copy of this process, made with these arguments, for at most `time`, and longer
/// in a process with a lot of memory. The child ends with the status that `life` returns.
///
/// `life` must not allocate, take a lock or panic: another thread may have held any lock of the
/// C library when the copy was made.
pub(crate) fn run(
    args: CloneArgs<'_>,
    time: Duration,
    life: &dyn Fn() -> u8,
) -> Result<End, Errno> {
    // Else each copy would stay, dead, for as long as this process lives.
    pidfd::may_wait()?;
    // A handler of the embedder's has no business in the copy: all signals are blocked there.
    let args = CloneArgs {
        flags: args.flags | CloneFlags::PIDFD | CloneFlags::CLEAR_SIGHAND,
        // Nothing at its end for the embedder's SIGCHLD handler or wait(2).
        exit_signal: None,
        ..args
    };
    let data = (&raw const life).cast_mut().cast::<c_void>();
    let blocked = signal::sigprocmask(MaskHow::Set, &SigSet::FULL)?;
    let begun = Instant::now();
    // SAFETY: `begin` takes no lock, as `life` promises above; `data` is on this stack, of which
    // the child has a copy; the child drops nothing: it leaves by `exit_group`.
    let cloned = unsafe { process::clone_copy(&args, None, begin, data) };
    signal::sigprocmask(MaskHow::Set, &blocked)?;
    // What takes long to copy takes long to throw away, and `life` may make a copy of its own.
    let time = time + begun.elapsed() * COPIES;
    let cloned = cloned?;
    let pidfd = cloned.pidfd.ok_or(Errno::EBADF)?;
    let child = Process::child(pidfd, cloned.pid.raw());
    wait(&child, Instant::now() + time)
}

extern "C" fn begin(data: *mut c_void) -> ! {
    be_plain();
    // SAFETY: `run` passes the address of a `&dyn Fn() -> u8`, which its copy here holds too.
    let life = unsafe { *data.cast::<&dyn Fn() -> u8>() };
    process::exit_group(life().into())
}

/// Takes back what an embedder may have set for all of its children.
fn be_plain() {
    // SAFETY: the default handler is no code of ours.
    let _ = unsafe { signal::sigaction(Signal::CHLD, &SigAction::DEFAULT) };
    // A filter may kill for what is tried, and this is a copy of all of the embedder's memory. A
    // limit of one byte, not of none, also keeps it from a pipe (fs/coredump.c).
    if let Ok(limit) = process::get_limit(Resource::Core) {
        let _ = process::set_limit(Resource::Core, limit.hard.min(1), limit.hard);
    }
}

fn wait(child: &Process, deadline: Instant) -> Result<End, Errno> {
    loop {
        match child.try_reap() {
            Ok(Some(death)) => return Ok(End::Died(death)),
            Ok(None) | Err(Errno::EINTR) => {}
            // An embedder that waits for all of its children has taken it.
            Err(Errno::ECHILD) => return Ok(End::Died(Death::Unknown)),
            Err(errno) => return Err(errno),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // It is ours and not reaped: the signal arrives, or it has just ended.
            let _ = child.kill();
            child.reap();
            return Ok(End::TimedOut);
        }
        let mut poll = [PollFd::new(child.pidfd(), PollFlags::IN)];
        // An error here is no news of the process; the loop ends at the deadline.
        let _ = io::poll(&mut poll, Some(Timespec::from(left)));
    }
}
