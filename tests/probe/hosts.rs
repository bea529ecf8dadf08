//! The probe in hosts that are unlike others.

use std::fs;

use cellwall::{Config, Engine, Errno, Feature, Kernel, Manager, Obstacle, Support, Tier};
use linux_raw::cred::{setresgid, setresuid};
use linux_raw::nr;
use linux_raw::prctl;
use linux_raw::process::{Resource, get_limit, geteuid, set_limit};
use linux_raw::seccomp::bpf::{Assembler, Target};
use linux_raw::seccomp::{
    ALLOW, InstallFlags, Instruction, KILL_PROCESS, Program, Refusal, compile_refusing, install,
    length_refusing,
};
use linux_raw::signal::Signal;
use tempfile::TempDir;

use super::container::NO_CLONE3;
use super::{PROFILE, finding, forbidden};
use crate::harness::forked::in_a_child;
use crate::harness::{alone, alone_under, children, forbid};

/// A filter with this answer to these calls.
pub(super) const fn answering<const N: usize>(calls: &[nr::Nr], answer: u32) -> [Instruction; N] {
    let mut filter = Assembler::new();
    let found = filter.label();
    filter.load(0); // the call's number
    let mut index = 0;
    while index < calls.len() {
        filter.if_equal(calls[index].raw(), Target::To(found), Target::Next);
        index += 1;
    }
    filter.answer(ALLOW);
    filter.place(found);
    filter.answer(answer);
    filter.finish()
}

const UNAME: nr::Nr = nr::Nr::from_raw(linux_raw::sys::general::__NR_uname);
static KILLS: [Instruction; 7] = answering(
    &[nr::CLONE3, nr::IO_URING_SETUP, nr::MSEAL, UNAME],
    KILL_PROCESS,
);
/// `SECCOMP_RET_ERRNO` with none: nothing is done, and that is called a success.
static LIES: [Instruction; 5] = answering(&[nr::CLOSE_RANGE, nr::MSEAL], 0x0005_0000);

const OLD: [Refusal; 2] = [NO_CLONE3, forbidden(nr::LANDLOCK_CREATE_RULESET)];
static NO_LANDLOCK: Program<{ length_refusing(&OLD) }> = compile_refusing(&OLD);

const REGISTER: [Refusal; 1] = [forbidden(nr::IO_URING_REGISTER)];
static NO_REGISTER: Program<{ length_refusing(&REGISTER) }> = compile_refusing(&REGISTER);
const ENTER: [Refusal; 1] = [forbidden(nr::IO_URING_ENTER)];
static NO_ENTER: Program<{ length_refusing(&ENTER) }> = compile_refusing(&ENTER);

/// One that ignores `SIGCHLD` hands that down to its children, whose own then leave no status.
#[test]
fn one_that_ignores_its_children() {
    let ignoring = ["env", "--ignore-signal=CHLD"];
    alone_under(
        &ignoring,
        "probe::hosts::one_that_ignores_its_children",
        || {
            let kernel = Kernel::probe();
            let lost = Support::Absent(Errno::ECHILD);
            for finding in kernel.findings() {
                assert_ne!(finding.support, lost, "{finding:?}");
            }
            assert_eq!(children(), 0);
        },
    );
}

/// A thread's name is any bytes, and stands in `/proc/thread-self/status` before all else.
#[test]
fn one_whose_thread_has_a_name_that_is_no_text() {
    alone(
        "probe::hosts::one_whose_thread_has_a_name_that_is_no_text",
        || {
            prctl::set_name(c"fadenk\xc3").unwrap();
            forbid(&PROFILE);
            let kernel = Kernel::probe();
            assert!(kernel.surroundings().seccomp_filters > 0);
            assert!(kernel.surroundings().no_new_privs);
            assert_eq!(
                finding(&kernel, Feature::Clone3).support,
                Support::Forbidden(Obstacle::Filter(Errno::ENOSYS))
            );
        },
    );
}

/// Only the trial dies, and leaves no picture of this process on the disk.
#[test]
fn one_under_a_filter_that_kills() {
    alone("probe::hosts::one_under_a_filter_that_kills", || {
        let before = Kernel::probe();
        let folder = TempDir::new().unwrap();
        std::env::set_current_dir(folder.path()).unwrap();
        let most = get_limit(Resource::Core).unwrap().hard;
        set_limit(Resource::Core, most, most).unwrap();
        prctl::set_no_new_privs().unwrap();
        install(&KILLS, InstallFlags::empty()).unwrap();
        let kernel = Kernel::probe();
        let killed = Support::Forbidden(Obstacle::Killed(Signal::SYS));
        for feature in [Feature::Clone3, Feature::IoUring, Feature::Mseal] {
            if before.has(feature) {
                assert_eq!(finding(&kernel, feature).support, killed, "{feature:?}");
            }
        }
        assert!(kernel.has(Feature::Memfd));
        assert_eq!(kernel.release(), before.release());
        assert_eq!(get_limit(Resource::Core).unwrap().soft, most);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(children(), 0);
    });
}

/// A call that succeeds is not believed, where its effect can be seen.
#[test]
fn one_under_a_filter_that_lies() {
    alone("probe::hosts::one_under_a_filter_that_lies", || {
        let before = Kernel::probe();
        prctl::set_no_new_privs().unwrap();
        install(&LIES, InstallFlags::empty()).unwrap();
        let kernel = Kernel::probe();
        for feature in [Feature::CloseRange, Feature::Mseal] {
            if before.has(feature) {
                let found = finding(&kernel, feature);
                assert_eq!(found.support, Support::Absent(Errno::EPROTO), "{feature:?}");
            }
        }
    });
}

/// What of this process a trial's end, or its making, could change.
fn standing() -> (String, usize) {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let signals = ["SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:"];
    let lines = status
        .lines()
        .filter(|line| signals.iter().any(|key| line.starts_with(key)));
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let shared = maps.lines().filter(|line| line.contains("/dev/zero"));
    (lines.collect(), shared.count())
}

/// A signal for each trial's end would be pending here, and the page that each shares still mapped.
#[test]
fn one_that_blocks_signals_gets_none() {
    let blocking = ["env", "--block-signal=CHLD"];
    alone_under(
        &blocking,
        "probe::hosts::one_that_blocks_signals_gets_none",
        || {
            let before = standing();
            assert!(before.0.contains("SigBlk:\t0000000000010000"), "{before:?}");
            let _ = Kernel::probe();
            assert_eq!(standing(), before);
        },
    );
}

/// A ring is what an engine's thread makes of it: what only others need is told, and not missed.
#[test]
fn one_that_may_use_half_a_ring() {
    alone("probe::hosts::one_that_may_use_half_a_ring", || {
        let before = Kernel::probe();
        if !before.has(Feature::IoUring) {
            return absence::absent("io_uring", "there is no half of it");
        }
        forbid(&NO_REGISTER);
        let kernel = Kernel::probe();
        let ring = finding(&kernel, Feature::IoUring);
        assert_eq!(ring.support, Support::Present);
        let detail = ring.detail().unwrap();
        assert!(detail.contains("plain calls, for want of Read"), "{detail}");
        // Where no engine can run, it is not for the ring.
        let can_run = kernel.can_run(Tier::Full);
        assert_eq!(can_run, before.can_run(Tier::Full));
        let told = Engine::new(&Config::default().kernel(kernel));
        let told = told.and_then(|engine| engine.layers().map(drop));
        assert_eq!(told.is_ok(), can_run, "{told:?}");
        forbid(&NO_ENTER);
        let filter = Support::Forbidden(Obstacle::Filter(Errno::EPERM));
        assert_eq!(finding(&Kernel::probe(), Feature::IoUring).support, filter);
    });
}

/// Who has put a filter there is told by a trace, and named in the advice for each finding.
#[test]
fn one_in_a_pod() {
    let pod = ["env", "KUBERNETES_SERVICE_HOST=10.0.0.1"];
    alone_under(&pod, "probe::hosts::one_in_a_pod", || {
        forbid(&PROFILE);
        let kernel = Kernel::probe();
        assert_eq!(kernel.surroundings().manager, Some(Manager::Kubernetes));
        for feature in [Feature::UserNamespace, Feature::IoUring] {
            let advice = finding(&kernel, feature).advice().unwrap();
            assert!(
                advice.contains("securityContext.seccompProfile"),
                "{advice}"
            );
            // Not every chroot shows, and it refuses in the same way.
            let is_told = advice.contains("chroot");
            assert_eq!(is_told, feature == Feature::UserNamespace, "{advice}");
        }
    });
}

/// What rests on something that is missing is not tried, and blamed on that.
#[test]
fn one_without_what_others_rest_on() {
    alone("probe::hosts::one_without_what_others_rest_on", || {
        forbid(&NO_LANDLOCK);
        let kernel = Kernel::probe();
        for (feature, base) in [
            (Feature::LandlockNetwork, Feature::Landlock),
            (Feature::LandlockScopes, Feature::Landlock),
            (Feature::ClonesIntoCgroup, Feature::Clone3),
            (Feature::Cgroup, Feature::ClonesIntoCgroup),
        ] {
            assert!(!kernel.has(base));
            let lacks = Support::Forbidden(Obstacle::Lacks(base));
            assert_eq!(finding(&kernel, feature).support, lacks);
        }
    });
}

/// A daemon that began as root is none until its next exec, and its files in `/proc` are root's.
#[test]
fn one_that_is_not_dumpable() {
    alone("probe::hosts::one_that_is_not_dumpable", || {
        in_a_child(|| {
            if geteuid() == 0 {
                setresgid(USER).unwrap();
                setresuid(USER).unwrap();
            } else {
                prctl::set_dumpable(false).unwrap();
            }
            let kernel = Kernel::probe();
            assert_eq!(kernel.surroundings().dumpable, Some(false));
            assert!(kernel.surroundings().to_string().contains("not dumpable"));
            let found = finding(&kernel, Feature::IdMaps);
            let expected = if kernel.has(Feature::UserNamespace) {
                Obstacle::NotDumpable
            } else {
                Obstacle::Lacks(Feature::UserNamespace)
            };
            let advice = found.advice().unwrap();
            let is_told = found.support == Support::Forbidden(Obstacle::NotDumpable);
            assert_eq!(advice.contains("PR_SET_DUMPABLE"), is_told, "{advice}");
            assert_eq!(found.support, Support::Forbidden(expected));
            prctl::set_dumpable(true).unwrap();
            let again = Kernel::probe();
            assert_eq!(again.surroundings().dumpable, Some(true));
            let found = finding(&again, Feature::IdMaps);
            assert_ne!(found.support, Support::Forbidden(Obstacle::NotDumpable));
        });
    });
}

/// The user that a daemon becomes.
const USER: u32 = 12345;

/// Writing is refused by the limit before the seal is looked at.
#[test]
fn one_that_may_write_no_file() {
    let limited = ["env", "--ignore-signal=XFSZ", "prlimit", "--fsize=0"];
    alone_under(&limited, "probe::hosts::one_that_may_write_no_file", || {
        let kernel = Kernel::probe();
        let limit = Obstacle::Limit {
            name: "RLIMIT_FSIZE",
            value: 0,
            errno: Errno::EFBIG,
        };
        let found = finding(&kernel, Feature::Memfd);
        assert_eq!(found.support, Support::Forbidden(limit));
        assert!(found.advice().unwrap().contains("RLIMIT_FSIZE"));
    });
}
