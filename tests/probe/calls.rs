//! Filters that forbid one call: what is blamed on it, and nothing else.

use cellwall::{Errno, Feature, Finding, Kernel, Need, Obstacle, Support};
use linux_raw::nr::{self, Nr};
use linux_raw::ports;
use linux_raw::prctl;
use linux_raw::seccomp::{InstallFlags, KILL_PROCESS, install};
use linux_raw::sys::general;

use super::finding;
use super::hosts::answering;
use crate::harness::{alone, children};

/// `SECCOMP_RET_ERRNO` (include/uapi/linux/seccomp.h) with `EPERM`.
const FORBIDDEN: u32 = 0x0005_0001;
/// The same with `EINVAL`.
const INVALID: u32 = 0x0005_0016;

/// No engine makes these: the probe tries with them what Landlock's rules do.
const KILL: Nr = Nr::from_raw(general::__NR_kill);
const SOCKET: Nr = Nr::from_raw(general::__NR_socket);
const BIND: Nr = Nr::from_raw(general::__NR_bind);

/// Calls, and what cannot be had without. `iopl` and `ioperm` can be done without: `host::powers`.
const CASES: [(Nr, &[Feature]); 20] = [
    (nr::WRITE, &[Feature::IdMaps]),
    (nr::FCNTL, &[Feature::Memfd]),
    (nr::MEMFD_CREATE, &[Feature::Memfd]),
    (nr::CLOSE_RANGE, &[Feature::CloseRange]),
    (nr::PIDFD_OPEN, &[Feature::Pidfd]),
    (nr::PIDFD_SEND_SIGNAL, &[Feature::Pidfd]),
    (nr::EXECVEAT, &[Feature::ExecuteMemfd]),
    (nr::MEMBARRIER, &[Feature::Membarrier]),
    (nr::SECCOMP, &[Feature::SeccompFilter]),
    (nr::FCHDIR, &[Feature::EmptyRoot]),
    (nr::LANDLOCK_RESTRICT_SELF, &[Feature::Landlock]),
    (nr::IO_URING_SETUP, &[Feature::IoUring]),
    (nr::IO_URING_REGISTER, &[]), // an engine's ring asks for nothing
    (nr::MADVISE, &[Feature::IoUring]),
    (nr::USERFAULTFD, &[Feature::Userfaultfd]),
    (nr::MSEAL, &[Feature::Mseal]),
    (nr::IOCTL, &[Feature::Userfaultfd, Feature::PagemapScan]),
    (KILL, &[]),
    (SOCKET, &[]),
    (BIND, &[]),
];

/// What the probe finds on a thread that gets this answer to this call.
fn without(call: Nr, answer: u32) -> Kernel {
    std::thread::scope(|scope| {
        let probe = scope.spawn(|| {
            prctl::set_no_new_privs().unwrap();
            let filter = answering::<4>(&[call], answer);
            install(&filter, InstallFlags::empty()).unwrap();
            Kernel::probe()
        });
        probe.join().unwrap()
    })
}

/// What is missing by itself, and was there before.
fn lost<'a>(kernel: &'a Kernel, before: &Kernel) -> Vec<&'a Finding> {
    let causes = kernel.findings().iter().filter(|found| found.is_cause());
    causes.filter(|found| before.has(found.feature)).collect()
}

#[test]
fn each_call_is_missed_where_it_is_needed() {
    alone(
        "probe::calls::each_call_is_missed_where_it_is_needed",
        || {
            let before = Kernel::probe();
            for (call, needing) in CASES {
                let kernel = without(call, FORBIDDEN);
                let mut lost = lost(&kernel, &before);
                // Who has it, and by which of two ways, is not the same everywhere.
                lost.retain(|found| found.feature != Feature::UserfaultfdKernel);
                let features: Vec<Feature> = lost.iter().map(|found| found.feature).collect();
                let needing = needing.iter().copied();
                let expected: Vec<Feature> =
                    needing.filter(|feature| before.has(*feature)).collect();
                assert_eq!(features, expected, "{call:?}, {}", call.name());
                // Nobody is asked to allow what nothing uses.
                lost.retain(|found| found.feature.need() != Need::Unused);
                for found in lost {
                    let advice = found.advice().unwrap();
                    assert!(advice.contains(call.name()), "{}: {advice}", call.name());
                }
            }
        },
    );
}

/// A filter may kill for what no engine does, and the layer is there, if with less of a proof.
#[test]
fn no_layer_is_missed_for_calls_that_no_engine_makes() {
    alone(
        "probe::calls::no_layer_is_missed_for_calls_that_no_engine_makes",
        || {
            let before = Kernel::probe();
            for (call, feature) in [
                (KILL, Feature::LandlockScopes),
                (SOCKET, Feature::LandlockNetwork),
                (BIND, Feature::LandlockNetwork),
            ] {
                for answer in [FORBIDDEN, KILL_PROCESS] {
                    let kernel = without(call, answer);
                    assert_eq!(lost(&kernel, &before), Vec::<&Finding>::new());
                    let detail = finding(&kernel, feature).detail();
                    let says_so = detail.is_some_and(|detail| detail.contains("to try it with"));
                    assert_eq!(says_so, before.has(feature), "{answer:#x}");
                }
            }
        },
    );
}

/// `ptrace` is one of two ways: without a filter on the other it takes that one.
#[test]
fn ptrace_is_missed_where_ports_cannot_be_given_up() {
    alone(
        "probe::calls::ptrace_is_missed_where_ports_cannot_be_given_up",
        || {
            let before = Kernel::probe();
            let kernel = without(nr::PTRACE, FORBIDDEN);
            let can_give_up = ports::give_up_level().and(ports::give_up_each()).is_ok();
            assert_eq!(kernel.has(Feature::IoPorts), can_give_up);
            assert!(!kernel.has(Feature::Ptrace));
            for found in lost(&kernel, &before) {
                let known = [Feature::IoPorts, Feature::Ptrace];
                assert!(known.contains(&found.feature), "{found:?}");
            }
        },
    );
}

/// Nothing is tried, and nothing left behind, where no child can be had or waited for.
#[test]
fn without_children_nothing_is_tried() {
    alone("probe::calls::without_children_nothing_is_tried", || {
        let cases = [
            (nr::CLONE, FORBIDDEN, Errno::EPERM),
            (nr::WAITID, FORBIDDEN, Errno::EPERM),
            // As Linux 5.3 answers, which knows no wait by a descriptor.
            (nr::WAITID, INVALID, Errno::ENOSYS),
        ];
        for (call, answer, errno) in cases {
            let kernel = without(call, answer);
            for found in kernel.findings().iter().filter(|found| found.is_cause()) {
                let untried = Support::Forbidden(Obstacle::NoProcess(errno));
                assert_eq!(found.support, untried, "{:?}", found.feature);
                let advice = found.advice().unwrap();
                assert!(advice.contains(call.name()), "{advice}");
            }
            assert!(!kernel.has(Feature::Mseal));
            assert_eq!(children(), 0);
        }
    });
}
