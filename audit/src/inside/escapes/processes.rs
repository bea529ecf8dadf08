//! Processes, threads and signals.

use vmctx::{EVICTION, INTERRUPTION, map};

use super::{Escape, call};
use crate::inside::outcome::{May, Shape};
use crate::inside::props::{ACTION, BUFFER, CLONE_ARGS, LOCAL_IOVEC, REMOTE_IOVEC, TIME};
use crate::inside::sweep::KILLED;

// A wall that does not hold is to be reported, not to end the operator's programs: the host gets
// signals that do nothing unless it wants them.
const NONE: u64 = 0;
const WINDOW_CHANGED: u64 = 28;
const ALL_PROCESSES: u64 = u64::MAX;

/// `CLONE_VM`, `CLONE_FS`, `CLONE_FILES`, `CLONE_SIGHAND`, `CLONE_THREAD` (clone(2)).
const THREAD: u64 = 0x0001_0f00;

pub(super) const ESCAPES: &[Escape] = &[
    Escape {
        name: "signals to the host",
        program: "syscall",
        calls: |f| {
            vec![
                call("kill with no signal", 62, &[f.host, NONE]),
                call("kill", 62, &[f.host, WINDOW_CHANGED]),
                call("tkill", 200, &[f.host, WINDOW_CHANGED]),
                call("tgkill", 234, &[f.host, f.host, WINDOW_CHANGED]),
                call("rt_sigqueueinfo", 129, &[f.host, WINDOW_CHANGED, BUFFER]),
                call("pidfd_send_signal", 424, &[0, WINDOW_CHANGED]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "signals to a sibling",
        program: "syscall",
        calls: |f| {
            vec![
                call("kill", 62, &[f.sibling, 9]),
                call("tkill", 200, &[f.sibling, 9]),
                call("tgkill", 234, &[f.sibling, f.sibling, 9]),
                call("stop", 62, &[f.sibling, 19]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "signals to everybody",
        program: "syscall",
        calls: |_| {
            vec![
                call("kill(-1)", 62, &[ALL_PROCESSES, NONE]),
                call("kill(-1)", 62, &[ALL_PROCESSES, WINDOW_CHANGED]),
                call("kill(0)", 62, &[0, WINDOW_CHANGED]),
                call("kill(1)", 62, &[1, WINDOW_CHANGED]),
            ]
        },
        expected: KILLED,
    },
    // What the host stops guests by: in the workers' namespace the numbers are small.
    Escape {
        name: "the host's own signals to oneself",
        program: "syscall",
        calls: |_| {
            let mut calls = Vec::new();
            for signal in [INTERRUPTION.into(), EVICTION.into()] {
                for process in 0..6 {
                    calls.extend([
                        call("kill", 62, &[process, signal]),
                        call("tkill", 200, &[process, signal]),
                        call("tgkill", 234, &[process, process, signal]),
                        call("rt_sigqueueinfo", 129, &[process, signal, BUFFER]),
                        call(
                            "rt_tgsigqueueinfo",
                            297,
                            &[process, process, signal, BUFFER],
                        ),
                        call("pidfd_send_signal", 424, &[process, signal]),
                    ]);
                }
            }
            calls
        },
        expected: KILLED,
    },
    Escape {
        name: "the same by 32-bit calls",
        program: "int 0x80",
        calls: |_| {
            let signal = INTERRUPTION.into();
            vec![
                call("kill", 37, &[0, signal]),
                call("kill", 37, &[2, signal]),
                call("tkill", 238, &[2, signal]),
                call("tgkill", 270, &[2, 2, signal]),
                call("sigreturn", 119, &[]),
                call("rt_sigreturn", 173, &[]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "reaching the nursery",
        program: "syscall",
        calls: |_| {
            vec![
                call("kill(1)", 62, &[1, NONE]),
                call("pidfd_open", 434, &[1, 0]),
                call("pidfd_getfd", 438, &[3, 3, 0]),
                call("ptrace", 101, &[16, 1]),
                call(
                    "process_vm_readv",
                    310,
                    &[1, LOCAL_IOVEC, 1, REMOTE_IOVEC, 1],
                ),
                call(
                    "process_vm_writev",
                    311,
                    &[1, LOCAL_IOVEC, 1, REMOTE_IOVEC, 1],
                ),
                call("kcmp", 312, &[1, 2, 0, 3, 3]),
                call("futex of the ring", 202, &[map::RING.start, 1, 1]),
                call("recvmsg", 47, &[3, BUFFER]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "changing one's own signals",
        program: "syscall",
        calls: |_| {
            vec![
                call("rt_sigaction", 13, &[31, ACTION, 0, 8]),
                call("rt_sigprocmask", 14, &[2, BUFFER, 0, 8]),
                call("sigaltstack", 131, &[BUFFER]),
                call("rt_sigsuspend", 130, &[BUFFER, 8]),
                call("alarm", 37, &[1]),
                call("setitimer", 38, &[0, TIME]),
                call("timer_create", 222, &[1, 0, BUFFER]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "a fork bomb",
        program: "many calls",
        calls: |_| {
            vec![
                call("fork", 57, &[]),
                call("vfork", 58, &[]),
                call("clone", 56, &[17]),
                call("clone of the parent's", 56, &[0x8000 | 17]),
                call("clone3", 435, &[CLONE_ARGS, 88]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "a thread bomb",
        program: "many calls",
        calls: |_| vec![call("clone", 56, &[THREAD, BUFFER])],
        expected: KILLED,
    },
    Escape {
        name: "changing one's own process",
        program: "syscall",
        calls: |_| {
            vec![
                call("prctl to trace", 157, &[0x5961_6d61, u64::MAX]),
                call("prctl dumpable", 157, &[4, 1]),
                call("prctl death signal", 157, &[1, 0]),
                call("prctl seccomp", 157, &[22, 0]),
                call("seccomp", 317, &[1, 0, BUFFER]),
                call("arch_prctl fs", 158, &[0x1002, BUFFER]),
                call("arch_prctl gs", 158, &[0x1001, BUFFER]),
                call("arch_prctl cpuid", 158, &[0x1012, 0]),
                call("arch_prctl to map the vdso", 158, &[0x2003, 0]),
                call("modify_ldt", 154, &[1, BUFFER, 16]),
                call("set_thread_area", 205, &[BUFFER]),
                call("iopl", 172, &[3]),
                call("ioperm", 173, &[0x60, 8, 1]),
                call("setrlimit", 160, &[7, BUFFER]),
                call("prlimit64", 302, &[0, 7, BUFFER]),
                call("rseq", 334, &[BUFFER, 32]),
                call("set_robust_list", 273, &[BUFFER, 24]),
                call("restart_syscall", 219, &[]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "knowing processes",
        program: "syscall",
        calls: |f| {
            vec![
                call("getpid", 39, &[]),
                call("getppid", 110, &[]),
                call("gettid", 186, &[]),
                call("wait4", 61, &[ALL_PROCESSES, BUFFER, 1]),
                call("waitid", 247, &[0, f.sibling, BUFFER, 5]),
                call("getpgid", 121, &[f.host]),
                call("sched_getaffinity", 204, &[f.host, 8, BUFFER]),
                call("times", 100, &[BUFFER]),
                call("clock_gettime", 228, &[0, BUFFER]),
                call("getrandom", 318, &[BUFFER, 64]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "taking priority",
        program: "syscall",
        calls: |f| {
            vec![
                call("sched_setscheduler", 144, &[0, 1, BUFFER]),
                call("sched_setattr", 314, &[0, BUFFER]),
                call("sched_setaffinity", 203, &[0, 8, BUFFER]),
                call("setpriority", 141, &[0, 0, (-20i64).cast_unsigned()]),
                call("setpriority of the host", 141, &[0, f.host, 19]),
                call("ioprio_set", 251, &[1, 0, 0x2000]),
            ]
        },
        expected: KILLED,
    },
    Escape {
        name: "ending itself",
        program: "syscall",
        calls: |_| vec![call("exit_group", 231, &[77])],
        expected: &[May(
            Shape::Exited(77),
            "it is left to the worker: a guest may end at any time",
        )],
    },
    Escape {
        name: "ending one thread",
        program: "syscall",
        calls: |_| vec![call("exit", 60, &[7])],
        expected: KILLED,
    },
];
