//! Trials that failed, and who is to blame for them.

use linux_raw::Errno;
use linux_raw::signal::Signal;

use super::{Judge, Obstacle, Support};
use crate::probe::attempt::Failure;
use crate::probe::{Feature, Surroundings, Version, sysctl};

fn around(filtered: bool, sysctls: &[(&'static str, &str)]) -> Judge {
    let known = |(name, value): &(&'static str, &str)| -> Vec<_> {
        let known = sysctl::named(name).map(|sysctl| (sysctl, (*value).to_owned()));
        known.collect()
    };
    Judge {
        version: Some(Version::new(6, 1)),
        around: Surroundings {
            seccomp_filters: u32::from(filtered),
            ..Surroundings::default()
        },
        sysctls: sysctls.iter().flat_map(known).collect(),
    }
}

fn amid(around: Surroundings) -> Judge {
    Judge {
        version: Some(Version::new(5, 10)),
        around,
        sysctls: Vec::new(),
    }
}

fn support(judge: &Judge, feature: Feature, errno: Errno) -> Support {
    judge.judge(feature, Err(Failure::Refused(errno))).support
}

#[test]
fn sysctls_are_named_where_they_forbid() {
    let ring = |value| around(false, &[("kernel.io_uring_disabled", value)]);
    let forbidden = support(&ring("2"), Feature::IoUring, Errno::EPERM);
    assert_eq!(
        forbidden.to_string(),
        "forbidden: kernel.io_uring_disabled=2"
    );
    let absent = Support::Absent(Errno::EPERM);
    assert_eq!(support(&ring("0"), Feature::IoUring, Errno::EPERM), absent);
    assert_eq!(support(&ring("2"), Feature::Landlock, Errno::EPERM), absent);
    let none = support(&ring("2"), Feature::IoUring, Errno::ENOSYS);
    assert_eq!(none, Support::Absent(Errno::ENOSYS));
}

#[test]
fn each_namespace_has_a_limit_of_its_own() {
    let limits = around(
        false,
        &[
            ("user.max_user_namespaces", "9"),
            ("user.max_net_namespaces", "0"),
        ],
    );
    let net = support(&limits, Feature::NetworkNamespace, Errno::ENOSPC);
    assert_eq!(net.to_string(), "forbidden: user.max_net_namespaces=0");
    let user = support(&limits, Feature::UserNamespace, Errno::ENOSPC);
    assert_eq!(user.to_string(), "forbidden: user.max_user_namespaces=9");
}

#[test]
fn of_several_limits_the_smallest_is_blamed() {
    let limits = |mounts| {
        around(
            false,
            &[
                ("user.max_mnt_namespaces", "96365"),
                ("fs.mount-max", mounts),
                ("user.max_user_namespaces", "2147483647"),
            ],
        )
    };
    let root = |mounts| support(&limits(mounts), Feature::EmptyRoot, Errno::ENOSPC).to_string();
    assert_eq!(root("40"), "forbidden: fs.mount-max=40");
    assert_eq!(root("100000"), "forbidden: user.max_mnt_namespaces=96365");
    let few = around(
        false,
        &[
            ("user.max_net_namespaces", "96365"),
            ("user.max_user_namespaces", "1"),
        ],
    );
    let net = support(&few, Feature::NetworkNamespace, Errno::ENOSPC);
    assert_eq!(net.to_string(), "forbidden: user.max_user_namespaces=1");
}

#[test]
fn what_was_not_tried_is_not_absent() {
    let untried = Err(Failure::Untried(Errno::EAGAIN));
    let found = around(false, &[]).judge(Feature::Mseal, untried);
    assert_eq!(
        found.support,
        Support::Forbidden(Obstacle::NoProcess(Errno::EAGAIN))
    );
}

#[test]
fn what_is_too_old_for_pidfds_is_told_so() {
    let judged = |version, feature| {
        let judge = Judge {
            version: Some(version),
            ..Judge::default()
        };
        judge
            .judge(feature, Err(Failure::Untried(Errno::ENOSYS)))
            .support
    };
    let old = Version::new(4, 18);
    let absent = Support::Absent(Errno::ENOSYS);
    assert_eq!(judged(old, Feature::Pidfd), absent);
    let rests = Support::Forbidden(Obstacle::Lacks(Feature::Pidfd));
    assert_eq!(judged(old, Feature::Memfd), rests);
    // A newer one is kept from it.
    let untried = Support::Forbidden(Obstacle::NoProcess(Errno::ENOSYS));
    assert_eq!(judged(Version::new(5, 10), Feature::Pidfd), untried);
}

#[test]
fn a_filter_is_blamed_for_what_the_kernel_should_have() {
    let docker = around(true, &[]);
    let filter = |errno| Support::Forbidden(Obstacle::Filter(errno));
    assert_eq!(
        support(&docker, Feature::Clone3, Errno::ENOSYS),
        filter(Errno::ENOSYS)
    );
    assert_eq!(
        support(&docker, Feature::UserNamespace, Errno::EPERM),
        filter(Errno::EPERM)
    );
    // 6.1 has no mseal: that is the kernel's age.
    let absent = Support::Absent(Errno::ENOSYS);
    assert_eq!(support(&docker, Feature::Mseal, Errno::ENOSYS), absent);
    assert_eq!(
        support(&around(false, &[]), Feature::Clone3, Errno::ENOSYS),
        absent
    );
}

#[test]
fn a_killed_trial_says_so() {
    let killed = around(true, &[]).judge(Feature::Futex, Err(Failure::Killed(Signal::SYS)));
    assert_eq!(
        killed.support.to_string(),
        "forbidden: a seccomp filter kills for it"
    );
}

#[test]
fn no_filter_is_blamed_for_what_a_process_has_no_say_in() {
    let absent = Support::Absent(Errno::EPERM);
    let filtered = around(true, &[]);
    assert_eq!(
        support(&filtered, Feature::StoreBypass, Errno::EPERM),
        absent
    );
}

#[test]
fn a_chroot_has_no_user_namespaces() {
    let chroot = amid(Surroundings {
        in_chroot: true,
        seccomp_filters: 1,
        ..Surroundings::default()
    });
    let found = support(&chroot, Feature::UserNamespace, Errno::EPERM);
    assert_eq!(found, Support::Forbidden(Obstacle::Chroot));
    let filter = Support::Forbidden(Obstacle::Filter(Errno::EPERM));
    assert_eq!(support(&chroot, Feature::IoUring, Errno::EPERM), filter);
}

/// Ubuntu has it at 1. It is not to blame for the `EPERM` of a filter or a chroot, nor for what
/// a profile forbids: it is about processes that have none.
#[test]
fn apparmors_sysctl_is_blamed_for_its_own_refusals() {
    let name = "kernel.apparmor_restrict_unprivileged_userns";
    let mut ubuntu = around(false, &[(name, "1")]);
    let sysctl = format!("forbidden: {name}=1");
    let found = |judge: &Judge, feature, errno| support(judge, feature, errno).to_string();
    let user = Feature::UserNamespace;
    assert_eq!(found(&ubuntu, user, Errno::EACCES), sysctl);
    assert_eq!(found(&ubuntu, Feature::IdMaps, Errno::EPERM), sysctl);
    let root = Feature::EmptyRoot;
    assert_eq!(found(&ubuntu, root, Errno::EACCES), sysctl);
    ubuntu.around.dumpable = Some(false);
    let process = "forbidden: this process, which is not dumpable";
    assert_eq!(found(&ubuntu, Feature::IdMaps, Errno::EACCES), process);
    assert_eq!(found(&ubuntu, user, Errno::EACCES), sysctl);
    ubuntu.around.seccomp_filters = 1;
    let filter = "forbidden: a seccomp filter answers EPERM (1)";
    assert_eq!(found(&ubuntu, user, Errno::EPERM), filter);
    ubuntu.around.label = Some("mine (enforce)".into());
    let profile = "forbidden: AppArmor, as mine (enforce)";
    assert_eq!(found(&ubuntu, user, Errno::EACCES), profile);
    ubuntu.around.in_chroot = true;
    assert_eq!(found(&ubuntu, user, Errno::EPERM), "forbidden: a chroot");
    // Debian's answers EPERM too, and would do so after the chroot is gone: one by one.
    let mut debian = around(false, &[("kernel.unprivileged_userns_clone", "0")]);
    debian.around.in_chroot = true;
    assert_eq!(found(&debian, user, Errno::EPERM), "forbidden: a chroot");
}

#[test]
fn a_policy_is_blamed_for_what_it_decides() {
    let confined = amid(Surroundings {
        label: Some("docker-default (enforce)".into()),
        ..Surroundings::default()
    });
    let found = support(&confined, Feature::EmptyRoot, Errno::EACCES);
    assert_eq!(
        found.to_string(),
        "forbidden: AppArmor, as docker-default (enforce)"
    );
    let absent = Support::Absent(Errno::EACCES);
    assert_eq!(support(&confined, Feature::Cgroup, Errno::EACCES), absent);
    let old = Support::Absent(Errno::EINVAL);
    assert_eq!(support(&confined, Feature::EmptyRoot, Errno::EINVAL), old);
}

#[test]
fn limits_are_named_where_the_errno_tells() {
    let cramped = amid(Surroundings {
        limits: vec![("RLIMIT_NOFILE", 4), ("RLIMIT_MEMLOCK", 8192)],
        ..Surroundings::default()
    });
    let found = |feature, errno| support(&cramped, feature, errno).to_string();
    assert_eq!(
        found(Feature::Memfd, Errno::EMFILE),
        "forbidden: RLIMIT_NOFILE=4"
    );
    assert_eq!(
        found(Feature::IoUring, Errno::ENOMEM),
        "forbidden: RLIMIT_MEMLOCK=8192"
    );
    assert_eq!(found(Feature::Memfd, Errno::ENOMEM), "absent: ENOMEM (12)");
    assert_eq!(
        found(Feature::UserNamespace, Errno::EAGAIN),
        "absent: EAGAIN (11)"
    );
}

#[test]
fn what_is_there_in_part_says_what_is_missing() {
    let old = around(false, &[]);
    let lacking = Err(Failure::Lacking(Errno::EINVAL, 0b1));
    let found = old.judge(Feature::Userfaultfd, lacking);
    assert_eq!(found.support, Support::Absent(Errno::EINVAL));
    assert_eq!(found.value, Some(1));
}
