#![expect(unsafe_code, reason = "replaces and closes descriptors by number")]
//! Descriptors, reading and writing, waiting, passing.

use core::ffi::CStr;

use linux_raw::fd::{CloseRangeFlags, close_range, dup_cloexec_min, dup_to, set_cloexec};
use linux_raw::io::{OpenFlags, PollFd, PollFlags, open, poll, read, write};
use linux_raw::memfd::{MemfdFlags, memfd_create, reopen_read_only};
use linux_raw::pidfd::WaitStatus;
use linux_raw::process::{Resource, get_limit, set_limit};
use linux_raw::socket::{recv_fd, send_fd, socketpair_seqpacket, try_recv_fd};
use linux_raw::time::{Timespec, monotonic};
use linux_raw::{AsFd, BorrowedFd, Errno, OwnedFd, RawFd};

use crate::child::{holds, in_child, must};

const NULL_DEVICE: &CStr = c"/dev/null";

/// Whether a number is open, asked without touching what is behind it.
fn is_open(fd: RawFd) -> bool {
    // SAFETY: the number is only asked about; nothing relies on it staying open.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    dup_cloexec_min(fd, 0).is_ok()
}

#[test]
fn a_descriptor_closes_when_dropped() {
    // In a child, where no other thread opens descriptors meanwhile.
    let status = in_child(|| {
        let file = must!(open(NULL_DEVICE, OpenFlags::RDWR | OpenFlags::CLOEXEC));
        let number = file.as_raw();
        holds!(is_open(number));
        let copy = must!(dup_cloexec_min(&file, 0));
        holds!(copy.as_raw() != number);
        drop(file);
        holds!(!is_open(number));
        let number = copy.into_raw();
        holds!(is_open(number));
        // SAFETY: `into_raw` just gave it up.
        drop(unsafe { OwnedFd::from_raw(number) });
        holds!(!is_open(number));
        Ok(())
    });
    assert_eq!(status, WaitStatus::Exited(0));
}

#[test]
fn duplicates_go_where_they_are_told() {
    let status = in_child(|| {
        let file = must!(open(NULL_DEVICE, OpenFlags::WRONLY | OpenFlags::CLOEXEC));
        let high = must!(dup_cloexec_min(&file, 100));
        holds!(high.as_raw() >= 100);
        // SAFETY: nobody owns 200 in this child.
        must!(unsafe { dup_to(&file, 200) });
        holds!(is_open(200));
        // SAFETY: as above; nothing happens.
        let onto_itself = unsafe { dup_to(&high, high.as_raw()) };
        holds!(onto_itself == Err(Errno::EINVAL));
        must!(set_cloexec(&high, false));
        let gone = CloseRangeFlags::UNSHARE;
        // SAFETY: nothing that is used below is above 100, and `high` is forgotten.
        must!(unsafe { close_range(100, u32::MAX, gone) });
        holds!(!is_open(200));
        holds!(!is_open(high.as_raw()));
        core::mem::forget(high);
        holds!(is_open(file.as_raw()));
        // SAFETY: an empty range closes nothing.
        let backwards = unsafe { close_range(9, 8, CloseRangeFlags::empty()) };
        holds!(backwards == Err(Errno::EINVAL));
        Ok(())
    });
    assert_eq!(status, WaitStatus::Exited(0));
}

#[test]
fn opening_says_why_not() {
    let absent = open(c"/proc/self/there-is-no-such-file", OpenFlags::RDONLY);
    assert_eq!(absent.unwrap_err(), Errno::ENOENT);
    let no_directory = open(c"/dev/null/file", OpenFlags::RDONLY);
    assert_eq!(no_directory.unwrap_err(), Errno::ENOTDIR);
}

#[test]
fn a_limit_of_descriptors_holds() {
    let status = in_child(|| {
        let before = must!(get_limit(Resource::Files));
        must!(set_limit(Resource::Files, 0, before.hard));
        holds!(must!(get_limit(Resource::Files)).soft == 0);
        let refused = open(NULL_DEVICE, OpenFlags::RDONLY);
        holds!(refused.err() == Some(Errno::EMFILE));
        holds!(set_limit(Resource::Files, 2, 1) == Err(Errno::EINVAL));
        Ok(())
    });
    assert_eq!(status, WaitStatus::Exited(0));
}

#[test]
fn waiting_finds_what_is_ready_or_gives_up() {
    let (near, far) = socketpair_seqpacket().unwrap();
    let mut fds = [
        PollFd::new(near.as_fd(), PollFlags::IN),
        PollFd::new(near.as_fd(), PollFlags::OUT),
    ];
    let [reading, _] = &mut fds;
    let before = monotonic();
    let nothing = poll(
        core::slice::from_mut(reading),
        Some(Timespec::from_millis(5)),
    );
    assert_eq!(nothing, Ok(0));
    assert!((monotonic() - before).as_millis() >= 5);
    assert_eq!(poll(&mut fds, None), Ok(1));
    assert_eq!(fds[1].found(), PollFlags::OUT);
    assert_eq!(write(&far, b"turn"), Ok(4));
    assert_eq!(poll(&mut fds, None), Ok(2));
    assert_eq!(fds[0].found(), PollFlags::IN);
    let mut bytes = [0; 16];
    assert_eq!(read(&near, &mut bytes), Ok(4));
    assert_eq!(&bytes[..4], b"turn");
    drop(far);
    assert_eq!(poll(&mut fds[..1], None), Ok(1));
    assert!(fds[0].found().contains(PollFlags::HUP));
    assert_eq!(read(&near, &mut bytes), Ok(0));
}

#[test]
fn a_descriptor_travels_with_its_message() {
    let (near, far) = socketpair_seqpacket().unwrap();
    let file = memfd_create(c"sent", MemfdFlags::CLOEXEC).unwrap();
    write(&file, b"from the other side").unwrap();
    assert_eq!(send_fd(&near, b"here", Some(file.as_fd())), Ok(4));
    drop(file);
    let mut bytes = [0; 16];
    let received = recv_fd(&far, &mut bytes).unwrap();
    assert_eq!(&bytes[..received.bytes], b"here");
    let from_its_start = reopen_read_only(received.fd.unwrap()).unwrap();
    let mut content = [0; 32];
    let length = read(&from_its_start, &mut content).unwrap();
    assert_eq!(&content[..length], b"from the other side");

    assert_eq!(send_fd(&near, b"alone", None), Ok(5));
    let received = recv_fd(&far, &mut bytes).unwrap();
    assert_eq!(received.bytes, 5);
    assert!(received.fd.is_none());
}

#[test]
fn a_message_that_has_not_come_is_not_waited_for() {
    let (near, far) = socketpair_seqpacket().unwrap();
    let mut bytes = [0; 16];
    let nothing = try_recv_fd(&far, &mut bytes);
    assert_eq!(nothing.unwrap_err(), Errno::EAGAIN);
    assert_eq!(send_fd(&near, b"here", Some(near.as_fd())), Ok(4));
    let received = try_recv_fd(&far, &mut bytes).unwrap();
    assert_eq!(&bytes[..received.bytes], b"here");
    // It is the other end.
    assert_eq!(write(received.fd.unwrap(), b"again"), Ok(5));
    assert_eq!(try_recv_fd(&far, &mut bytes).unwrap().bytes, 5);
    let nothing = try_recv_fd(&far, &mut bytes);
    assert_eq!(nothing.unwrap_err(), Errno::EAGAIN);
    drop(near);
    // Other tests' children may have a copy of it for a moment.
    poll(&mut [PollFd::new(far.as_fd(), PollFlags::IN)], None).unwrap();
    let end = try_recv_fd(&far, &mut bytes).unwrap();
    assert!(end.bytes == 0 && end.fd.is_none());
}

#[test]
fn a_message_that_does_not_fit_is_lost_and_its_descriptor_closed() {
    let status = in_child(|| {
        let (near, far) = must!(socketpair_seqpacket());
        must!(send_fd(&near, b"too long", Some(near.as_fd())));
        let next_free = must!(dup_cloexec_min(&near, 0));
        let number = next_free.as_raw();
        drop(next_free);
        let lost = recv_fd(&far, &mut [0; 3]);
        holds!(lost.err() == Some(Errno::EMSGSIZE));
        holds!(!is_open(number));
        drop(near);
        let end = must!(recv_fd(&far, &mut [0; 3]));
        holds!(end.bytes == 0 && end.fd.is_none());
        holds!(send_fd(&far, b"x", None) == Err(Errno::EPIPE));
        Ok(())
    });
    assert_eq!(status, WaitStatus::Exited(0));
}
