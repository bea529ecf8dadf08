#![expect(unsafe_code, reason = "makes forbidden calls")]
//! Taking privileges away: switches, capabilities, namespaces, mounts, filters.

use core::arch::asm;

use linux_raw::arg::Arg;
use linux_raw::cred::{self, Capabilities, Capability, Securebits};
use linux_raw::io::{OpenFlags, open};
use linux_raw::mount::{self, MountAttrs, MountFlags};
use linux_raw::nr::{self, Nr};
use linux_raw::ns::{IdMap, write_own_id_maps};
use linux_raw::pidfd::WaitStatus;
use linux_raw::prctl;
use linux_raw::process::{CloneFlags, exit_group, getegid, geteuid};
use linux_raw::seccomp::{Cond, InstallFlags, Is, Program, Rule, compile, install, length};
use linux_raw::signal::Signal;
use linux_raw::sys::general;
use linux_raw::{Errno, arch};

use crate::child::{Outcome, holds, in_child, must};

/// Whether no capability is left in the bounding set.
fn bounding_set_is_empty() -> bool {
    (0..u64::BITS)
        .all(|number| prctl::capability_in_bounding_set(Capability::from_raw(number)) != Ok(true))
}

/// Leaves namespaces for new ones, in a process that shares no descriptors.
fn unshare(kinds: CloneFlags) -> Result<(), Errno> {
    let unshare = Nr::from_raw(general::__NR_unshare);
    // SAFETY: nothing is passed but flags, which name namespaces alone.
    unsafe { arch::syscall1(unshare, kinds.bits().into()) }.done()
}

/// Makes a user namespace of one's own in a child, or says that this machine forbids it.
pub(crate) fn user_namespaces() -> bool {
    let status = in_child(|| match unshare(CloneFlags::NEWUSER) {
        Ok(()) => Ok(()),
        Err(_) => exit_group(1),
    });
    let there = status == WaitStatus::Exited(0);
    if !there {
        absence::absent("user-namespace", "this machine forbids new user namespaces");
    }
    there
}

pub(crate) fn into_new_namespaces(kinds: CloneFlags) -> Outcome {
    let (uid, gid) = (geteuid(), getegid());
    must!(unshare(CloneFlags::NEWUSER | kinds));
    must!(
        write_own_id_maps(IdMap {
            inner_uid: 0,
            outer_uid: uid,
            inner_gid: 0,
            outer_gid: gid
        })
        .map_err(|error| error.errno)
    );
    holds!((geteuid(), getegid()) == (0, 0));
    Ok(())
}

#[test]
fn switches_stay_where_they_are_put() {
    let status = in_child(|| {
        must!(prctl::set_name(c"cellwall-test"));
        must!(prctl::set_pdeathsig(Signal::KILL));
        must!(prctl::set_dumpable(false));
        holds!(!must!(prctl::get_dumpable()));
        must!(prctl::set_dumpable(true));
        holds!(must!(prctl::get_dumpable()));
        holds!(prctl::get_no_new_privs() == Ok(false));
        must!(prctl::set_no_new_privs());
        holds!(prctl::get_no_new_privs() == Ok(true));
        Ok(())
    });
    assert_eq!(status, WaitStatus::Exited(0));
}

#[test]
fn written_memory_never_becomes_executable_under_mdwe() {
    use linux_raw::mm::{Backing, MapFlags, Placement, Prot, mmap};
    if prctl::get_mdwe() == Err(Errno::EINVAL) {
        return absence::absent("mdwe", "EINVAL");
    }
    let status = in_child(|| {
        holds!(!must!(prctl::get_mdwe()));
        must!(prctl::set_mdwe());
        holds!(must!(prctl::get_mdwe()));
        let both = Prot::WRITE | Prot::EXEC;
        let (place, flags) = (Placement::Anywhere, MapFlags::empty());
        // SAFETY: a new mapping replaces nothing.
        let refused = unsafe { mmap(place, 4096, both, Backing::Anonymous, flags) };
        holds!(refused == Err(Errno::EACCES));
        Ok(())
    });
    assert_eq!(status, WaitStatus::Exited(0));
}

#[test]
fn speculation_is_turned_off_for_good() {
    for kind in [
        prctl::Speculation::StoreBypass,
        prctl::Speculation::IndirectBranch,
    ] {
        match prctl::speculation(kind) {
            Ok(state) => println!("{kind:?}: {state:?}"),
            Err(errno @ (Errno::ENODEV | Errno::EINVAL)) => {
                println!("{kind:?} cannot be controlled here: {errno}");
                continue;
            }
            Err(errno) => panic!("{kind:?}: {errno}"),
        }
        let status = in_child(|| {
            match prctl::disable_speculation(kind) {
                Ok(()) => {
                    let state = must!(prctl::speculation(kind));
                    holds!(state.contains(prctl::SpeculationState::FORCE_DISABLE));
                }
                // Not affected, or settled for the whole machine.
                Err(errno) => holds!(matches!(errno, Errno::ENXIO | Errno::EPERM)),
            }
            Ok(())
        });
        assert_eq!(status, WaitStatus::Exited(0));
    }
}

#[test]
fn every_capability_goes() {
    if !user_namespaces() {
        return;
    }
    let status = in_child(|| {
        into_new_namespaces(CloneFlags::empty())?;
        holds!(must!(cred::capget()) != Capabilities::default());
        holds!(!bounding_set_is_empty());
        must!(prctl::set_securebits(Securebits::LOCKED_DOWN));
        holds!(prctl::get_securebits() == Ok(Securebits::LOCKED_DOWN));
        let unlocked = prctl::set_securebits(Securebits::empty());
        holds!(unlocked == Err(Errno::EPERM));
        must!(cred::drop_bounding_set());
        holds!(bounding_set_is_empty());
        must!(cred::capset_none());
        holds!(must!(cred::capget()) == Capabilities::default());
        holds!(prctl::capbset_drop(Capability::from_raw(0)) == Err(Errno::EPERM));
        Ok(())
    });
    assert_eq!(status, WaitStatus::Exited(0));
}

#[test]
fn a_map_that_cannot_be_written_is_named() {
    if !user_namespaces() {
        return;
    }
    let status = in_child(|| {
        into_new_namespaces(CloneFlags::empty())?;
        let Err(again) = write_own_id_maps(IdMap {
            inner_uid: 0,
            outer_uid: 0,
            inner_gid: 0,
            outer_gid: 0,
        }) else {
            holds!(false);
            return Ok(());
        };
        // Which comes first is the kernel's affair; that it is refused is ours.
        holds!(again.errno == Errno::EPERM);
        Ok(())
    });
    assert_eq!(status, WaitStatus::Exited(0));
}

#[test]
fn an_empty_root_takes_the_place_of_the_old_one() {
    if !user_namespaces() {
        return;
    }
    let status = in_child(|| {
        into_new_namespaces(CloneFlags::NEWNS)?;
        let private = MountFlags::REC | MountFlags::PRIVATE;
        must!(mount::mount(None, c"/", None, private, None));
        let context = must!(mount::fsopen(c"tmpfs"));
        must!(mount::fsconfig_string(&context, c"size", c"4096"));
        must!(mount::fsconfig_flag(&context, c"ro"));
        holds!(mount::fsconfig_flag(&context, c"no-such-flag") == Err(Errno::EINVAL));
        must!(mount::fsconfig_create(&context));
        let attrs =
            MountAttrs::RDONLY | MountAttrs::NOSUID | MountAttrs::NODEV | MountAttrs::NOEXEC;
        let root = must!(mount::fsmount(&context, attrs));
        must!(mount::move_mount(&root, c"/tmp"));
        must!(mount::fchdir(&root));
        must!(mount::pivot_root(c".", c"."));
        must!(mount::umount_detach(c"."));
        holds!(open(c"/proc", OpenFlags::PATH).err() == Some(Errno::ENOENT));
        let create = OpenFlags::WRONLY | OpenFlags::from_bits_retain(general::O_CREAT);
        holds!(open(c"/file", create).err() == Some(Errno::EROFS));
        Ok(())
    });
    assert_eq!(status, WaitStatus::Exited(0));
}

const RULES: &[Rule] = &[
    Rule {
        call: nr::EXIT_GROUP,
        when: &[],
        why: "the child's end",
    },
    Rule {
        call: nr::LSEEK,
        when: &[
            Cond {
                arg: 1,
                is: Is::Equal(0x1_0000_0002),
            },
            Cond {
                arg: 2,
                is: Is::AnyOf2(0, 1),
            },
        ],
        why: "a harmless call whose arguments are compared",
    },
];
static FILTER: Program<{ length(RULES) }> = compile(RULES);

/// Makes a call under the filter, in a child, and answers how that child ended: `Exited(0)` if
/// the filter let it through, whatever the kernel made of it.
fn under_filter(call: Nr, args: [u64; 3]) -> WaitStatus {
    in_child(|| {
        must!(prctl::set_no_new_privs());
        must!(prctl::set_dumpable(false)); // no core file
        must!(install(FILTER.as_slice(), InstallFlags::empty()));
        let [a, b, c] = args.map(Arg::from);
        // SAFETY: the tests make calls that are harmless with these arguments, or forbidden.
        let answer = unsafe { arch::syscall3(call, a, b, c) };
        let _ = answer.done();
        Ok(())
    })
}

pub(crate) const KILLED: WaitStatus = WaitStatus::Killed {
    signal: Signal::SYS,
    core: false,
};
pub(crate) const PASSED: WaitStatus = WaitStatus::Exited(0);
/// No descriptor has this number.
const NO_FD: u64 = 0x7fff_ffff;

#[test]
fn a_filter_lets_through_exactly_what_its_rules_say() {
    assert_eq!(under_filter(nr::LSEEK, [NO_FD, 0x1_0000_0002, 0]), PASSED);
    assert_eq!(under_filter(nr::LSEEK, [NO_FD, 0x1_0000_0002, 1]), PASSED);
    assert_eq!(under_filter(nr::LSEEK, [NO_FD, 0x1_0000_0002, 2]), KILLED);
    assert_eq!(under_filter(nr::LSEEK, [NO_FD, 2, 0]), KILLED);
    assert_eq!(
        under_filter(nr::LSEEK, [NO_FD, 0x1_0000_0002, 1 << 32]),
        KILLED
    );
    assert_eq!(under_filter(nr::GETPID, [0; 3]), KILLED);
}

#[test]
fn an_x32_call_is_another_number() {
    let x32 = Nr::from_raw(nr::EXIT_GROUP.raw() | 1 << 30);
    assert_eq!(under_filter(x32, [0; 3]), KILLED);
}

#[test]
fn an_i386_call_is_killed_by_its_architecture() {
    // `exit_group` on x86-64 is 231, which i386 has as `fgetxattr`: allowed by number alone.
    let status = in_child(|| {
        must!(prctl::set_no_new_privs());
        must!(prctl::set_dumpable(false));
        must!(install(FILTER.as_slice(), InstallFlags::empty()));
        let mut number = nr::EXIT_GROUP.raw();
        // SAFETY: rbx is put back; with these arguments the call would fail if it were made.
        unsafe {
            asm!(
                "xchg rbx, {zero}",
                "int 0x80",
                "xchg rbx, {zero}",
                zero = inout(reg) 0u64 => _,
                inout("eax") number,
                in("ecx") 0,
                in("edx") 0,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
        exit_group(number.cast_signed() & 0x7f)
    });
    assert_eq!(status, KILLED);
}

#[test]
fn a_filter_needs_no_new_privs_and_a_sane_program() {
    let status = in_child(|| {
        let refused = install(&[], InstallFlags::empty());
        holds!(refused == Err(Errno::EINVAL));
        must!(prctl::set_no_new_privs());
        let (head, _) = FILTER.as_slice().split_at(2); // falls off its end
        let refused = install(head, InstallFlags::empty());
        holds!(refused == Err(Errno::EINVAL));
        Ok(())
    });
    assert_eq!(status, WaitStatus::Exited(0));
}
