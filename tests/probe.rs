//! The probe in surroundings that forbid something, and what it leaves behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cellwall::{Cgroup, Errno, Feature, Finding, Kernel, Obstacle, Support, Tier};
use linux_raw::nr;
use linux_raw::seccomp::{Cond, Is, Program, Refusal, compile_refusing, length_refusing};
use tempfile::TempDir;

use crate::harness::forked::in_a_child;
use crate::harness::{alone, alone_under, children, eventually, forbid};

mod calls;
#[path = "../linux-raw/tests/kernel/container.rs"]
mod container;
mod hosts;
mod since;

use self::container::{NO_CLONE3, NO_NAMESPACES};

const fn forbidden(call: nr::Nr) -> Refusal {
    Refusal {
        call,
        when: &[],
        errno: Errno::EPERM,
    }
}

/// As in a container.
const REFUSALS: &[Refusal] = &[
    NO_CLONE3,
    NO_NAMESPACES,
    forbidden(nr::IO_URING_SETUP),
    forbidden(nr::USERFAULTFD),
];
static PROFILE: Program<{ length_refusing(REFUSALS) }> = compile_refusing(REFUSALS);

fn finding(kernel: &Kernel, feature: Feature) -> &Finding {
    let mut findings = kernel.findings().iter();
    findings.find(|finding| finding.feature == feature).unwrap()
}

/// What a filter answers for the kernel is blamed on the filter, feature by feature, and nothing
/// else is. The surroundings tell that there is one.
#[test]
fn a_filter_is_found_out() {
    alone("probe::a_filter_is_found_out", || {
        let before = Kernel::probe();
        forbid(&PROFILE);
        let kernel = Kernel::probe();
        let filters = |kernel: &Kernel| kernel.surroundings().seccomp_filters;
        assert!(kernel.surroundings().no_new_privs);
        // At most 1 before Linux 5.9, which does not count.
        assert!(filters(&kernel) > filters(&before) || filters(&before) == 1);
        for (feature, errno) in [
            (Feature::Clone3, Errno::ENOSYS),
            (Feature::UserNamespace, Errno::EPERM),
            (Feature::IoUring, Errno::EPERM),
            (Feature::Userfaultfd, Errno::EPERM),
        ] {
            let finding = finding(&kernel, feature);
            assert!(finding.advice().is_some(), "{finding:?}");
            // What was missing before may be so for another reason.
            if before.has(feature) {
                let filter = Support::Forbidden(Obstacle::Filter(errno));
                assert_eq!(finding.support, filter);
            }
        }
        assert!(!kernel.can_run(Tier::Full));
        let weaker = Tier::WithoutNamespaces;
        assert_eq!(kernel.can_run(weaker), before.can_run(weaker));
        for &feature in Feature::ALL {
            let finding = finding(&kernel, feature);
            let is_cause = matches!(finding.support, Support::Forbidden(Obstacle::Filter(_)));
            if !is_cause && feature.rests_on().is_none() && feature != Feature::UserfaultfdKernel {
                assert_eq!(finding.is_present(), before.has(feature), "{finding:?}");
            }
        }
    });
}

/// The kernel makes no user namespace in a chroot, and says no more than `EPERM`.
#[test]
fn a_chroot_is_found_out() {
    if !Kernel::probe().has(Feature::UserNamespace) {
        return absence::absent("user-namespace", "no mount can be made for a chroot");
    }
    let namespaces = ["unshare", "--user", "--map-root-user", "--mount"];
    alone_under(&namespaces, "probe::a_chroot_is_found_out", || {
        let root = TempDir::new().unwrap();
        let proc = root.path().join("proc");
        fs::create_dir(&proc).unwrap();
        let done = |command: &mut Command| assert!(command.status().unwrap().success());
        done(Command::new("mount").args(["--rbind", "/proc"]).arg(&proc));
        in_a_child(|| {
            assert!(!Kernel::probe().surroundings().in_chroot);
            std::os::unix::fs::chroot(root.path()).unwrap();
            std::env::set_current_dir("/").unwrap();
            let kernel = Kernel::probe();
            assert!(kernel.surroundings().in_chroot);
            let found = finding(&kernel, Feature::UserNamespace);
            assert_eq!(found.support, Support::Forbidden(Obstacle::Chroot));
            assert!(found.advice().unwrap().contains("pivot_root"));
            assert_eq!(
                finding(&kernel, Feature::EmptyRoot).support,
                Support::Forbidden(Obstacle::Lacks(Feature::MountNamespace))
            );
        });
        done(Command::new("umount").arg("--lazy").arg(&proc));
    });
}

/// What there is in the places for control groups.
fn groups() -> BTreeSet<String> {
    let names = |place: &Path| {
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.collect::<Vec<_>>()
    };
    let places = Cgroup::places();
    let all = places.iter().flat_map(|place| names(place));
    let ours = format!("cellwall-probe-{}-", std::process::id());
    all.filter(|name| name.starts_with(&ours)).collect()
}

#[test]
fn a_probe_leaves_nothing_behind() {
    alone("probe::a_probe_leaves_nothing_behind", || {
        let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
        let before = descriptors();
        let group = || fs::read_to_string("/proc/self/cgroup").unwrap();
        let own_group = group();
        let kernel = Kernel::probe();
        assert_eq!(descriptors(), before);
        assert_eq!(children(), 0);
        assert_eq!(
            groups(),
            BTreeSet::new(),
            "{:?}",
            finding(&kernel, Feature::Cgroup)
        );
        // Nobody traces it either, and the host's own group is what it was.
        let status = fs::read_to_string("/proc/self/status").unwrap();
        assert!(status.contains("\nTracerPid:\t0\n"));
        assert_eq!(group(), own_group);
        eventually(Duration::from_secs(1), "the probe can be repeated", || {
            Kernel::probe().findings() == kernel.findings()
        });
    });
}

/// Several at once in one process do not meet.
#[test]
fn probes_do_not_meet() {
    alone("probe::probes_do_not_meet", || {
        let kernel = Kernel::probe();
        std::thread::scope(|scope| {
            let probes: Vec<_> = (0..4).map(|_| scope.spawn(Kernel::probe)).collect();
            for probe in probes {
                assert_eq!(probe.join().unwrap().findings(), kernel.findings());
            }
        });
        assert_eq!(groups(), BTreeSet::new());
    });
}
