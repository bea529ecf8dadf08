#![expect(
    unsafe_code,
    reason = "calls mlockall and the C library: there is no wrapper"
)]
//! The embedder's process stays its own: no handlers, no change to what the kernel thinks of it;
//! and hosts of unusual kinds.

mod foreign_proc;
mod forked;
mod identity;
mod powers;
mod standing;
mod unchanged;
mod users;

use std::fs;
use std::time::{Duration, Instant};

use cellwall::{Death, Engine, Interrupt, Trap, TrapKind};
use iced_x86::code_asm::rax;
use linux_raw::arch;
use linux_raw::nr::Nr;
use linux_raw::sys::general;

use crate::harness::{
    DEATH_NOTICED, alone, alone_under, both, call, children, engine, eventually, exists, is_nursed,
    parts, start,
};

unsafe extern "C" {
    /// The C library's, which are for the whole process: the system calls are for one thread.
    pub(crate) safe fn setuid(user: u32) -> i32;
    pub(crate) safe fn setgid(group: u32) -> i32;
    /// Of this thread.
    pub(crate) safe fn unshare(flags: i32) -> i32;
}

fn own_status(key: &str) -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.unwrap_or_else(|| panic!("no {key}")).trim().to_owned()
}

/// An embedder that ignores SIGCHLD, or waits for all of its children, takes the exit status of a
/// worker that is its child away: then its death is still told, in time, without the reason. A
/// nursery's workers are no children of the embedder's.
#[test]
fn an_embedder_that_ignores_its_children() {
    let ignoring = ["env", "--ignore-signal=CHLD"];
    alone_under(
        &ignoring,
        "host::an_embedder_that_ignores_its_children",
        || {
            // Signal 17 is bit 16 of the mask.
            assert_eq!(own_status("SigIgn:").chars().rev().nth(4), Some('1'));
            both(|config| {
                let engine = Engine::new(config).unwrap();
                let mut instance = start(&engine, |code| {
                    code.mov(rax, 39i64).unwrap(); // getpid: forbidden
                    code.syscall().unwrap();
                });
                let worker = instance.process_id();
                call(&mut instance, &[]);
                let begun = Instant::now();
                let end = instance.run().unwrap();
                assert!(begun.elapsed() < DEATH_NOTICED);
                if is_nursed(config) {
                    let forbidden = |trap: Trap| trap.kind == TrapKind::ForbiddenCall;
                    assert!(
                        matches!(end, Interrupt::Trap(trap) if forbidden(trap)),
                        "{end}"
                    );
                } else {
                    assert_eq!(end, Interrupt::Died(Death::Unknown));
                }
                drop((instance, engine));
                eventually(Duration::from_secs(2), "all are gone", || {
                    !exists(worker) && children() == 0
                });
            });
        },
    );
}

/// A host under another scheduling policy does not have guests under it. Batch scheduling stands
/// for the real-time policies, which only root may choose.
#[test]
fn a_worker_has_the_normal_scheduling_policy() {
    let batch = ["chrt", "--batch", "0"];
    alone_under(
        &batch,
        "host::a_worker_has_the_normal_scheduling_policy",
        || {
            assert_eq!(policies(), ["3", "0"].map(String::from));
        },
    );
}

/// To leave the idle policy takes a privilege, so its workers keep it.
#[test]
fn an_idle_host_has_idle_workers() {
    let idle = ["chrt", "--idle", "0"];
    alone_under(&idle, "host::an_idle_host_has_idle_workers", || {
        assert_eq!(policies(), ["5", "5"].map(String::from));
    });
}

/// The policies of this process and of a worker of its own.
fn policies() -> [String; 2] {
    let policy = |path: String| {
        let stat = fs::read_to_string(path).unwrap();
        // Field 41 of proc_pid_stat(5); the name in field 2 may hold spaces.
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        rest.split(' ').nth(41 - 3).unwrap().to_owned()
    };
    let engine = engine();
    let worker = start(&engine, |code| code.ret().unwrap());
    let its = policy(format!("/proc/{}/stat", worker.process_id()));
    [policy("/proc/self/stat".into()), its]
}

/// A host that locks all of its memory pays for the pages that guests touch, and for no others.
#[test]
fn locked_memory_is_not_filled() {
    alone("host::locked_memory_is_not_filled", || {
        let mlockall = Nr::from_raw(general::__NR_mlockall);
        // SAFETY: the call takes a number and changes no memory's contents.
        let answer = unsafe { arch::syscall1(mlockall, general::MCL_FUTURE.into()) };
        answer
            .done()
            .expect("mlockall, for which RLIMIT_MEMLOCK must not be 0");
        let engine = engine();
        let module = parts(&[0xc3]).build(&engine).unwrap();
        match engine.instantiate(&module) {
            Ok(mut instance) => {
                call(&mut instance, &[]);
                assert!(matches!(instance.run().unwrap(), Interrupt::Finished(_)));
            }
            // An ordinary user may lock only so much, whether it is touched or not.
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("mmap failed with EAGAIN"), "{text}");
                assert!(text.contains("RLIMIT_MEMLOCK"), "{text}");
            }
        }
        let peak = own_status("VmHWM:");
        let kibibytes: u64 = peak.split(' ').next().unwrap().parse().unwrap();
        assert!(kibibytes < 512 << 10, "{peak} at the most");
    });
}
