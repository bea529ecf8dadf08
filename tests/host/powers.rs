#![expect(unsafe_code, reason = "makes a system call that has no wrapper")]
//! Hosts that lack what it takes to end a worker, or give it up.

use std::time::Duration;

use cellwall::{
    Blame, Engine, Errno, Error, Feature, Interrupt, Kernel, Misuse, Module, Obstacle, Support,
    Tier,
};
use iced_x86::code_asm::CodeAssembler;
use linux_raw::arg::Arg;
use linux_raw::cred::Capability;
use linux_raw::nr::Nr;
use linux_raw::seccomp::{Program, Refusal, compile_refusing, length_refusing};
use linux_raw::{arch, nr, prctl};

use super::identity::has;
use super::own_status;
use crate::harness::{
    adopt_orphans, alone, alone_under, call, child_processes, config, engine, eventually, exists,
    forbid, proc, start, tier,
};

fn endless(code: &mut CodeAssembler) {
    let mut again = code.create_label();
    code.set_label(&mut again).unwrap();
    code.jmp(again).unwrap();
}

/// Who cannot kill would have workers that no deadline ends and that outlive it.
#[test]
fn a_host_that_may_not_kill_its_workers_has_none() {
    const TEST: &str = "host::powers::a_host_that_may_not_kill_its_workers_has_none";
    if !has(Capability::SETPCAP) || !has(Capability::SETUID) {
        return absence::absent("root", "an ordinary user's workers are its own");
    }
    let without = ["setpriv", "--bounding-set=-kill", "--inh-caps=-kill"];
    alone_under(&without, TEST, || {
        assert!(!has(Capability::KILL));
        let refused = Engine::new(&config().tier(Tier::WithoutNamespaces)).map(drop);
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("CAP_KILL"), "{text}");
    });
}

const NO_SIGNALS: &[Refusal] = &[Refusal {
    call: nr::PIDFD_SEND_SIGNAL,
    when: &[],
    errno: Errno::EPERM,
}];
static FILTER: Program<{ length_refusing(NO_SIGNALS) }> = compile_refusing(NO_SIGNALS);

/// A thread that gives up the right to kill after the start is told so, and never that its worker
/// was killed; the engine's thread, which has kept it, does it.
#[test]
fn a_thread_that_gives_up_its_powers_is_told() {
    alone(
        "host::powers::a_thread_that_gives_up_its_powers_is_told",
        || {
            // It is told at once, and not when a guest that cannot hear has had its time to stop.
            let never = Duration::from_secs(3600);
            let engine = Engine::new(&config().stop_timeout(never)).unwrap();
            let mut instance = start(&engine, endless);
            let worker = instance.process_id();
            instance.set_deadline(Duration::from_millis(50));
            call(&mut instance, &[]);
            forbid(&FILTER);
            let refused = instance.run().unwrap_err();
            let expected = Blame::Kernel {
                call: "pidfd_send_signal",
                errno: Errno::EPERM,
            };
            assert_eq!(refused.blame, expected, "{refused}");
            eventually(
                Duration::from_secs(2),
                "the engine's thread kills it",
                || !exists(worker),
            );
            let over = instance.run().unwrap_err();
            assert_eq!(over.blame, Blame::Caller(Misuse::Over), "{over}");
            drop(instance);
            assert_eq!(engine.metrics().kills.unresponsive, 1);
        },
    );
}

/// Pages of a worker are merged with nobody's, though its host's are.
#[test]
fn a_host_whose_pages_are_merged() {
    alone("host::powers::a_host_whose_pages_are_merged", || {
        match prctl::set_memory_merge(true) {
            Ok(()) => {}
            Err(Errno::EPERM) => return absence::absent("root", "only root merges pages"),
            Err(errno) => return absence::absent("ksm", errno),
        }
        let engine = engine();
        let worker = start(&engine, |code| code.ret().unwrap());
        let maps = proc(&worker, "smaps");
        let merged = maps
            .lines()
            .filter(|line| line.starts_with("VmFlags:") && line.contains(" mg"));
        assert_eq!(merged.count(), 0, "{maps}");
    });
}

const fn no_ports(errno: Errno) -> [Refusal; 2] {
    [refused(nr::IOPL, errno), refused(nr::IOPERM, errno)]
}
const NOT_PERMITTED: &[Refusal] = &no_ports(Errno::EPERM);
static EPERM: Program<{ length_refusing(NOT_PERMITTED) }> = compile_refusing(NOT_PERMITTED);
/// As a kernel says that has none.
const NO_SUCH_CALL: &[Refusal] = &no_ports(Errno::ENOSYS);
static ENOSYS: Program<{ length_refusing(NO_SUCH_CALL) }> = compile_refusing(NO_SUCH_CALL);

/// What taking I/O ports takes.
const RAWIO: Capability = Capability::from_raw(17);

const NO_TRACING: &[Refusal] = &[refused(nr::PTRACE, Errno::EPERM)];
static UNTRACED: Program<{ length_refusing(NO_TRACING) }> = compile_refusing(NO_TRACING);

const fn refused(call: Nr, errno: Errno) -> Refusal {
    Refusal {
        call,
        when: &[],
        errno,
    }
}

/// On a thread of its own, behind a filter that forbids to give ports up with each errno.
fn behind_each_filter(test: impl Fn(Errno) + Copy + Send) {
    std::thread::scope(|scope| {
        scope.spawn(move || {
            forbid(&EPERM);
            test(Errno::EPERM);
        });
        scope.spawn(move || {
            forbid(&ENOSYS);
            test(Errno::ENOSYS);
        });
    });
}

fn started(tier: Tier) -> Result<(), Error> {
    let engine = Engine::new(&config().tier(tier))?;
    let module = Module::builder().code(b"\xc3").stack(0x10_0000, 0x1000);
    engine.instantiate(&module.build(&engine)?).map(drop)
}

/// What the probe finds behind the same filter.
fn io_ports() -> Support {
    let kernel = Kernel::probe();
    let mut findings = kernel.findings().iter();
    let found = findings.find(|finding| finding.feature == Feature::IoPorts);
    found.unwrap().support.clone()
}

/// Whoever cannot show that it has no port has no workers, and the probe knows.
fn is_refused(errno: Errno) {
    let filter = Support::Forbidden(Obstacle::Filter(errno));
    assert_eq!(io_ports(), filter);
    let expected = Blame::Kernel {
        call: nr::IOPL.name(),
        errno,
    };
    let refused = started(tier()).unwrap_err();
    assert_eq!(refused.blame, expected, "{refused}");
    assert!(refused.to_string().contains("allow ptrace"), "{refused}");
}

/// As container engines' default profiles are: whoever has no port need not give it up.
#[test]
fn a_host_that_may_not_give_up_what_it_has_not() {
    const TEST: &str = "host::powers::a_host_that_may_not_give_up_what_it_has_not";
    alone(TEST, || {
        adopt_orphans();
        behind_each_filter(|_| {
            assert_eq!(io_ports(), Support::Present);
            for tier in [Tier::WithoutNamespaces, tier()] {
                started(tier).unwrap();
            }
        });
        assert_eq!(child_processes(), [], "the proof leaves nobody behind");
        // Without the proof it might have.
        forbid(&UNTRACED);
        behind_each_filter(is_refused);
    });
}

/// Whoever took ports before such a filter came has no workers: they would have them too.
#[test]
fn a_host_that_may_not_give_up_what_it_has() {
    const TEST: &str = "host::powers::a_host_that_may_not_give_up_what_it_has";
    const ALL_PORTS: u32 = 3;
    alone(TEST, || {
        // SAFETY: nothing is passed but numbers: the port is the one that boards show progress by.
        let one = unsafe { arch::syscall3(nr::IOPERM, 0x80u32.into(), 1u32.into(), 1u32.into()) };
        match one.done() {
            Ok(()) => {}
            Err(errno) if !has(RAWIO) => return absence::absent("cap-sys-rawio", errno),
            Err(errno) => return absence::absent("ports", errno),
        }
        behind_each_filter(is_refused);
        linux_raw::ports::give_up_each().unwrap();
        // SAFETY: nothing is passed but a number, and no code here uses a port.
        let all = unsafe { arch::syscall1(nr::IOPL, ALL_PORTS.into()) };
        all.done().unwrap();
        behind_each_filter(is_refused);
    });
}

/// A host that reaches I/O ports keeps them to itself.
#[test]
fn a_host_with_ports() {
    alone("host::powers::a_host_with_ports", || {
        const POST: u32 = 0x80;
        let ioperm: Nr = nr::IOPERM;
        // SAFETY: nothing is passed but numbers: the port is the one that boards show progress by.
        let asked = unsafe { arch::syscall3(ioperm, POST.into(), Arg::from(1u32), 1u32.into()) };
        match asked.done() {
            Ok(()) => {}
            Err(errno) if !has(RAWIO) => return absence::absent("cap-sys-rawio", errno),
            Err(errno) => return absence::absent("ports", errno),
        }
        assert!(!own_status("CapEff:").is_empty());
        let engine = engine();
        let mut instance = start(&engine, |code| {
            use iced_x86::code_asm::{al, rax};
            code.xor(rax, rax).unwrap();
            code.out(POST, al).unwrap();
            code.ret().unwrap();
        });
        call(&mut instance, &[]);
        let interrupt = instance.run().unwrap();
        assert!(matches!(interrupt, Interrupt::Trap(_)), "{interrupt}");
    });
}
