//! Namespaces, mounts, keys, kernel interfaces.

use super::{Escape, call};
use crate::inside::props::{
    BUFFER, EMPTY, FILE, FILTER, LOCAL_IOVEC, NAME, PERF_ATTR, ROOT, TIME, ZEROS,
};
use crate::inside::sweep::KILLED;

/// Flags of unshare(2): a user namespace, and every kind at once.
const NEW_USER: u64 = 0x1000_0000;
const NEW_ALL: u64 = 0x7e02_0080;
const HERE: u64 = (-100i64).cast_unsigned();

pub(super) const ESCAPES: &[Escape] = &[
    Escape {
        name: "entering and making namespaces",
        program: "syscall",
        calls: |_| {
            vec![
                call("setns", 308, &[0, 0]),
                call("setns by a pidfd", 308, &[4, NEW_ALL]),
                call("unshare of the user", 272, &[NEW_USER]),
                call("unshare of everything", 272, &[NEW_ALL]),
                call("clone into a new one", 56, &[NEW_USER | 17]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "mounting",
        program: "syscall",
        calls: |_| {
            vec![
                call("mount", 165, &[NAME, ROOT, NAME]),
                call("mount to change", 165, &[0, ROOT, 0, 0x20]),
                call("umount2", 166, &[ROOT, 2]),
                call("fsopen", 430, &[NAME]),
                call("fsconfig", 431, &[0, 6]),
                call("fsmount", 432, &[0]),
                call("move_mount", 429, &[0, EMPTY, HERE, ROOT, 4]),
                call("open_tree", 428, &[HERE, ROOT, 1]),
                call("mount_setattr", 442, &[HERE, ROOT, 0, ZEROS, 32]),
                call("statmount", 457, &[BUFFER, BUFFER, 64]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "changing the root",
        program: "syscall",
        calls: |_| {
            vec![
                call("chroot", 161, &[ROOT]),
                call("pivot_root", 155, &[ROOT, ROOT]),
                call("fchdir", 81, &[0]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "becoming somebody else",
        program: "syscall",
        calls: |_| {
            vec![
                call("setuid", 105, &[0]),
                call("setresuid", 117, &[0, 0, 0]),
                call("setgid", 106, &[0]),
                call("setgroups", 116, &[0, 0]),
                call("capset", 126, &[BUFFER, BUFFER]),
                call("setsid", 112, &[]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "keys",
        program: "syscall",
        calls: |_| {
            vec![
                call("add_key", 248, &[NAME, NAME, BUFFER, 8, u64::MAX]),
                call("request_key", 249, &[NAME, NAME]),
                call("keyctl", 250, &[0, u64::MAX - 1, 1]),
                call("keyctl to read", 250, &[11, 1, BUFFER, 64]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "io_uring",
        program: "syscall",
        calls: |_| {
            vec![
                call("io_uring_setup", 425, &[8, ZEROS]),
                call("io_uring_enter", 426, &[0, 1, 1, 1]),
                call("io_uring_register", 427, &[0, 0, LOCAL_IOVEC, 1]),
                call("io_setup", 206, &[8, ZEROS]),
                call("io_submit", 209, &[0, 1, BUFFER]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "programs in the kernel",
        program: "syscall",
        calls: |_| {
            vec![
                call("bpf to make a map", 321, &[0, ZEROS, 64]),
                call("bpf to load", 321, &[5, ZEROS, 64]),
                call("perf_event_open", 298, &[PERF_ATTR, 0, u64::MAX, u64::MAX]),
                call(
                    "perf_event_open of a CPU",
                    298,
                    &[PERF_ATTR, u64::MAX, 0, u64::MAX],
                ),
                call("init_module", 175, &[BUFFER, 64, EMPTY]),
                call("finit_module", 313, &[0, EMPTY]),
                call("kexec_load", 246, &[0, 0, 0]),
                call("uretprobe's neighbour", 337, &[]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "a filter of one's own",
        program: "syscall",
        calls: |_| {
            vec![
                call("seccomp strict", 317, &[0, 0]),
                call("seccomp filter", 317, &[1, 0, FILTER]),
                call("seccomp with a listener", 317, &[1, 8, FILTER]),
                call("prctl", 157, &[22, 2, FILTER]),
                call("landlock_create_ruleset", 444, &[ZEROS, 8]),
                call("landlock_restrict_self", 446, &[0]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "queues and semaphores",
        program: "syscall",
        calls: |_| {
            vec![
                call("msgget", 68, &[0, 0o1666]),
                call("msgsnd", 69, &[0, BUFFER, 8]),
                call("semget", 64, &[0, 1, 0o1666]),
                call("mq_open", 240, &[NAME, 0o102, 0o666]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "the machine's settings",
        program: "syscall",
        calls: |_| {
            vec![
                call("sethostname", 170, &[NAME, 5]),
                call("settimeofday", 164, &[0, 0]),
                call("adjtimex", 159, &[ZEROS]),
                call("clock_adjtime", 305, &[0, ZEROS]),
                call("swapon", 167, &[FILE]),
                call("syslog", 103, &[3, BUFFER, 64]),
                call("acct", 163, &[FILE]),
                call("quotactl", 179, &[0, FILE]),
                // Without its magic numbers it does nothing but fail.
                call("reboot", 169, &[0, 0, 0]),
                call("sysinfo", 99, &[BUFFER]),
                call("uname", 63, &[BUFFER]),
                call("nanosleep", 35, &[TIME]),
                call("vhangup", 153, &[]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "numbers that are none",
        program: "syscall",
        calls: |_| {
            vec![
                call("-1", u64::MAX, &[]),
                call("-1 in 32 bits", 0xffff_ffff, &[]),
                call("the last", 0x7fff_ffff, &[]),
                call("the first negative", 0x8000_0000, &[]),
                call("sched_yield of x32", 0x4000_0018, &[]),
                call("getpid with an upper half", 39 | 1 << 32, &[]),
                call("uprobe of x32", 0x4000_0150, &[]),
                call("uretprobe of x32", 0x4000_014f, &[]),
            ]
        },
        expected: KILLED,
    },
];
