//! Memory: executable, remapped, somebody else's.

use cellwall::abi::{CODE_WINDOW, TURN_LINE};
use vmctx::map;

use super::{Escape, call};
use crate::inside::kit::{CONSTANTS, DATA, LOW_CODE, PLENTY, STACK};
use crate::inside::props::{BUFFER, LOCAL_IOVEC, NAME, REMOTE_IOVEC, ZEROS};
use crate::inside::sweep::KILLED;

/// Protections and flags of mmap(2).
const READ_WRITE: u64 = 3;
const EXECUTE: u64 = 4;
const ALL: u64 = 7;
const ANONYMOUS: u64 = 0x22;
const FIXED: u64 = 0x10;
const NOBODY: u64 = u64::MAX;

const IOCTL: u64 = 16;
/// Guest addresses where nothing is.
const ABSENT: u64 = 0x3000_0000;
const LAST: u64 = map::GUEST.end - 4096;

pub(super) const ESCAPES: &[Escape] = &[
    Escape {
        name: "mapping executable memory",
        program: "syscall",
        calls: |_| {
            vec![
                call("mmap anywhere", 9, &[0, 4096, ALL, ANONYMOUS, NOBODY]),
                call(
                    "mmap over data",
                    9,
                    &[DATA, 4096, ALL, ANONYMOUS | FIXED, NOBODY],
                ),
                call(
                    "mmap execute only",
                    9,
                    &[0, 4096, EXECUTE, ANONYMOUS, NOBODY],
                ),
                call("mmap of a descriptor", 9, &[0, 4096, 5, 1, 4]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "mapping more memory",
        program: "syscall",
        calls: |_| {
            vec![
                call("mmap", 9, &[0, 1 << 30, READ_WRITE, ANONYMOUS, NOBODY]),
                call("brk", 12, &[0]),
                call("brk further", 12, &[1 << 40]),
                call("shmget", 29, &[0, 1 << 20, 0o1666]),
                call("shmat", 30, &[0]),
                call("map_shadow_stack", 453, &[0, 4096]),
                call("mlockall", 151, &[3]),
                call("mlock2", 325, &[PLENTY, 1 << 20, 1]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "making data executable",
        program: "syscall",
        calls: |_| {
            vec![
                call("mprotect of data", 10, &[DATA, 4096, ALL]),
                call("mprotect to execute", 10, &[STACK, 4096, 5]),
                call("pkey_mprotect", 329, &[DATA, 4096, ALL, NOBODY]),
                call("pkey_alloc", 330, &[0, 0]),
                call("personality", 135, &[0x40_0000]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "making code writable",
        program: "syscall",
        calls: |_| {
            [CODE_WINDOW.start, LOW_CODE, map::IMAGE.start]
                .into_iter()
                .flat_map(|code| {
                    [
                        call("mprotect", 10, &[code, 4096, ALL]),
                        call("mprotect without execute", 10, &[code, 4096, READ_WRITE]),
                        call(
                            "mmap over it",
                            9,
                            &[code, 4096, ALL, ANONYMOUS | FIXED, NOBODY],
                        ),
                        call("munmap", 11, &[code, 4096]),
                    ]
                })
                .collect()
        },
        expected: KILLED,
    },
    Escape {
        name: "remapping the worker's pages",
        program: "syscall",
        calls: |_| {
            [map::HOST_PAGE.start, TURN_LINE, map::ALT_STACK.start]
                .into_iter()
                .flat_map(|page| {
                    [
                        call("mprotect", 10, &[page, 4096, READ_WRITE]),
                        call("mremap away", 25, &[page, 4096, 4096, 3, PLENTY]),
                        call("mremap over it", 25, &[DATA, 4096, 4096, 3, page]),
                        call("mremap of nothing", 25, &[page, 0, 4096, 1]),
                        call("munmap", 11, &[page, 4096]),
                        call("remap_file_pages", 216, &[page, 4096, 0, 1]),
                        call("madvise", 28, &[page, 4096, 9]),
                    ]
                })
                .collect()
        },
        expected: KILLED,
    },
    Escape {
        name: "handling page faults",
        program: "syscall",
        calls: |_| {
            vec![
                call("userfaultfd", 323, &[0]),
                call("userfaultfd for the user", 323, &[1]),
                call("userfaultfd, not blocking", 323, &[0x80800]),
                call("process_madvise", 440, &[0, LOCAL_IOVEC, 1, 4]),
                call("mincore", 27, &[DATA, 4096, BUFFER]),
                call("move_pages", 279, &[0, 1, BUFFER]),
            ]
        },
        expected: KILLED,
    },
    // Those that the host makes on the worker's userfaultfd, of which it has the one descriptor.
    Escape {
        name: "filling pages as the host does",
        program: "syscall",
        calls: |_| {
            (0..16)
                .flat_map(|descriptor| {
                    [
                        call("UFFDIO_API", IOCTL, &[descriptor, 0xc018_aa3f, ZEROS]),
                        call("UFFDIO_REGISTER", IOCTL, &[descriptor, 0xc020_aa00, ZEROS]),
                        call(
                            "UFFDIO_UNREGISTER",
                            IOCTL,
                            &[descriptor, 0x8010_aa01, ZEROS],
                        ),
                        call("UFFDIO_COPY", IOCTL, &[descriptor, 0xc028_aa03, ZEROS]),
                        call("UFFDIO_ZEROPAGE", IOCTL, &[descriptor, 0xc020_aa04, ZEROS]),
                        call(
                            "UFFDIO_WRITEPROTECT",
                            IOCTL,
                            &[descriptor, 0xc018_aa06, ZEROS],
                        ),
                        call("UFFDIO_CONTINUE", IOCTL, &[descriptor, 0xc020_aa07, ZEROS]),
                        call("a read", 0, &[descriptor, BUFFER, 32]),
                    ]
                })
                .collect()
        },
        expected: KILLED,
    },
    Escape {
        name: "changing guest memory's map",
        program: "syscall",
        calls: |_| {
            [DATA, STACK, ABSENT, CONSTANTS, LAST]
                .into_iter()
                .flat_map(|page| {
                    [
                        call(
                            "mmap",
                            9,
                            &[page, 4096, READ_WRITE, ANONYMOUS | FIXED, NOBODY],
                        ),
                        call("mprotect", 10, &[page, 4096, READ_WRITE]),
                        call("munmap", 11, &[page, 4096]),
                        call("mremap", 25, &[page, 4096, 8192, 1]),
                        call("madvise to forget", 28, &[page, 4096, 4]),
                        call("madvise to remove", 28, &[page, 4096, 9]),
                        call("madvise to fill", 28, &[page, 4096, 23]),
                        call("madvise to unguard", 28, &[page, 4096, 103]),
                        call("mlock", 149, &[page, 4096]),
                        call("msync", 26, &[page, 4096, 2]),
                        call("mseal", 462, &[page, 4096, 0]),
                    ]
                })
                .collect()
        },
        expected: KILLED,
    },
    Escape {
        name: "reading and writing the memory of others",
        program: "syscall",
        calls: |f| {
            [f.host, f.sibling, 1]
                .into_iter()
                .flat_map(|process| {
                    let args = [process, LOCAL_IOVEC, 1, REMOTE_IOVEC, 1, 0];
                    [
                        call("process_vm_readv", 310, &args),
                        call("process_vm_writev", 311, &args),
                        call("ptrace attach", 101, &[16, process]),
                        call("ptrace seize", 101, &[0x4206, process]),
                        call("ptrace peek", 101, &[2, process, f.host_buffer, BUFFER]),
                        call("ptrace poke", 101, &[5, process, f.host_buffer, 1]),
                        call("kcmp", 312, &[process, 0, 0]),
                    ]
                })
                .collect()
        },
        expected: KILLED,
    },
    Escape {
        name: "memory behind a descriptor",
        program: "syscall",
        calls: |_| {
            vec![
                call("memfd_create to execute", 319, &[NAME, 0x10]),
                call("ftruncate", 77, &[1, 0]),
                call("fcntl to unseal", 72, &[1, 1033, 0]),
                call("fallocate", 285, &[1, 3, 0, 4096]),
                call("copy_file_range", 326, &[2, 0, 1, 0, 4096]),
                call("splice", 275, &[0, 0, 1, 0, 4096]),
                call("vmsplice", 278, &[0, LOCAL_IOVEC, 1]),
                call("sendfile", 40, &[0, 1, 0, 4096]),
            ]
        },
        expected: KILLED,
    },
];
