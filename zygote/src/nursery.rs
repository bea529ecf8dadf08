#![expect(
    unsafe_code,
    reason = "clones itself, and owns descriptors by their numbers"
)]
//! The nursery: takes requests from the ring and clones workers. No guest ever runs in it.
//!
//! What it reads in the ring is the host's, and yet it checks each word: one that a worker had got
//! hold of must open nothing.

use core::mem;
use core::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};

use linux_raw::called::{Called as _, Failed};
use linux_raw::fd::{self, BorrowedFd, CloseRangeFlags, OwnedFd, RawFd};
use linux_raw::mm::{self, Advice};
use linux_raw::pidfd::{self, WaitFlags, WaitStatus};
use linux_raw::process::{self, CloneArgs, CloneBy, CloneFlags, Resource};
use linux_raw::seccomp::{self, InstallFlags};
use linux_raw::signal::Signal;
use linux_raw::{Errno, futex, io, nr, prctl, socket};
use vmctx::ring::{READY, Request, Ring, WORKERS_MAX};
use vmctx::{Options, Step, map, slots};

use crate::last_words::die;
use crate::lockdown::{Files, Wall};
use crate::{address, entry};
use cellwall_zygote::policy;

/// Serves requests for ever. The kernel ends it with the host, and its workers with it: it is the
/// init of their pid namespace.
///
/// # Safety
///
/// To be called once, on the nursery's own stack, with a wall that lies on another.
pub(crate) unsafe extern "C" fn serve(wall: *const Wall) -> ! {
    // SAFETY: the caller says so, and nobody has written there since.
    let wall = unsafe { wall.read() };
    if let Err(Failed(call, errno)) = settle() {
        die(Step::Ready, call, errno)
    }
    if let Err(Failed(call, errno)) = filter(&wall) {
        die(Step::Seccomp, call, errno)
    }
    let ring = ring();
    let mut seen = READY;
    answer(ring, seen, Ok(()));
    loop {
        // Acquire pairs with the Release of the host's `ask_by_number`: the words are there.
        let request = ring.host.request.load(Acquire);
        if request == seen || request == 0 {
            // AGAIN and INTR: look again. There is no timeout: the host's death ends us.
            let _ = futex::wait(&ring.host.request, request, None);
            continue;
        }
        seen = request;
        answer(ring, seen, serve_one(ring, &wall, seen));
    }
}

/// Nobody but this process has the ring, its stack and its own pages, so that a worker has nothing
/// to unmap; and as many descriptors as the host's limit allows.
fn settle() -> Result<(), Failed> {
    let own = [
        &map::RING,
        &map::NURSERY_STACK,
        &(map::SHARED.start..map::HOST_PAGE.end),
    ];
    for span in own {
        // SAFETY: the span is mapped, and a worker has no use for it.
        unsafe {
            mm::madvise(
                address::of(span.start),
                address::length(span),
                Advice::DontFork,
            )
        }
        .called(nr::MADVISE)?;
    }
    let files = process::get_limit(Resource::Files).called(nr::PRLIMIT64)?;
    process::set_limit(Resource::Files, files.hard, files.hard).called(nr::PRLIMIT64)?;
    prctl::set_name(c"cellwall-nursery").called(nr::PRCTL)
}

/// Forbids what neither we nor our workers need. Not where a forbidden call is to be reported: of
/// two filters the one that kills wins.
fn filter(wall: &Wall) -> Result<(), Failed> {
    if wall.has(Options::REPORT_CALLS) {
        return Ok(());
    }
    seccomp::install(policy::NURSERY_FILTER.as_slice(), InstallFlags::empty()).called(nr::SECCOMP)
}

fn ring() -> &'static Ring {
    // SAFETY: `boot` has mapped the page in a nursery, for the life of the process. All of its
    // words are atomics.
    unsafe { &*core::ptr::with_exposed_provenance::<Ring>(address::of(map::RING.start)) }
}

fn answer(ring: &Ring, request: u32, done: Result<(), Failed>) {
    let line = &ring.nursery;
    let (call, errno) = match done {
        Ok(()) => (0, 0),
        Err(Failed(call, errno)) => (call.raw(), u32::from(errno.raw())),
    };
    line.call.store(call, Relaxed);
    line.errno.store(errno, Relaxed);
    // SeqCst, as the host's `Ring::wait`: either we see that it sleeps, or it sees the answer; and
    // with that the words above.
    line.answer.store(request, SeqCst);
    if ring.host.sleeps.load(SeqCst) != 0 {
        let _ = futex::wake(&line.answer, 1);
    }
}

fn serve_one(ring: &Ring, wall: &Wall, request: u32) -> Result<(), Failed> {
    let host = &ring.host;
    let what = Request::from_number(host.what.load(Relaxed));
    let place = host.place.load(Relaxed);
    match what.ok_or(Failed(nr::FUTEX, Errno::EBADMSG))? {
        Request::Spawn => spawn(ring, wall, place),
        Request::Adopt => adopt(number(place)?, request),
        Request::Close => close(number(place)?),
        Request::Send => send(fresh(place)?, request),
        Request::Reap => reap(ring),
        Request::Kill => kill(fresh(place)?),
    }
}

/// The number of a descriptor that the host has handed over, or is about to.
fn number(word: u32) -> Result<RawFd, Failed> {
    within(word, &slots::nursery::ADOPTED)
}

/// The number of one that has just been made.
fn fresh(word: u32) -> Result<RawFd, Failed> {
    within(word, &slots::nursery::FRESH)
}

fn within(word: u32, range: &core::ops::Range<RawFd>) -> Result<RawFd, Failed> {
    let number = RawFd::try_from(word).ok();
    number
        .filter(|number| range.contains(number))
        .ok_or(Failed(nr::FCNTL, Errno::EBADMSG))
}

/// Clones a worker. It shares our descriptors until it closes all of them for itself, so that its
/// userfaultfd is in our table too.
fn spawn(ring: &Ring, wall: &Wall, place: u32) -> Result<(), Failed> {
    if place >= WORKERS_MAX {
        return Err(Failed(nr::CLONE3, Errno::EBADMSG));
    }
    let host = &ring.host;
    let code = host.code.load(Relaxed);
    let files = Files {
        memory: number(host.memory.load(Relaxed))?,
        module: number(host.module.load(Relaxed))?,
        code: if code == 0 { -1 } else { number(code)? },
    };
    forget_fresh()?;
    leave_wall(&wall.of_nursed(files), place)?;
    let args = CloneArgs {
        flags: CloneFlags::FILES | CloneFlags::PIDFD,
        exit_signal: Some(Signal::CHLD),
        // A host that insists on `clone3` has made us by it, and no filter has come since that
        // forbids it.
        by: if wall.has(Options::OLD_CLONE) {
            CloneBy::Clone
        } else {
            CloneBy::Either
        },
        ..CloneArgs::default()
    };
    // It is a number, in the room of a pointer.
    let place = core::ptr::without_provenance_mut(address::of(place.into()));
    // SAFETY: there is no other thread. The child has no stack, and its entry wants none. What the
    // two share are descriptors, and those have no owner here.
    let cloned = unsafe { process::clone_copy(&args, None, entry::start_worker, place) }?;
    let pidfd = cloned
        .pidfd
        .ok_or(Failed(nr::CLONE3, Errno::EPROTO))?
        .into_raw();
    ring.nursery.pid.store(cloned.pid.raw(), Relaxed);
    ring.nursery.pidfd.store(pidfd.cast_unsigned(), Relaxed);
    Ok(())
}

/// Puts the wall onto the stack that a worker will have, where `entry::start_worker` finds it. We
/// share no memory with a worker, and what it got a copy of it would have to unmap.
fn leave_wall(wall: &Wall, place: u32) -> Result<(), Failed> {
    // SAFETY: the host has put the file there, and it stays.
    let pages = unsafe { BorrowedFd::borrow_raw(slots::nursery::SHARED_PAGES) };
    let offset = u64::from(place) * map::SHARED_BYTES + map::shared_offset(entry::WALL);
    let (from, bytes) = (
        core::ptr::from_ref(wall).cast::<u8>(),
        mem::size_of::<Wall>(),
    );
    // SAFETY: these are the wall's bytes, which nobody writes.
    match unsafe { io::pwrite_from(pages, from, bytes, offset) }.called(nr::PWRITE64)? {
        written if written == bytes => Ok(()),
        _ => Err(Failed(nr::PWRITE64, Errno::EIO)),
    }
}

/// Closes what the worker before has left for the host to fetch.
fn forget_fresh() -> Result<(), Failed> {
    let range = slots::nursery::FRESH;
    // SAFETY: the host asks for nothing new before it has fetched these.
    unsafe {
        fd::close_range(
            range.start.cast_unsigned(),
            (range.end - 1).cast_unsigned(),
            CloseRangeFlags::empty(),
        )
    }
    .called(nr::CLOSE_RANGE)
}

fn adopt(number: RawFd, request: u32) -> Result<(), Failed> {
    // SAFETY: the host has put the socket there, and it stays.
    let host = unsafe { BorrowedFd::borrow_raw(slots::nursery::SOCKET) };
    let mut message = [0; 4];
    let fd = loop {
        let received = socket::try_recv_fd(host, &mut message).called(nr::RECVMSG)?;
        if received.bytes == 0 {
            return Err(Failed(nr::RECVMSG, Errno::ECONNRESET));
        }
        // What could not be received when it was its turn is still there, and is nobody's now.
        if u32::from_ne_bytes(message) == request {
            break received.fd.ok_or(Failed(nr::RECVMSG, Errno::EPROTO))?;
        }
    };
    // SAFETY: numbers of this range are the host's to give, and what was there is not used.
    unsafe { fd::dup_to(&fd, number) }.called(nr::DUP3)
}

fn close(number: RawFd) -> Result<(), Failed> {
    // SAFETY: the host has handed it over, and takes it back.
    drop(unsafe { OwnedFd::from_raw(number) });
    Ok(())
}

/// For a host that may not fetch it.
fn send(number: RawFd, request: u32) -> Result<(), Failed> {
    // SAFETY: the host has put the socket there, and it stays.
    let host = unsafe { BorrowedFd::borrow_raw(slots::nursery::SOCKET) };
    // SAFETY: a fresh descriptor is open until the next worker is asked for.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    match socket::send_fd(host, &request.to_ne_bytes(), Some(fd)).called(nr::SENDMSG)? {
        4 => Ok(()),
        _ => Err(Failed(nr::SENDMSG, Errno::EIO)),
    }
}

/// Ends a worker that the host has not been able to take over: it must not live on in a place that
/// another will have.
fn kill(number: RawFd) -> Result<(), Failed> {
    // SAFETY: a fresh descriptor is open until the next worker is asked for.
    let worker = unsafe { BorrowedFd::borrow_raw(number) };
    pidfd::pidfd_send_signal(worker, Some(Signal::KILL)).called(nr::PIDFD_SEND_SIGNAL)?;
    pidfd::waitid_pidfd(worker, WaitFlags::ALL).called(nr::WAITID)?;
    Ok(())
}

/// Tells of the workers that have ended.
fn reap(ring: &Ring) -> Result<(), Failed> {
    let mut count = 0;
    for end in &ring.ends {
        let (pid, status) = match pidfd::waitid_any(WaitFlags::NOHANG | WaitFlags::ALL) {
            Ok(Some(ended)) => ended,
            // Nobody has ended, or nobody is there.
            Ok(None) | Err(Errno::ECHILD) => break,
            Err(errno) => return Err(Failed(nr::WAITID, errno)),
        };
        let (signal, status) = match status {
            WaitStatus::Exited(status) => (0, status),
            WaitStatus::Killed { signal, .. } => (signal.raw(), 0),
        };
        end.pid.store(pid.raw(), Relaxed);
        end.signal.store(signal, Relaxed);
        end.status.store(status.cast_unsigned(), Relaxed);
        count += 1;
    }
    ring.nursery.count.store(count, Relaxed);
    Ok(())
}
