#![expect(unsafe_code, reason = "calls mlockall, for which there is no wrapper")]
//! The embedder's process stays its own: no handlers, no change to what the kernel thinks of it.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use cellwall::{Death, Interrupt};
use iced_x86::code_asm::rax;
use linux_raw::nr::Nr;
use linux_raw::{Errno, arch, prctl};

use crate::harness::{DEATH_NOTICED, call, engine, eventually, exists, parts, start};

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
    if std::env::var_os("CELLWALL_TEST_IGNORES").is_some() {
        return die_unseen();
    }
    let test = std::env::current_exe().unwrap();
    let run = Command::new("env")
        .arg("--ignore-signal=CHLD")
        .arg(test)
        .args(["--exact", "host::an_embedder_that_ignores_its_children"])
        .env("CELLWALL_TEST_IGNORES", "1")
        .output()
        .expect("env, of coreutils");
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && text.contains("1 passed"), "{text}");
}

fn die_unseen() {
    assert_eq!(
        own_status("SigIgn:").chars().rev().nth(4),
        Some('1'),
        "SIGCHLD is ignored"
    );
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
}

/// A host under another scheduling policy does not have guests under it. Batch scheduling stands
/// for the real-time policies, which only root may choose.
#[test]
fn a_worker_has_the_normal_scheduling_policy() {
    if std::env::var_os("CELLWALL_TEST_BATCH").is_some() {
        return look_at_the_policies();
    }
    let run = Command::new("chrt")
        .args(["--batch", "0"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "host::a_worker_has_the_normal_scheduling_policy"])
        .env("CELLWALL_TEST_BATCH", "1")
        .output()
        .expect("chrt, of util-linux");
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && text.contains("1 passed"), "{text}");
}

fn look_at_the_policies() {
    let policy = |path: String| {
        let stat = fs::read_to_string(path).unwrap();
        // Field 41 of proc_pid_stat(5); the name in field 2 may hold spaces.
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        rest.split(' ').nth(41 - 3).unwrap().to_owned()
    };
    let engine = engine();
    let worker = start(&engine, |code| code.ret().unwrap());
    assert_eq!(
        policy("/proc/self/stat".into()),
        "3",
        "the host runs as a batch job"
    );
    assert_eq!(policy(format!("/proc/{}/stat", worker.process_id())), "0");
}

/// A host that locks all of its memory pays for the pages that guests touch, and for no others.
#[test]
fn locked_memory_is_not_filled() {
    if std::env::var_os("CELLWALL_TEST_LOCKS").is_none() {
        let run = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "host::locked_memory_is_not_filled"])
            .env("CELLWALL_TEST_LOCKS", "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&run.stdout);
        return assert!(run.status.success() && text.contains("1 passed"), "{text}");
    }
    lock_what_is_mapped_from_now_on();
    let engine = engine();
    let module = parts(&[0xc3]).build(&engine).unwrap();
    match engine.instantiate(&module) {
        Ok(mut instance) => {
            call(&mut instance, &[]);
            assert!(matches!(instance.run().unwrap(), Interrupt::Finished(_)));
        }
        // An ordinary user may lock only so much, whether it is touched or not.
        Err(error) => {
            assert!(
                error.to_string().contains("mmap failed with EAGAIN"),
                "{error}"
            );
            assert!(error.to_string().contains("RLIMIT_MEMLOCK"), "{error}");
        }
    }
    let peak = own_status("VmHWM:");
    let kibibytes: u64 = peak.split(' ').next().unwrap().parse().unwrap();
    assert!(kibibytes < 512 << 10, "{peak} at the most");
}

fn lock_what_is_mapped_from_now_on() {
    const MCL_FUTURE: u32 = 2;
    let mlockall = Nr::from_raw(151);
    // SAFETY: the call takes a number and changes no memory's contents.
    let answer = unsafe { arch::syscall1(mlockall, MCL_FUTURE.into()) };
    answer
        .done()
        .expect("mlockall, for which RLIMIT_MEMLOCK must not be 0");
}
