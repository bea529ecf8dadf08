#![expect(
    unsafe_code,
    reason = "forks, and calls mlockall: there are no wrappers"
)]
//! The embedder's process stays its own: no handlers, no change to what the kernel thinks of it;
//! and hosts of unusual kinds.

use std::ffi::c_void;
use std::fs;
use std::time::{Duration, Instant};

use cellwall::{Blame, Death, Engine, Instance, Interrupt, Misuse};
use iced_x86::code_asm::rax;
use linux_raw::nr::Nr;
use linux_raw::pidfd::{WaitFlags, WaitStatus, waitid_pidfd};
use linux_raw::process::{CloneArgs, CloneFlags, clone_copy, exit_group};
use linux_raw::{Errno, arch, prctl};

use crate::harness::{
    DEATH_NOTICED, alone, alone_under, call, engine, eventually, exists, parts, start,
};

fn own_status(key: &str) -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.unwrap_or_else(|| panic!("no {key}")).trim().to_owned()
}

#[test]
fn nothing_of_the_process_changes() {
    let look = || {
        let keys = [
            "SigBlk:",
            "SigIgn:",
            "SigCgt:",
            "CapEff:",
            "CapBnd:",
            "NoNewPrivs:",
            "Seccomp:",
        ];
        let own = keys.map(own_status);
        let mdwe = prctl::get_mdwe().or_else(|errno| match errno {
            // A kernel that does not know it cannot have it on.
            Errno::EINVAL => Ok(false),
            other => Err(other),
        });
        let namespaces = fs::read_dir("/proc/self/ns")
            .unwrap()
            .map(|entry| fs::read_link(entry.unwrap().path()).unwrap());
        (
            own,
            prctl::get_dumpable(),
            mdwe,
            namespaces.collect::<Vec<_>>(),
        )
    };
    let before = look();
    let engine = engine();
    let mut instance = start(&engine, |code| {
        code.mov(rax, 1i64).unwrap();
        code.ret().unwrap();
    });
    call(&mut instance, &[]);
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(1));
    assert_eq!(look(), before);
    drop(instance);
    drop(engine);
    assert_eq!(look(), before);
}

/// An embedder that ignores SIGCHLD, or waits for all of its children, takes a worker's exit
/// status away: then its death is still told, in time, without the reason.
#[test]
fn an_embedder_that_ignores_its_children() {
    let ignoring = ["env", "--ignore-signal=CHLD"];
    alone_under(
        &ignoring,
        "host::an_embedder_that_ignores_its_children",
        || {
            // Signal 17 is bit 16 of the mask.
            assert_eq!(own_status("SigIgn:").chars().rev().nth(4), Some('1'));
            let engine = engine();
            let mut instance = start(&engine, |code| {
                code.mov(rax, 39i64).unwrap(); // getpid: forbidden
                code.syscall().unwrap();
            });
            call(&mut instance, &[]);
            let begun = Instant::now();
            assert_eq!(instance.run().unwrap(), Interrupt::Died(Death::Unknown));
            assert!(begun.elapsed() < DEATH_NOTICED);
            let worker = instance.process_id();
            drop(instance);
            eventually(Duration::from_secs(2), "it is gone", || !exists(worker));
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
        const MCL_FUTURE: u32 = 2;
        let mlockall = Nr::from_raw(151);
        // SAFETY: the call takes a number and changes no memory's contents.
        let answer = unsafe { arch::syscall1(mlockall, MCL_FUTURE.into()) };
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

/// What a forked child inherits: copies of the handles.
struct Inherited {
    engine: Engine,
    instance: Instance,
}

extern "C" fn be_a_forked_child(data: *mut c_void) -> ! {
    // SAFETY: the parent passes the address of an `Inherited`, of which this process has a copy
    // that nobody else drops: it leaves by `exit_group`.
    let inherited = unsafe { data.cast::<Inherited>().read() };
    let Inherited {
        engine,
        mut instance,
    } = inherited;
    let forked = Blame::Caller(Misuse::Forked);
    let module = instance.module().clone();
    let refused = instance
        .call(module.entry(), &[])
        .is_err_and(|error| error.blame == forked)
        && instance.run().is_err_and(|error| error.blame == forked)
        && engine
            .instantiate(&module)
            .is_err_and(|error| error.blame == forked);
    drop(instance);
    drop(engine);
    exit_group(i32::from(!refused))
}

#[test]
fn a_forked_child_neither_runs_nor_kills_what_is_not_its_own() {
    alone(
        "host::a_forked_child_neither_runs_nor_kills_what_is_not_its_own",
        || {
            let engine = engine();
            let instance = start(&engine, |code| {
                code.mov(rax, 4i64).unwrap();
                code.ret().unwrap();
            });
            let mut inherited = Inherited { engine, instance };
            let args = CloneArgs {
                flags: CloneFlags::PIDFD,
                ..CloneArgs::default()
            };
            let data = (&raw mut inherited).cast::<c_void>();
            // SAFETY: the child works on its copy of this memory and ends by itself. The only other
            // thread of this process, besides the engine's, waits for this one to end.
            let child = unsafe { clone_copy(&args, None, be_a_forked_child, data) }.unwrap();
            let ended = waitid_pidfd(child.pidfd.unwrap(), WaitFlags::ALL).unwrap();
            assert_eq!(ended, Some(WaitStatus::Exited(0)));
            let Inherited {
                engine,
                mut instance,
            } = inherited;
            call(&mut instance, &[]);
            assert_eq!(instance.run().unwrap(), Interrupt::Finished(4));
            let module = instance.module().clone();
            engine.instantiate(&module).unwrap();
        },
    );
}
