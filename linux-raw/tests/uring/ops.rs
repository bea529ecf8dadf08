//! Each operation, on a real pipe or file.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::time::{Duration, Instant};

use linux_raw::Errno;
use linux_raw::io::PollFlags;
use linux_raw::memfd::{MemfdFlags, memfd_create};
use linux_raw::time::{Timespec, monotonic};
use linux_raw::uring::op::{self, Fd, Position, TimeoutFlags};
use linux_raw::uring::{Setup, Sqe, SqeFlags};

use crate::{index, lend, next, pipe, push, read_now, ring, run, write_now};

const HERE: Position = Position::Current;

/// A read into all of `into`.
///
/// # Safety
///
/// As for [`op::read`].
unsafe fn read(fd: Fd, into: &mut [u8], at: Position) -> Sqe {
    let bytes = into.len().try_into().unwrap();
    // SAFETY: the caller keeps the slice until the completion is reaped.
    unsafe { op::read(fd, into.as_mut_ptr(), bytes, at) }
}

/// An empty file that nobody else can open.
fn scratch_file() -> File {
    let fd = memfd_create(c"uring-test", MemfdFlags::CLOEXEC).unwrap();
    // SAFETY: nobody else owns the descriptor any more.
    unsafe { std::os::fd::FromRawFd::from_raw_fd(fd.into_raw()) }
}

#[test]
fn pipes() {
    let Some(mut ring) = ring(Setup::new(8)) else {
        return;
    };
    let (reader, writer) = pipe();
    let (source, sink) = (Fd::new(&lend(&reader)), Fd::new(&lend(&writer)));
    let mut into = [0; 8];
    assert_eq!(write_now(&mut ring, sink, b"hello", HERE), Ok(5));
    assert_eq!(read_now(&mut ring, source, &mut into, HERE), Ok(5));
    assert_eq!(&into, b"hello\0\0\0");

    // The wrong ends.
    assert_eq!(
        read_now(&mut ring, sink, &mut into, HERE),
        Err(Errno::EBADF)
    );
    // No writer left: the end, again and again.
    drop(writer);
    for _ in 0..2 {
        assert_eq!(read_now(&mut ring, source, &mut into, HERE), Ok(0));
    }
    // No reader left. The signal is ignored, as Rust programs have it.
    let (reader, writer) = pipe();
    drop(reader);
    assert_eq!(
        write_now(&mut ring, Fd::new(&lend(&writer)), b"x", HERE),
        Err(Errno::EPIPE)
    );
}

#[test]
fn files_and_their_positions() {
    let Some(mut ring) = ring(Setup::new(8)) else {
        return;
    };
    let mut file = scratch_file();
    let fd = Fd::new(&lend(&file));
    let mut into = [0; 4];
    assert_eq!(write_now(&mut ring, fd, b"0123456789", HERE), Ok(10));
    assert_eq!(file.stream_position().unwrap(), 10);
    assert_eq!(read_now(&mut ring, fd, &mut into, HERE), Ok(0));
    assert_eq!(read_now(&mut ring, fd, &mut into, Position::At(3)), Ok(4));
    assert_eq!((&into, file.stream_position().unwrap()), (b"3456", 10));
    file.rewind().unwrap();
    assert_eq!(read_now(&mut ring, fd, &mut into, HERE), Ok(4));
    assert_eq!((&into, file.stream_position().unwrap()), (b"0123", 4));
    assert_eq!(write_now(&mut ring, fd, b"xy", Position::At(8)), Ok(2));
    let mut rest = String::new();
    file.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "4567xy");
    // No spelling of "the file's own position" by accident.
    let last = Position::At(u64::MAX);
    assert_eq!(read_now(&mut ring, fd, &mut into, last), Err(Errno::EINVAL));
}

#[test]
fn timeouts() {
    let Some(mut ring) = ring(Setup::new(8)) else {
        return;
    };
    let soon = Timespec::from_millis(20);
    let late = Timespec::from_millis(60_000);
    let span = TimeoutFlags::empty();
    let before = Instant::now();
    // SAFETY: `soon` lives longer than the submission, and so do all times below.
    let relative = unsafe { op::timeout(&soon, 0, span) };
    assert_eq!(run(&mut ring, [relative]), [Err(Errno::ETIME)]);
    assert!(before.elapsed() >= Duration::from_millis(20));

    let point = Timespec::from(monotonic() + Duration::from_millis(20));
    let before = Instant::now();
    // SAFETY: as above.
    let absolute = unsafe { op::timeout(&point, 0, TimeoutFlags::ABS) };
    assert_eq!(run(&mut ring, [absolute]), [Err(Errno::ETIME)]);
    assert!(before.elapsed() >= Duration::from_millis(15));
    assert!(before.elapsed() < Duration::from_secs(30));

    // Ended by other completions.
    // SAFETY: as above.
    let counting = unsafe { op::timeout(&late, 2, span) };
    assert_eq!(run(&mut ring, [counting, op::nop(), op::nop()]), [Ok(0); 3]);

    // Removed.
    // SAFETY: as above.
    let removed = unsafe { op::timeout(&late, 0, span) };
    let results = run(&mut ring, [removed, op::timeout_remove(1)]);
    assert_eq!(results, [Err(Errno::ECANCELED), Ok(0)]);
    assert_eq!(
        run(&mut ring, [op::timeout_remove(1)]),
        [Err(Errno::ENOENT)]
    );
}

#[test]
fn no_time_is_negative() {
    let Some(mut ring) = ring(Setup::new(8)) else {
        return;
    };
    let nonsense = Timespec {
        seconds: -1,
        nanos: 0,
    };
    let span = TimeoutFlags::empty();
    // SAFETY: `nonsense` lives longer than the submission.
    let refused = unsafe { op::timeout(&nonsense, 0, span) };
    assert_eq!(run(&mut ring, [refused]), [Err(Errno::EINVAL)]);
}

#[test]
fn polls() {
    let Some(mut ring) = ring(Setup::new(8)) else {
        return;
    };
    let (reader, mut writer) = pipe();
    let (source, sink) = (Fd::new(&lend(&reader)), Fd::new(&lend(&writer)));
    let found = |result: Result<u32, Errno>| {
        PollFlags::from_bits_retain(result.unwrap().try_into().unwrap())
    };
    let [room] = run(&mut ring, [op::poll_add(sink, PollFlags::OUT)]);
    assert_eq!(found(room), PollFlags::OUT);

    // Not ready, then ready.
    push(&mut ring, [op::poll_add(source, PollFlags::IN)]);
    assert_eq!(
        ring.submit_and_wait(1, Some(Timespec::from_millis(20))),
        Ok(0)
    );
    writer.write_all(b"x").unwrap();
    assert_eq!(found(next(&mut ring).result()), PollFlags::IN);

    // Removed before it was ready.
    let (other, _writer) = pipe();
    let other = Fd::new(&lend(&other));
    let results = run(
        &mut ring,
        [op::poll_add(other, PollFlags::IN), op::poll_remove(1)],
    );
    assert_eq!(results, [Err(Errno::ECANCELED), Ok(0)]);
    assert_eq!(run(&mut ring, [op::poll_remove(1)]), [Err(Errno::ENOENT)]);

    drop(writer);
    let [hung_up] = run(&mut ring, [op::poll_add(source, PollFlags::empty())]);
    assert_eq!(found(hung_up), PollFlags::HUP);
}

#[test]
fn a_blocked_read_is_cancelled() {
    let Some(mut ring) = ring(Setup::new(8)) else {
        return;
    };
    let (reader, mut writer) = pipe();
    let source = Fd::new(&lend(&reader));
    let mut into = [0; 4];
    for flags in [SqeFlags::empty(), SqeFlags::ASYNC] {
        // SAFETY: its completion is reaped at the end of the loop.
        push(
            &mut ring,
            [unsafe { read(source, &mut into, HERE) }.with_flags(flags)],
        );
        assert_eq!(
            ring.submit_and_wait(1, Some(Timespec::from_millis(20))),
            Ok(0)
        );
        ring.push(op::async_cancel(1).with_user_data(2)).unwrap();
        let mut results = [None; 2];
        while results.contains(&None) {
            let cqe = next(&mut ring);
            results[index(&cqe)] = Some(cqe.result());
        }
        match results {
            [Some(Err(Errno::ECANCELED)), Some(Ok(0))]
            // It was on a thread of its own, which was interrupted.
            | [Some(Err(Errno::EINTR | Errno::ECANCELED)), Some(Err(Errno::EALREADY))] => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(run(&mut ring, [op::async_cancel(77)]), [Err(Errno::ENOENT)]);
    // Nothing was taken from the pipe.
    writer.write_all(b"abcd").unwrap();
    assert_eq!(read_now(&mut ring, source, &mut into, HERE), Ok(4));
    assert_eq!(&into, b"abcd");
}

#[test]
fn a_linked_timeout_cancels() {
    let Some(mut ring) = ring(Setup::new(8)) else {
        return;
    };
    let (reader, mut writer) = pipe();
    let source = Fd::new(&lend(&reader));
    let mut into = [0; 4];
    let time = Timespec::from_millis(20);
    let before = Instant::now();
    // SAFETY: `run` waits for the completions, here and below.
    let blocked = unsafe { read(source, &mut into, HERE) }.with_flags(SqeFlags::IO_LINK);
    // SAFETY: `time` outlives the submission, here and below.
    let limit = unsafe { op::link_timeout(&time, TimeoutFlags::empty()) };
    let [blocked, limit] = run(&mut ring, [blocked, limit]);
    assert!(
        matches!(blocked, Err(Errno::ECANCELED | Errno::EINTR)),
        "{blocked:?}"
    );
    assert_eq!(limit, Err(Errno::ETIME));
    assert!(before.elapsed() >= Duration::from_millis(20));

    writer.write_all(b"ab").unwrap();
    // SAFETY: as above.
    let ready = unsafe { read(source, &mut into, HERE) }.with_flags(SqeFlags::IO_LINK);
    // SAFETY: as above.
    let limit = unsafe { op::link_timeout(&time, TimeoutFlags::empty()) };
    assert_eq!(
        run(&mut ring, [ready, limit]),
        [Ok(2), Err(Errno::ECANCELED)]
    );
}

#[test]
fn a_broken_link_cancels_what_follows() {
    let Some(mut ring) = ring(Setup::new(8)) else {
        return;
    };
    let fails = || op::timeout_remove(99);
    let soft = run(
        &mut ring,
        [fails().with_flags(SqeFlags::IO_LINK), op::nop()],
    );
    assert_eq!(soft, [Err(Errno::ENOENT), Err(Errno::ECANCELED)]);
    let hard = run(
        &mut ring,
        [fails().with_flags(SqeFlags::IO_HARDLINK), op::nop()],
    );
    assert_eq!(hard, [Err(Errno::ENOENT), Ok(0)]);
}
