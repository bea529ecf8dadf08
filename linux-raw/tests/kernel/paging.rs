#![expect(unsafe_code, reason = "fills memory that is watched")]
//! Page faults: each kind observed as a signal in a child, and answered by its handler.

use core::sync::atomic::Ordering::SeqCst;
use std::thread;

use linux_raw::io::{PollFd, PollFlags, poll, pwrite};
use linux_raw::memfd::{allocated_bytes, punch_hole, reopen_read_only};
use linux_raw::mm::{Backing, Prot};
use linux_raw::pidfd::WaitStatus;
use linux_raw::socket::{Received, recv_fd, send_fd, socketpair_seqpacket};
use linux_raw::time::Timespec;
use linux_raw::uffd::{self, Features, Modes};
use linux_raw::{AsFd, Errno, OwnedFd};

use crate::child::{Outcome, holds, in_child, must};
use crate::watched::{
    COPY, FAULT_AT, NONE, PAGE, PAGES, RESUME, SOURCE, UNPROTECT, Watched, ZERO, descriptor, map,
    shared,
};

/// Runs a test's body in a child, where there is such a thing at all.
fn where_there_is_one(body: impl FnMut() -> Outcome) {
    match uffd::userfaultfd() {
        Ok(_) => assert_eq!(in_child(body), WaitStatus::Exited(0)),
        Err(errno) => absence::absent("userfaultfd", errno),
    }
}

/// Whether the running kernel is at least 6.4.
fn is_since_6_4() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|other: char| !other.is_ascii_digit());
    let mut number = || numbers.next().unwrap().parse::<u32>().unwrap();
    (number(), number()) >= (6, 4)
}

#[test]
fn a_missing_page_is_answered_with_zeroes_or_a_copy() {
    where_there_is_one(|| {
        let watched = must!(Watched::new(Modes::MISSING));
        holds!(watched.read_by_kernel(0) == Err(Errno::EFAULT));
        holds!(watched.read(0, ZERO) == (0, 1));
        holds!(FAULT_AT.load(SeqCst) == watched.at(0) + 5);
        holds!(watched.read(0, NONE) == (0, 0));
        holds!(watched.write(0, 3, NONE) == 0);
        holds!(watched.read_by_kernel(0).is_ok());
        holds!(watched.read(2, COPY) == (7, 1));
        holds!(watched.write(3, 4, COPY) == 1);
        // All of it is in the file, and nothing else.
        holds!(watched.in_file(0) == Ok(3));
        holds!(watched.in_file(2) == Ok(7));
        holds!(watched.in_file(3) == Ok(4));
        holds!(allocated_bytes(&watched.file) == Ok(3 * PAGE));
        // What was given back is missing again.
        must!(punch_hole(&watched.file, 2 * PAGE, PAGE));
        holds!(watched.read(2, ZERO) == (0, 1));
        Ok(())
    });
}

#[test]
fn filling_stops_at_what_is_there() {
    where_there_is_one(|| {
        let watched = must!(Watched::new(Modes::MISSING));
        holds!(watched.copy(2, 1, false) == Ok(PAGE));
        holds!(watched.copy(0, 4, false) == Ok(2 * PAGE));
        holds!(watched.copy(2, 2, false) == Err(Errno::EEXIST));
        holds!(watched.read(1, NONE) == (7, 0));
        holds!(watched.zero(6, 1) == Ok(PAGE));
        holds!(watched.zero(4, 4) == Ok(2 * PAGE));
        holds!(watched.zero(6, 2) == Err(Errno::EEXIST));
        holds!(watched.read(5, NONE) == (0, 0));
        // No null pointer: some kernels refuse what lies below vm.mmap_min_addr as invalid.
        let hidden = must!(map(Prot::NONE, Backing::Anonymous)).as_ptr();
        // SAFETY: refused, for the source cannot be read.
        let unread = unsafe { uffd::copy(&watched.uffd, watched.at(3), hidden, PAGE, false) };
        holds!(unread == Err(Errno::EFAULT));
        // Nothing was done after the obstacles.
        holds!(watched.read(3, ZERO) == (0, 1));
        holds!(watched.read(7, ZERO) == (0, 1));
        holds!(watched.zero(7, 2) == Err(Errno::ENOENT));
        // SAFETY: refused.
        let unaligned = unsafe { uffd::zero(&watched.uffd, watched.at(0) + 1, PAGE) };
        holds!(unaligned == Err(Errno::EINVAL));
        Ok(())
    });
}

#[test]
fn a_page_that_the_file_has_is_mapped() {
    where_there_is_one(|| {
        let watched = must!(Watched::new(Modes::MISSING | Modes::MINOR));
        for page in [0, 1, 3] {
            must!(pwrite(&watched.file, &[9; 4096], page * PAGE));
        }
        holds!(watched.read(3, RESUME) == (9, 1));
        holds!(watched.resume(0, 4, false) == Ok(2 * PAGE));
        holds!(watched.resume(1, 1, false) == Err(Errno::EEXIST));
        holds!(watched.resume(2, 1, false) == Err(Errno::EFAULT));
        holds!(watched.read(0, NONE) == (9, 0));
        holds!(watched.write(1, 8, NONE) == 0);
        holds!(watched.in_file(1) == Ok(8));
        // The other kind of fault.
        holds!(watched.read(2, COPY) == (7, 1));
        Ok(())
    });
}

#[test]
fn a_write_to_a_protected_page_is_told() {
    let since_6_4 = is_since_6_4();
    where_there_is_one(|| {
        let modes = Modes::MISSING | Modes::MINOR | Modes::WRITE_PROTECT;
        let watched = must!(Watched::new(modes));
        holds!(watched.copy(0, 2, true) == Ok(2 * PAGE));
        holds!(watched.read(0, NONE) == (7, 0));
        holds!(watched.write(0, 1, UNPROTECT) == 1);
        holds!(watched.write(0, 2, NONE) == 0);
        holds!(watched.in_file(0) == Ok(2));
        // Again, and only where it is said.
        must!(watched.write_protect(0, 1, true));
        holds!(watched.read(0, NONE) == (2, 0));
        holds!(watched.write(0, 3, UNPROTECT) == 1);
        must!(watched.write_protect(1, 1, false));
        holds!(watched.write(1, 4, NONE) == 0);
        // A page of the file.
        must!(pwrite(&watched.file, &[9; 4096], 4 * PAGE));
        let resumed = watched.resume(4, 1, true);
        if since_6_4 {
            holds!(resumed == Ok(PAGE));
            holds!(watched.read(4, NONE) == (9, 0));
            holds!(watched.write(4, 5, UNPROTECT) == 1);
            holds!(watched.in_file(4) == Ok(5));
        } else {
            holds!(resumed == Err(Errno::EINVAL));
        }
        // Once more, the same modes are fine; fewer are refused by Linux 7.3.
        must!(watched.register(modes));
        let fewer = watched.register(Modes::MISSING);
        holds!([Ok(()), Err(Errno::EBUSY)].contains(&fewer));
        Ok(())
    });
}

#[test]
fn protection_needs_pages_and_the_mode() {
    where_there_is_one(|| {
        let mut watched = must!(Watched::new(Modes::MISSING));
        holds!(watched.write_protect(0, 1, true) == Err(Errno::ENOENT));
        holds!(watched.copy(0, 1, true) == Err(Errno::EINVAL));
        // Of anonymous memory, what is missing stays unprotected.
        watched.memory = must!(map(Prot::READ | Prot::WRITE, Backing::Anonymous));
        must!(watched.register(Modes::WRITE_PROTECT));
        holds!(watched.write(0, 1, NONE) == 0);
        must!(watched.write_protect(0, 2, true));
        holds!(watched.write(1, 1, NONE) == 0);
        holds!(watched.write(0, 2, UNPROTECT) == 1);
        Ok(())
    });
}

#[test]
fn what_is_watched_no_more_is_the_kernels_again() {
    where_there_is_one(|| {
        let modes = Modes::MISSING | Modes::WRITE_PROTECT;
        let mut watched = must!(Watched::new(modes));
        holds!(watched.copy(0, 1, true) == Ok(PAGE));
        let (uffd, half) = (&watched.uffd, PAGES as u64 / 2);
        // SAFETY: no Rust object lives in the mapping.
        must!(unsafe { uffd::unregister(uffd, watched.at(0), half * PAGE) });
        holds!(watched.write(0, 1, NONE) == 0);
        holds!(watched.read(1, NONE) == (0, 0));
        holds!(watched.zero(2, 1) == Err(Errno::ENOENT));
        holds!(watched.read(4, COPY) == (7, 1));
        // The descriptor's end is the end of it.
        watched.uffd = must!(descriptor());
        holds!(watched.read(5, NONE) == (0, 0));
        Ok(())
    });
}

#[test]
fn what_cannot_be_watched_is_refused() {
    where_there_is_one(|| {
        let bare = must!(uffd::userfaultfd());
        let unknown = Features::from_bits_retain(1 << 60);
        holds!(uffd::enable(&bare, unknown) == Err(Errno::EINVAL));
        must!(uffd::enable(&bare, Features::SIGBUS));
        holds!(uffd::enable(&bare, Features::SIGBUS) == Err(Errno::EINVAL));

        let mut watched = must!(Watched::new(Modes::MISSING));
        holds!(watched.register(Modes::empty()) == Err(Errno::EINVAL));
        let own = core::mem::replace(&mut watched.uffd, must!(descriptor()));
        holds!(watched.register(Modes::MISSING) == Err(Errno::EBUSY));
        drop(own);
        must!(watched.register(Modes::MISSING));
        // A mapping that can never become writable.
        let reader = must!(reopen_read_only(&watched.file));
        watched.memory = must!(map(Prot::READ, shared(&reader)));
        holds!(watched.register(Modes::MISSING) == Err(Errno::EPERM));
        // One that could.
        watched.memory = must!(map(Prot::READ, shared(&watched.file)));
        must!(watched.register(Modes::MISSING));
        holds!(watched.read(0, COPY) == (7, 1));
        Ok(())
    });
}

/// Receives a message, but does not wait for ever: the other process may have failed.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<Received, Errno> {
    let mut ready = [PollFd::new(socket.as_fd(), PollFlags::IN)];
    match poll(&mut ready, Some(Timespec::from_millis(10_000)))? {
        0 => Err(Errno::ETIMEDOUT),
        _ => recv_fd(socket, buffer),
    }
}

#[test]
fn another_process_memory_is_filled() {
    let (near, far) = socketpair_seqpacket().unwrap();
    thread::scope(|scope| {
        let child = scope.spawn(|| {
            where_there_is_one(|| {
                let watched = must!(Watched::new(Modes::MISSING));
                let address = watched.at(0).to_ne_bytes();
                must!(send_fd(&far, &address, Some(watched.uffd.as_fd())));
                must!(receive(&far, &mut [0; 8]));
                holds!(watched.read(0, NONE) == (7, 0));
                holds!(watched.read(1, NONE) == (0, 0));
                holds!(watched.read(2, ZERO) == (0, 1));
                Ok(())
            });
        });
        if uffd::userfaultfd().is_err() {
            return;
        }
        let mut address = [0; 8];
        let uffd = receive(&near, &mut address).unwrap().fd.unwrap();
        let address = u64::from_ne_bytes(address);
        let source = SOURCE.as_ptr();
        // SAFETY: the memory is another process', and the source longer than a page.
        let copied = unsafe { uffd::copy(&uffd, address, source, PAGE, false) };
        assert_eq!(copied, Ok(PAGE));
        // SAFETY: the memory is another process'.
        assert_eq!(unsafe { uffd::zero(&uffd, address + PAGE, PAGE) }, Ok(PAGE));
        send_fd(&near, b"go", None).unwrap();
        child.join().unwrap();
        // SAFETY: the memory was another process'.
        let late = unsafe { uffd::zero(&uffd, address + 4 * PAGE, PAGE) };
        assert_eq!(late, Err(Errno::ESRCH));
        // SAFETY: as above.
        let late = unsafe { uffd::write_protect(&uffd, address, PAGE, false) };
        assert_eq!(late, Err(Errno::ESRCH));
        // SAFETY: as above.
        let late = unsafe { uffd::register(&uffd, address, PAGE, Modes::MISSING) };
        assert_eq!(late, Err(Errno::ENOMEM));
        // SAFETY: as above.
        let late = unsafe { uffd::unregister(&uffd, address, PAGE) };
        assert_eq!(late, Err(Errno::ENOMEM));
    });
}
