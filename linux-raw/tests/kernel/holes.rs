//! Memory files: what they hold, and where.

use linux_raw::io::{pread, pwrite, seek_data, seek_hole};
use linux_raw::memfd::{
    MemfdFlags, Seals, add_seals, allocated_bytes, ftruncate, length, memfd_create, punch_hole,
};
use linux_raw::socket::socketpair_seqpacket;
use linux_raw::{Errno, OwnedFd};

const PAGE: u64 = 4096;
const PAGES: u64 = 64;

/// A file of holes only.
fn sparse() -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create(c"cellwall-test", flags).unwrap();
    ftruncate(&file, PAGES * PAGE).unwrap();
    file
}

fn fill(file: &OwnedFd, page: u64, pages: usize) {
    let bytes = vec![7; pages * 4096];
    assert_eq!(pwrite(file, &bytes, page * PAGE), Ok(bytes.len()));
}

#[test]
fn a_hole_gives_its_memory_back() {
    let file = sparse();
    assert_eq!(length(&file), Ok(PAGES * PAGE));
    assert_eq!(allocated_bytes(&file), Ok(0));
    fill(&file, 10, 6);
    assert_eq!(allocated_bytes(&file), Ok(6 * PAGE));
    punch_hole(&file, 12 * PAGE, 2 * PAGE).unwrap();
    assert_eq!(allocated_bytes(&file), Ok(4 * PAGE));
    // What is no whole page is emptied, and stays.
    punch_hole(&file, 10 * PAGE + 1, PAGE - 1).unwrap();
    assert_eq!(allocated_bytes(&file), Ok(4 * PAGE));
    let mut bytes = vec![1; 6 * 4096];
    assert_eq!(pread(&file, &mut bytes, 10 * PAGE), Ok(bytes.len()));
    let filled =
        |index: usize| index == 0 || (4096..2 * 4096).contains(&index) || index >= 4 * 4096;
    for (index, &byte) in bytes.iter().enumerate() {
        assert_eq!(byte, if filled(index) { 7 } else { 0 }, "{index}");
    }
    // All of it, and past the end: the length stays.
    punch_hole(&file, 0, 2 * PAGES * PAGE).unwrap();
    assert_eq!(allocated_bytes(&file), Ok(0));
    assert_eq!(length(&file), Ok(PAGES * PAGE));
    assert_eq!(punch_hole(&file, 0, 0), Err(Errno::EINVAL));
    assert_eq!(punch_hole(&file, 0, u64::MAX), Err(Errno::EINVAL));
    assert_eq!(punch_hole(&file, 1 << 62, 1 << 62), Err(Errno::EFBIG));
    add_seals(&file, Seals::WRITE).unwrap();
    assert_eq!(punch_hole(&file, 0, PAGE), Err(Errno::EPERM));
}

#[test]
fn runs_of_data_are_found() {
    let file = sparse();
    assert_eq!(seek_data(&file, 0), Ok(None));
    assert_eq!(seek_hole(&file, 0), Ok(0));
    fill(&file, 3, 2);
    fill(&file, PAGES - 1, 1);
    let mut runs = Vec::new();
    let mut offset = 0;
    while let Some(start) = seek_data(&file, offset).unwrap() {
        offset = seek_hole(&file, start).unwrap();
        runs.push(start / PAGE..offset / PAGE);
    }
    assert_eq!(runs, [3..5, PAGES - 1..PAGES]);
    // From inside a run, and at the end of the file.
    assert_eq!(seek_data(&file, 3 * PAGE + 9), Ok(Some(3 * PAGE + 9)));
    assert_eq!(seek_hole(&file, 3 * PAGE + 9), Ok(5 * PAGE));
    assert_eq!(seek_data(&file, PAGES * PAGE), Ok(None));
    assert_eq!(seek_hole(&file, PAGES * PAGE), Err(Errno::ENXIO));
    let (socket, _far) = socketpair_seqpacket().unwrap();
    assert_eq!(seek_data(&socket, 0), Err(Errno::ESPIPE));
    assert_eq!(seek_hole(&socket, 0), Err(Errno::ESPIPE));
}
