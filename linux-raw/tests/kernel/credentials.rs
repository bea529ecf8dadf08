//! Who a process is, what it may do, and what it gives up by Landlock.

use linux_raw::Errno;
use linux_raw::cred::{self, Capability};
use linux_raw::io::{OpenFlags, open};
use linux_raw::landlock::{self, AccessFs, RestrictFlags, Rights};
use linux_raw::pidfd::{PidfdFlags, pidfd_open, pidfd_send_signal};
use linux_raw::prctl;
use linux_raw::process::{CloneFlags, getegid, geteuid, getpid};

use linux_raw::seccomp::{
    Cond, InstallFlags, Is, Program, Refusal, compile_refusing, install, length_refusing,
};

use crate::child::{holds, in_child, must};
use crate::jail::{PASSED, into_new_namespaces, user_namespaces};

const SETGID: Capability = Capability::SETGID;
const SETPCAP: Capability = Capability::SETPCAP;

#[test]
fn a_capability_is_made_inheritable_and_ambient() {
    if !user_namespaces() {
        return;
    }
    let status = in_child(|| {
        into_new_namespaces(CloneFlags::empty())?;
        let before = must!(cred::capget());
        holds!(before.permitted & SETGID.bit() != 0);
        holds!(prctl::raise_ambient(SETGID) == Err(Errno::EPERM));
        must!(cred::capset_inheritable(before, SETGID.bit()));
        let between = must!(cred::capget());
        must!(cred::capset_inheritable(between, SETPCAP.bit()));
        let after = must!(cred::capget());
        let expected = cred::Capabilities {
            inheritable: before.inheritable | SETGID.bit() | SETPCAP.bit(),
            ..before
        };
        holds!(after == expected);
        holds!(!must!(prctl::is_ambient(SETGID)));
        must!(prctl::raise_ambient(SETGID));
        holds!(must!(prctl::is_ambient(SETGID)));
        must!(cred::capset_none());
        holds!(!must!(prctl::is_ambient(SETGID)));
        let none = must!(cred::capget());
        holds!(cred::capset_inheritable(none, SETGID.bit()) == Err(Errno::EPERM));
        let unknown = prctl::capability_in_bounding_set(Capability::from_raw(64));
        holds!(unknown == Err(Errno::EINVAL));
        Ok(())
    });
    assert_eq!(status, PASSED);
}

#[test]
fn users_and_groups_change_as_far_as_they_are_mapped() {
    if !user_namespaces() {
        return;
    }
    let status = in_child(|| {
        into_new_namespaces(CloneFlags::empty())?;
        must!(cred::setresuid(0));
        must!(cred::setresgid(0));
        holds!((geteuid(), getegid()) == (0, 0));
        holds!(cred::setresuid(1) == Err(Errno::EINVAL));
        holds!(cred::setresgid(1) == Err(Errno::EINVAL));
        // A map written without privileges comes with a ban on this call.
        if let Err(errno) = cred::setgroups_none() {
            holds!(errno == Errno::EPERM);
        }
        Ok(())
    });
    assert_eq!(status, PASSED);
}

#[test]
fn a_change_of_users_makes_the_process_undumpable() {
    let file = "/proc/sys/fs/suid_dumpable";
    let stays = std::fs::read_to_string(file).is_ok_and(|value| value.trim() == "1");
    let status = in_child(|| {
        must!(prctl::set_dumpable(true));
        // Only a user with privileges can, and only if the other one is mapped.
        match cred::setgroups_none().and_then(|()| cred::setresgid(65534)) {
            Ok(()) => {}
            Err(Errno::EPERM | Errno::EINVAL) => return Ok(()),
            Err(errno) => must!(Err(errno)),
        }
        holds!(must!(prctl::get_dumpable()) == stays);
        must!(prctl::set_dumpable(true));
        must!(cred::setresuid(65534));
        holds!((geteuid(), getegid()) == (65534, 65534));
        holds!(must!(prctl::get_dumpable()) == stays);
        holds!(must!(cred::capget()).effective == 0);
        holds!(cred::setresuid(0) == Err(Errno::EPERM));
        holds!(cred::setgroups_none() == Err(Errno::EPERM));
        Ok(())
    });
    assert_eq!(status, PASSED);
}

/// Says of the twentieth capability that there is none such, to whoever would drop it.
const LIE: &[Refusal] = &[Refusal {
    call: linux_raw::nr::PRCTL,
    when: &[
        Cond {
            arg: 0,
            is: Is::Equal(linux_raw::sys::prctl::PR_CAPBSET_DROP as u64),
        },
        Cond {
            arg: 1,
            is: Is::Equal(20),
        },
    ],
    errno: Errno::EINVAL,
}];
static LIAR: Program<{ length_refusing(LIE) }> = compile_refusing(LIE);

#[test]
fn a_bounding_set_that_stays_is_noticed() {
    if !user_namespaces() {
        return;
    }
    let status = in_child(|| {
        into_new_namespaces(CloneFlags::empty())?;
        must!(prctl::set_no_new_privs());
        must!(install(LIAR.as_slice(), InstallFlags::empty()));
        holds!(cred::drop_bounding_set() == Err(Errno::EINVAL));
        let still_there = prctl::capability_in_bounding_set(Capability::SYS_ADMIN);
        holds!(still_there == Ok(true));
        holds!(prctl::capability_in_bounding_set(Capability::SETUID) == Ok(false));
        Ok(())
    });
    assert_eq!(status, PASSED);
}

#[test]
fn the_time_stamp_counter_is_switched() {
    let status = in_child(|| {
        holds!(must!(prctl::get_timestamp_counter()));
        must!(prctl::set_timestamp_counter(false));
        holds!(!must!(prctl::get_timestamp_counter()));
        must!(prctl::set_timestamp_counter(true));
        holds!(must!(prctl::get_timestamp_counter()));
        Ok(())
    });
    assert_eq!(status, PASSED);
}

#[test]
fn a_core_scheduling_cookie_is_made_where_the_machine_has_them() {
    let status = in_child(|| {
        match prctl::create_core_scheduling_cookie() {
            Ok(()) => holds!(must!(prctl::core_scheduling_cookie()) != 0),
            // Built without, or no CPU has siblings.
            Err(errno) => {
                holds!(matches!(errno, Errno::EINVAL | Errno::ENODEV));
                holds!(prctl::core_scheduling_cookie() == Err(errno));
            }
        }
        Ok(())
    });
    assert_eq!(status, PASSED);
}

/// The version of Landlock, if there is one.
fn landlock_abi() -> Option<u32> {
    match landlock::abi() {
        Ok(abi) => Some(abi),
        Err(errno @ (Errno::ENOSYS | Errno::EOPNOTSUPP)) => {
            absence::absent("landlock", errno);
            None
        }
        Err(errno) => panic!("{errno}"),
    }
}

#[test]
fn landlock_takes_files_and_signals_away() {
    let Some(abi) = landlock_abi() else { return };
    println!("Landlock {abi}");
    let parent = getpid().unwrap();
    let status = in_child(|| {
        let parent = must!(pidfd_open(parent, PidfdFlags::empty()));
        must!(open(c"/", OpenFlags::RDONLY));
        must!(pidfd_send_signal(&parent, None));
        let rights = Rights::known(abi);
        let ruleset = must!(landlock::create_ruleset(&rights));
        must!(prctl::set_no_new_privs());
        must!(landlock::restrict_self(&ruleset, RestrictFlags::empty()));
        holds!(open(c"/", OpenFlags::RDONLY).err() == Some(Errno::EACCES));
        if !rights.scoped.is_empty() {
            holds!(pidfd_send_signal(&parent, None) == Err(Errno::EPERM));
        }
        // There can be 16 layers, or 64 before Linux 5.19.
        let mut layers = 1;
        let full = loop {
            match landlock::restrict_self(&ruleset, RestrictFlags::empty()) {
                Ok(()) => layers += 1,
                Err(errno) => break errno,
            }
        };
        holds!(full == Errno::E2BIG && matches!(layers, 16 | 64));
        Ok(())
    });
    assert_eq!(status, PASSED);
}

#[test]
fn landlock_says_what_is_wrong() {
    let Some(abi) = landlock_abi() else { return };
    let made = |rights: &Rights| landlock::create_ruleset(rights).map(drop);
    assert_eq!(made(&Rights::default()), Err(Errno::ENOMSG));
    for older in 1..=abi {
        assert_eq!(made(&Rights::known(older)), Ok(()), "{older}");
    }
    let unknown = Rights {
        fs: AccessFs::from_bits_retain(1 << 62),
        ..Rights::default()
    };
    assert_eq!(made(&unknown), Err(Errno::EINVAL));
    let newest = Rights::known(Rights::NEWEST_ABI);
    if newest != Rights::known(abi) {
        assert!(matches!(made(&newest), Err(Errno::EINVAL | Errno::E2BIG)));
    }
    let status = in_child(|| {
        let root = must!(open(c"/", OpenFlags::RDONLY));
        must!(prctl::set_no_new_privs());
        let refused = landlock::restrict_self(&root, RestrictFlags::empty());
        holds!(refused == Err(Errno::EBADFD));
        Ok(())
    });
    assert_eq!(status, PASSED);
}
