//! The wall as an operator sees it: a live worker, looked at from outside; and the calls that a
//! guest can still make, tried from inside.

use std::fs;

use cellwall::{Engine, Instance, Interrupt, Layer, Standing, Tier, TrapKind};
use iced_x86::code_asm::{CodeAssembler, eax, r8, r9, r10, rax, rcx, rdi, rdx, rsi};

use crate::harness::{DATA, both, call, config, engine, is_nursed, proc, start, status, tier};

/// A worker that waits in a hostcall: a guest has run in it.
fn live() -> Instance {
    live_in(&engine())
}

fn live_in(engine: &Engine) -> Instance {
    let mut instance = start(engine, |code| {
        code.mov(rax, cellwall::abi::HOSTCALL).unwrap();
        code.call(rax).unwrap();
        code.ret().unwrap();
    });
    call(&mut instance, &[]);
    assert!(matches!(instance.run().unwrap(), Interrupt::Hostcall(_)));
    instance
}

#[test]
fn no_privileges() {
    let worker = live();
    for (set, layer) in [
        ("CapInh", Layer::Capabilities),
        ("CapPrm", Layer::Capabilities),
        ("CapEff", Layer::Capabilities),
        ("CapAmb", Layer::Capabilities),
        ("CapBnd", Layer::BoundingSet),
    ] {
        let is_empty = status(&worker, set) == "0000000000000000";
        assert!(is_empty || !layer.is_in(tier()), "{set}");
    }
    assert_eq!(status(&worker, "NoNewPrivs"), "1");
    assert_eq!(status(&worker, "Seccomp"), "2");
    assert_eq!(status(&worker, "Threads"), "1");
    assert_eq!(status(&worker, "Name"), "cellwall-worker");
}

#[test]
fn no_descriptors() {
    let worker = live();
    let path = format!("/proc/{}/fd", worker.process_id());
    assert_eq!(fs::read_dir(path).unwrap().count(), 0);
}

const NAMESPACES: [&str; 7] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];

/// A namespace of a process's, by what the kernel calls it.
fn namespace(process: &str, kind: &str) -> String {
    let link = fs::read_link(format!("/proc/{process}/ns/{kind}")).unwrap();
    link.to_str().unwrap().to_owned()
}

/// The last of a worker's numbers: that in its innermost pid namespace.
fn innermost(worker: &Instance) -> u32 {
    let numbers = status(worker, "NSpid");
    numbers.split_whitespace().last().unwrap().parse().unwrap()
}

#[test]
fn no_namespace_of_the_host_s() {
    both(|config| {
        let engine = Engine::new(config).unwrap();
        let (one, other) = (live_in(&engine), live_in(&engine));
        let numbers = [&one, &other].map(|worker| worker.process_id().to_string());
        for kind in NAMESPACES {
            let host = namespace("self", kind);
            let theirs = [&numbers[0], &numbers[1]].map(|worker| namespace(worker, kind));
            let differ = theirs.iter().all(|theirs| *theirs != host);
            assert_eq!(differ, tier() == Tier::Full, "{kind}");
            // Siblings share those of their nursery.
            let same = theirs[0] == theirs[1];
            assert_eq!(same, is_nursed(config) || tier() != Tier::Full, "{kind}");
            if is_nursed(config) {
                let nursery = status(&one, "PPid");
                assert_eq!(namespace(&nursery, kind), theirs[0], "{kind}");
            }
        }
        let first = [innermost(&one), innermost(&other)];
        if is_nursed(config) {
            // The nursery is the first process.
            assert!(first.iter().all(|number| *number > 1), "{first:?}");
            assert_ne!(first[0], first[1]);
        } else if tier() == Tier::Full {
            assert_eq!(first, [1, 1], "each is the only process of its namespace");
        }
    });
}

#[test]
fn an_empty_root() {
    let worker = live();
    let standing = worker.layers().standing(Layer::EmptyRoot);
    if tier() != Tier::Full {
        return assert_eq!(standing, Standing::Off);
    }
    assert_eq!(standing, Standing::InForce);
    let root = format!("/proc/{}/root", worker.process_id());
    assert_eq!(fs::read_dir(root).unwrap().count(), 0);
    let mounts = proc(&worker, "mountinfo");
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    assert!(mounts.contains(" / / ro,nosuid,nodev,noexec"), "{mounts}");
}

#[test]
fn exactly_these_mappings() {
    both(|config| are_exact(&live_in(&Engine::new(config).unwrap())));
}

fn are_exact(worker: &Instance) {
    let maps = proc(worker, "maps");
    let found: Vec<String> = maps
        .lines()
        .map(|line| {
            line.split_whitespace()
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .filter(|line| !line.starts_with("ffffffffff600000"))
        .collect();
    let memory: &[&str] = if engine().can_change_maps() {
        &[
            "00010000-00020000 rw-s",  // the host's to fill
            "00020000-00030000 rw-s",  // the module's data, which the kernel fills
            "00030000-00040000 rw-s",  // the host's to fill
            "00040000-00041000 r--s",  // the module's constants
            "00041000-00100000 rw-s",  // the host's to fill
            "00100000-00110000 rw-s",  // the module's stack
            "00110000-100000000 rw-s", // the host's to fill
        ]
    } else {
        &[
            "00020000-00030000 rw-s",
            "00040000-00041000 r--s",
            "00100000-00110000 rw-s",
        ]
    };
    let others = [
        "140000000-140005000 r-xp", // the zygote's text
        "140005000-140006000 r--p", // and constants
        "140180000-140196000 rw-s", // signal frames, its stack, the turn page, the guest page
        "140196000-140197000 r--s", // the host page
        "180000000-180001000 r-xs", // the module's code
    ];
    let expected: Vec<&str> = memory.iter().chain(&others).copied().collect();
    assert_eq!(found, expected, "{maps}");
}

#[test]
fn limits_on_everything() {
    let worker = live();
    let limits = proc(&worker, "limits");
    for name in [
        "Max file size",
        "Max data size",
        "Max core file size",
        "Max processes",
        "Max open files",
        "Max locked memory",
        "Max msgqueue size",
    ] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let values: Vec<&str> = line[name.len()..].split_whitespace().take(2).collect();
        assert_eq!(values, ["0", "0"], "{line}");
    }
}

#[test]
fn no_signal_state_of_the_host_s() {
    let worker = live();
    assert_eq!(status(&worker, "SigBlk"), "0000000000000000");
    assert_eq!(status(&worker, "SigIgn"), "0000000000000000");
    // ILL (4), TRAP (5), BUS (7), FPE (8), USR1 (10), SEGV (11), USR2 (12).
    assert_eq!(status(&worker, "SigCgt"), "0000000000000ed8");
}

/// Emits `syscall` with the number in `rdi` and four arguments.
fn forward(code: &mut CodeAssembler) {
    code.mov(rax, rdi).unwrap();
    code.mov(rdi, rsi).unwrap();
    code.mov(rsi, rdx).unwrap();
    code.mov(rdx, rcx).unwrap();
    code.mov(r10, r8).unwrap();
    code.mov(r8, r9).unwrap();
    code.xor(r9, r9).unwrap();
    code.syscall().unwrap();
    code.ret().unwrap();
}

/// What becomes of a system call that a guest makes itself.
fn system_call(args: &[u64]) -> Interrupt {
    let engine = engine();
    let mut instance = start(&engine, forward);
    call(&mut instance, args);
    instance.run().unwrap()
}

fn is_forbidden(interrupt: Interrupt) -> bool {
    matches!(interrupt, Interrupt::Trap(trap) if trap.kind == TrapKind::ForbiddenCall)
}

const STATE_WORD: u64 = cellwall::abi::TURN_LINE;
const FUTEX: u64 = 202;
const URETPROBE: u64 = 335;
const UPROBE: u64 = 336;

#[test]
fn three_calls_are_left() {
    // sched_yield
    assert_eq!(system_call(&[24]), Interrupt::Finished(0));
    // futex: wait for a value that is not there (EAGAIN), wake nobody.
    let again = (-11i64).cast_unsigned();
    assert_eq!(
        system_call(&[FUTEX, STATE_WORD, 0, 0xffff]),
        Interrupt::Finished(again)
    );
    // Whom it may wake is the host.
    let woken = system_call(&[FUTEX, STATE_WORD, 1, 1]);
    assert!(matches!(woken, Interrupt::Finished(0 | 1)), "{woken}");
    // exit_group
    let died = system_call(&[231, 3]);
    assert_eq!(died, Interrupt::Died(cellwall::Death::Exited(3)));
}

#[test]
fn futex_is_for_one_word_without_a_timeout() {
    for args in [
        [FUTEX, DATA, 0, 0xffff, 0],                  // another word
        [FUTEX, STATE_WORD + 4, 0, 0xffff, 0],        // its neighbour
        [FUTEX, STATE_WORD | 1 << 40, 1, 1, 0],       // the upper half
        [FUTEX, STATE_WORD & 0xffff_ffff, 1, 1, 0],   // only the lower half
        [FUTEX, STATE_WORD, 0, 0xffff, DATA],         // a timeout
        [FUTEX, STATE_WORD, 1 << 7, 0xffff, 0],       // private
        [FUTEX, STATE_WORD, 3, 1, 0],                 // requeue
        [FUTEX, STATE_WORD, 9, 0xffff, 0],            // wait_bitset
        [FUTEX, STATE_WORD, 1 << 32, 0xffff, 0],      // an operation's upper half
        [FUTEX | 1 << 32, STATE_WORD, 1 << 40, 1, 0], // a number's upper half changes nothing
    ] {
        assert!(is_forbidden(system_call(&args)), "{args:x?}");
    }
}

#[test]
fn every_other_call_kills() {
    let engine = engine();
    for number in (0..470).filter(|number| ![24, FUTEX, 231].contains(number)) {
        let mut instance = start(&engine, forward);
        call(&mut instance, &[number, 0, 0, 0, 0, 0]);
        let interrupt = instance.run().unwrap();
        let stopped = match (number, interrupt) {
            // The kernel never asks a filter about these two and judges itself: outside its own
            // trampolines uretprobe raises SIGILL (since Linux 6.14) and uprobe does nothing but
            // answer ENXIO (since 6.18), or EPROTO (7.3; arch/x86/kernel/uprobes.c,
            // kernel/seccomp.c).
            (URETPROBE, Interrupt::Trap(trap)) => {
                [TrapKind::ForbiddenCall, TrapKind::IllegalInstruction].contains(&trap.kind)
            }
            (UPROBE, Interrupt::Finished(answer)) => [-6, -71].contains(&answer.cast_signed()),
            (_, other) => is_forbidden(other),
        };
        assert!(stopped, "call {number}: {interrupt}");
    }
}

/// For people who debug a code generator: a forbidden call tells its number and place, and the
/// instance goes on. Numbers of another kind kill all the same.
#[test]
fn a_forbidden_call_can_be_reported() {
    const GETPID: u64 = 39;
    const X32: u64 = 1 << 30;
    let engine = Engine::new(&config().report_forbidden_calls(true)).unwrap();
    let mut instance = start(&engine, forward);
    for number in [GETPID, URETPROBE - 1, 0] {
        call(&mut instance, &[number]);
        let Interrupt::Trap(trap) = instance.run().unwrap() else {
            panic!("call {number} is no trap");
        };
        assert_eq!(trap.kind, TrapKind::ForbiddenCall);
        assert_eq!(trap.call.map(u64::from), Some(number));
        assert!(
            trap.pc
                .is_some_and(|pc| cellwall::abi::CODE_WINDOW.contains(&pc))
        );
        // What is allowed goes on.
        call(&mut instance, &[24]);
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(0));
    }
    call(&mut instance, &[X32 | GETPID]);
    let killed = instance.run().unwrap();
    assert!(is_forbidden(killed) && !instance.is_alive(), "{killed}");
}

#[test]
fn other_doors_to_the_kernel_kill() {
    let engine = engine();
    // getpid of i386 by `int 0x80`, under the number of an x86-64 call that is allowed, too.
    for number in [20u32, 24, 202, 231] {
        let mut instance = start(&engine, |code| {
            code.mov(eax, number).unwrap();
            code.int(0x80).unwrap();
            code.ret().unwrap();
        });
        call(&mut instance, &[]);
        let interrupt = instance.run().unwrap();
        // A kernel without 32-bit calls answers with a general protection fault.
        let stopped = matches!(interrupt, Interrupt::Trap(_));
        assert!(stopped, "int 0x80 with {number}: {interrupt}");
    }
    // The x32 numbers.
    for number in [0x4000_0000u64, 0x4000_0018, 0x4000_00ca, 0x4000_00e7] {
        assert!(is_forbidden(system_call(&[number])), "{number:#x}");
    }
    // The vsyscall page: gettimeofday, time, getcpu.
    for address in [
        0xffff_ffff_ff60_0000u64,
        0xffff_ffff_ff60_0400,
        0xffff_ffff_ff60_0800,
    ] {
        let mut instance = start(&engine, |code| {
            code.mov(rax, address).unwrap();
            code.call(rax).unwrap();
            code.ret().unwrap();
        });
        call(&mut instance, &[]);
        let interrupt = instance.run().unwrap();
        assert!(
            matches!(interrupt, Interrupt::Trap(_)),
            "{address:#x}: {interrupt}"
        );
    }
}
