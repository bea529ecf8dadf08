//! Files, folders, descriptors and sockets.

use super::{Escape, call};
use crate::inside::props::{
    ARGV, BUFFER, EMPTY, FILE, INTERNET, LOCAL_IOVEC, NAME, NEW_FILE, OPEN_HOW, PASSWD, PROC_MEM,
    ROOT, SHELL, TIME, UNIX,
};
use crate::inside::sweep::KILLED;

/// `AT_FDCWD` and flags of open(2): `O_RDWR`, and with it `O_CREAT` and `O_TRUNC`.
const HERE: u64 = (-100i64).cast_unsigned();
const READ_WRITE: u64 = 2;
const MAKE: u64 = 0o1102;

/// Every family of socket(2) that a Linux program meets: unix, inet, ax25, ipx, appletalk, netlink,
/// packet, rds, can, tipc, bluetooth, alg, nfc, vsock, kcm, qipcrtr, smc, xdp, inet6.
const FAMILIES: [u64; 19] = [
    1, 2, 3, 4, 5, 16, 17, 21, 29, 30, 31, 38, 39, 40, 41, 42, 43, 44, 10,
];

pub(super) const ESCAPES: &[Escape] = &[
    Escape {
        name: "opening files",
        program: "syscall",
        calls: |_| {
            vec![
                call("open /etc/passwd", 2, &[PASSWD]),
                call("open of the host's file", 2, &[FILE, READ_WRITE]),
                call("openat", 257, &[HERE, PASSWD]),
                call("openat /proc/self/mem", 257, &[HERE, PROC_MEM, READ_WRITE]),
                call("openat2", 437, &[HERE, FILE, OPEN_HOW, 24]),
                call("open_by_handle_at", 304, &[0, BUFFER, READ_WRITE]),
                call("name_to_handle_at", 303, &[HERE, PASSWD, BUFFER, BUFFER]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "making files and folders",
        program: "syscall",
        calls: |_| {
            vec![
                call("open to create", 2, &[NEW_FILE, MAKE, 0o666]),
                call("creat", 85, &[NEW_FILE, 0o666]),
                call("creat over a file", 85, &[FILE, 0o666]),
                call("mkdir", 83, &[NEW_FILE, 0o777]),
                call("mknod", 133, &[NEW_FILE, 0o100_666]),
                call("symlink", 88, &[PASSWD, NEW_FILE]),
                call("link", 86, &[FILE, NEW_FILE]),
                call("linkat", 265, &[HERE, FILE, HERE, NEW_FILE]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "changing and removing files",
        program: "syscall",
        calls: |_| {
            vec![
                call("unlink", 87, &[FILE]),
                call("unlinkat", 263, &[HERE, FILE]),
                call("rename", 82, &[FILE, NEW_FILE]),
                call("renameat2", 316, &[HERE, FILE, HERE, NEW_FILE]),
                call("truncate", 76, &[FILE]),
                call("chmod", 90, &[FILE, 0o4777]),
                call("fchmodat2", 452, &[HERE, FILE, 0o4777]),
                call("chown", 92, &[FILE]),
                call("utimensat", 280, &[HERE, FILE, TIME]),
                call("setxattr", 188, &[FILE, NAME, BUFFER, 8]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "executing files",
        program: "syscall",
        calls: |_| {
            vec![
                call("execve", 59, &[SHELL, ARGV]),
                call("execveat", 322, &[HERE, SHELL, ARGV]),
                call(
                    "execveat of a descriptor",
                    322,
                    &[5, EMPTY, ARGV, 0, 0x1000],
                ),
                call("uselib", 134, &[SHELL]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "looking at files",
        program: "syscall",
        calls: |_| {
            vec![
                call("stat", 4, &[PASSWD, BUFFER]),
                call("newfstatat", 262, &[HERE, PASSWD, BUFFER]),
                call("statx", 332, &[HERE, PASSWD, 0, 0xfff, BUFFER]),
                call("access", 21, &[PASSWD]),
                call("readlink", 89, &[PROC_MEM, BUFFER, 64]),
                call("getcwd", 79, &[BUFFER, 64]),
                call("chdir", 80, &[ROOT]),
                call("statfs", 137, &[ROOT, BUFFER]),
                call("inotify_add_watch", 254, &[0, ROOT, 0xfff]),
                call("fanotify_init", 300, &[0, 0]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "reading and writing descriptors",
        program: "syscall",
        calls: |_| {
            (0..8)
                .flat_map(|fd| {
                    [
                        call("read", 0, &[fd, BUFFER, 64]),
                        call("write", 1, &[fd, BUFFER, 64]),
                        call("pwritev2", 328, &[fd, LOCAL_IOVEC, 1]),
                    ]
                })
                .collect()
        },
        expected: KILLED,
    },
    Escape {
        name: "getting descriptors",
        program: "syscall",
        calls: |f| {
            vec![
                call("dup", 32, &[0]),
                call("dup2", 33, &[5, 0]),
                call("fcntl", 72, &[0, 0, 3]),
                call("pipe2", 293, &[BUFFER]),
                call("eventfd2", 290, &[0]),
                call("pidfd_open", 434, &[f.host]),
                call("pidfd_getfd", 438, &[0, 0]),
                call("recvmsg", 47, &[0, BUFFER]),
                call("memfd_create", 319, &[NAME, 0]),
                call("memfd_secret", 447, &[]),
                call("signalfd4", 289, &[u64::MAX, BUFFER, 8]),
                call("timerfd_create", 283, &[1]),
                call("epoll_create1", 291, &[]),
                call("ioctl", 16, &[0, 0x5412, BUFFER]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "sockets of every family",
        program: "syscall",
        calls: |_| {
            let kinds = [1, 2, 3, 5];
            let one = |family| kinds.map(|kind| call("socket", 41, &[family, kind]));
            let mut calls: Vec<_> = FAMILIES.into_iter().flat_map(one).collect();
            calls.push(call("socketpair", 53, &[1, 1, 0, BUFFER]));
            calls
        },
        expected: KILLED,
    },
    Escape {
        name: "using sockets",
        program: "syscall",
        calls: |_| {
            vec![
                call("connect to the network", 42, &[0, INTERNET, 16]),
                call("connect to an abstract name", 42, &[0, UNIX, 20]),
                call("bind", 49, &[0, INTERNET, 16]),
                call("listen", 50, &[0, 1]),
                call("accept4", 288, &[0]),
                call("sendto", 44, &[0, BUFFER, 64, 0, INTERNET, 16]),
                call("setsockopt", 54, &[0, 1, 26, BUFFER, 16]),
            ]
        },
        expected: KILLED,
    },
];
