//! Transfers: one suite, run over a ring and plainly.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use linux_raw::io::OpenFlags;
use linux_raw::time::monotonic;
use linux_raw::uring::Transfer;
use linux_raw::{AsFd, Errno, OwnedFd, arch, nr};

use crate::{allowed, fill, lend, pipe, set_nonblocking};

/// What a deadline may be overrun by on a busy machine.
const SLACK: Duration = Duration::from_secs(10);

/// Runs a test over a ring, and plainly.
pub(crate) fn both_ways(test: impl Fn(&mut dyn FnMut() -> Transfer)) {
    test(&mut Transfer::plain);
    if allowed(Transfer::uring()).is_some() {
        test(&mut || Transfer::uring().unwrap());
    }
}

pub(crate) fn in_millis(millis: u64) -> Option<Duration> {
    Some(monotonic() + Duration::from_millis(millis))
}

/// Checks that `transfer` ends with `ETIME` when `millis` have passed.
fn is_late(millis: u64, transfer: impl FnOnce(Option<Duration>) -> Result<usize, Errno>) {
    let before = Instant::now();
    assert_eq!(transfer(in_millis(millis)), Err(Errno::ETIME));
    let took = before.elapsed();
    assert!(took >= Duration::from_millis(millis), "too early: {took:?}");
    assert!(
        took < Duration::from_millis(millis) + SLACK,
        "too late: {took:?}"
    );
}

#[test]
fn kinds() {
    assert_eq!(Transfer::plain().kind(), "plain");
    assert_eq!(Transfer::plain().plain_because(), None);
    let preferred = Transfer::new();
    match Transfer::uring() {
        Ok(transfer) => assert_eq!(
            (transfer.kind(), preferred.kind()),
            ("io_uring", "io_uring")
        ),
        Err(errno) => {
            absence::absent("io_uring", errno);
            assert_eq!(
                (preferred.kind(), preferred.plain_because()),
                ("plain", Some(errno))
            );
        }
    }
}

#[test]
fn pipes() {
    both_ways(|make| {
        let mut transfer = make();
        for nonblocking in [false, true] {
            let (reader, writer) = pipe();
            set_nonblocking(&reader, nonblocking);
            set_nonblocking(&writer, nonblocking);
            let mut into = [0; 16];
            for deadline in [None, in_millis(60_000), Some(Duration::ZERO)] {
                assert_eq!(
                    transfer.write(lend(&writer), b"twelve bytes", deadline),
                    Ok(12)
                );
                assert_eq!(
                    transfer.read(lend(&reader), &mut into[..6], deadline),
                    Ok(6)
                );
                assert_eq!(
                    transfer.read(lend(&reader), &mut into[6..], deadline),
                    Ok(6)
                );
                assert_eq!(&into, b"twelve bytes\0\0\0\0");
            }
            assert_eq!(
                transfer.read(lend(&writer), &mut into, None),
                Err(Errno::EBADF)
            );
            assert_eq!(transfer.write(lend(&reader), b"x", None), Err(Errno::EBADF));
            drop(writer);
            assert_eq!(transfer.read(lend(&reader), &mut into, None), Ok(0));
            assert_eq!(
                transfer.read(lend(&reader), &mut into, in_millis(60_000)),
                Ok(0)
            );
            let (reader, writer) = pipe();
            drop(reader);
            assert_eq!(transfer.write(lend(&writer), b"x", None), Err(Errno::EPIPE));
            assert_eq!(
                transfer.write(lend(&writer), b"x", in_millis(60_000)),
                Err(Errno::EPIPE)
            );
        }
    });
}

#[test]
fn files_keep_one_position() {
    both_ways(|make| {
        let mut transfer = make();
        let mut file = tempfile();
        assert_eq!(transfer.write(lend(&file), b"0123456789", None), Ok(10));
        assert_eq!(file.stream_position().unwrap(), 10);
        file.write_all(b"abc").unwrap();
        assert_eq!(transfer.write(lend(&file), b"de", in_millis(60_000)), Ok(2));
        file.rewind().unwrap();
        let mut into = [0; 12];
        assert_eq!(transfer.read(lend(&file), &mut into[..8], None), Ok(8));
        let mut byte = [0];
        file.read_exact(&mut byte).unwrap();
        assert_eq!((&into[..8], &byte), (&b"01234567"[..], b"8"));
        assert_eq!(
            transfer.read(lend(&file), &mut into, in_millis(60_000)),
            Ok(6)
        );
        assert_eq!(&into[..6], b"9abcde");
        assert_eq!(transfer.read(lend(&file), &mut into, None), Ok(0));
        assert_eq!(transfer.read(lend(&file), &mut [], None), Ok(0));
    });
}

#[test]
fn devices_sockets_and_directories() {
    both_ways(|make| {
        let mut transfer = make();
        let mut into = [1; 64];
        let null = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .unwrap();
        assert_eq!(transfer.write(lend(&null), &into, None), Ok(64));
        assert_eq!(
            transfer.read(lend(&null), &mut into, in_millis(60_000)),
            Ok(0)
        );
        let zero = File::open("/dev/zero").unwrap();
        assert_eq!(transfer.read(lend(&zero), &mut into, None), Ok(64));
        assert_eq!(into, [0; 64]);
        let directory = File::open("/").unwrap();
        assert_eq!(
            transfer.read(lend(&directory), &mut into, None),
            Err(Errno::EISDIR)
        );

        let (near, far) = UnixStream::pair().unwrap();
        for nonblocking in [false, true] {
            near.set_nonblocking(nonblocking).unwrap();
            is_late(20, |deadline| {
                transfer.read(lend(&near), &mut into, deadline)
            });
            assert_eq!(
                transfer.write(lend(&near), b"ping", in_millis(60_000)),
                Ok(4)
            );
            assert_eq!(transfer.read(lend(&far), &mut into, None), Ok(4));
            assert_eq!(&into[..4], b"ping");
        }
        drop(far);
        assert_eq!(transfer.read(lend(&near), &mut into, None), Ok(0));
        assert_eq!(transfer.write(lend(&near), b"x", None), Err(Errno::EPIPE));
    });
}

#[test]
fn terminals() {
    both_ways(|make| {
        let (master, slave) = match terminal() {
            Ok(pair) => pair,
            Err(errno) => return absence::absent("terminal", errno),
        };
        let mut transfer = make();
        let mut into = [0; 64];
        is_late(20, |deadline| {
            transfer.read(slave.as_fd(), &mut into, deadline)
        });
        is_late(20, |deadline| {
            transfer.read(slave.as_fd(), &mut into, deadline)
        });
        // A line, as typed: nothing of it went to the reads that were too late.
        assert_eq!(
            transfer.write(master.as_fd(), b"line\n", in_millis(60_000)),
            Ok(5)
        );
        assert_eq!(
            transfer.read(slave.as_fd(), &mut into, in_millis(60_000)),
            Ok(5)
        );
        assert_eq!(&into[..5], b"line\n");
        assert_eq!(transfer.write(slave.as_fd(), b"answer", None), Ok(6));
        // The echo of the line, then the answer.
        let mut text = Vec::new();
        while text.len() < 12 {
            let bytes = transfer.read(master.as_fd(), &mut into, None).unwrap();
            text.extend_from_slice(&into[..bytes]);
        }
        assert_eq!(text, b"line\r\nanswer");
    });
}

#[test]
fn deadlines_on_an_empty_pipe() {
    both_ways(|make| {
        let mut transfer = make();
        for nonblocking in [false, true] {
            let (reader, mut writer) = pipe();
            set_nonblocking(&reader, nonblocking);
            let mut into = [9; 8];
            is_late(50, |deadline| {
                transfer.read(lend(&reader), &mut into, deadline)
            });
            is_late(0, |_| {
                transfer.read(lend(&reader), &mut into, Some(Duration::ZERO))
            });
            for _ in 0..20 {
                is_late(1, |deadline| {
                    transfer.read(lend(&reader), &mut into, deadline)
                });
            }
            // What comes afterwards goes to who asks afterwards.
            writer.write_all(b"late").unwrap();
            assert_eq!(into, [9; 8]);
            assert_eq!(
                transfer.read(lend(&reader), &mut into, in_millis(60_000)),
                Ok(4)
            );
            assert_eq!(&into, b"late\x09\x09\x09\x09");
        }
    });
}

#[test]
fn deadlines_on_a_full_pipe() {
    both_ways(|make| {
        let mut transfer = make();
        for nonblocking in [false, true] {
            let (mut reader, writer) = pipe();
            let capacity = fill(&writer);
            set_nonblocking(&writer, nonblocking);
            is_late(50, |deadline| {
                transfer.write(lend(&writer), b"more", deadline)
            });
            let mut all = vec![0; capacity];
            reader.read_exact(&mut all).unwrap();
            // Larger than the pipe: a part goes, and the rest does not block.
            let large = vec![1; 2 * capacity];
            let part = transfer.write(lend(&writer), &large, in_millis(100));
            if let Ok(part) = part {
                assert!((1..=capacity).contains(&part), "{part}");
                reader.read_exact(&mut all[..part]).unwrap();
                assert!(all[..part].iter().all(|byte| *byte == 1));
            } else {
                panic!("{part:?}");
            }
        }
    });
}

#[test]
fn waiting_ends_when_the_other_side_acts() {
    both_ways(|make| {
        for nonblocking in [false, true] {
            let (reader, mut writer) = pipe();
            set_nonblocking(&reader, nonblocking);
            let mut transfer = make();
            let waiting = std::thread::spawn(move || {
                let mut into = [0; 8];
                let first = transfer.read(lend(&reader), &mut into, None);
                let second = transfer.read(lend(&reader), &mut into, in_millis(60_000));
                (first, second)
            });
            std::thread::sleep(Duration::from_millis(30));
            writer.write_all(b"abc").unwrap();
            std::thread::sleep(Duration::from_millis(30));
            drop(writer);
            let (first, second) = waiting.join().unwrap();
            assert_eq!(first.unwrap() + second.unwrap(), 3);
        }
    });
}

/// A regular file without a name.
fn tempfile() -> File {
    let name = format!(
        "uring-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    );
    let path = std::env::temp_dir().join(name);
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(path).unwrap();
    file
}

/// A pseudo-terminal: who plays the terminal, and what programs see.
fn terminal() -> Result<(OwnedFd, OwnedFd), Errno> {
    use linux_raw::sys::general::{O_NOCTTY, O_RDWR};
    use linux_raw::sys::ioctl::{TIOCGPTPEER, TIOCSPTLCK};
    let master = linux_raw::io::open(c"/dev/ptmx", OpenFlags::RDWR | OpenFlags::CLOEXEC)?;
    let unlocked = 0_i32;
    // SAFETY: the call reads one int through the pointer.
    let answer = unsafe {
        arch::syscall3(
            nr::IOCTL,
            master.as_fd().into(),
            TIOCSPTLCK.into(),
            (&raw const unlocked).into(),
        )
    };
    answer.done()?;
    // SAFETY: nothing is passed but numbers.
    let answer = unsafe {
        arch::syscall3(
            nr::IOCTL,
            master.as_fd().into(),
            TIOCGPTPEER.into(),
            (O_RDWR | O_NOCTTY).into(),
        )
    };
    // SAFETY: the call answers with a descriptor it has just opened.
    let slave = unsafe { answer.fd() }?;
    Ok((master, slave))
}
