//! Constants: flags, names, numbers.

use core::any::type_name;

use bitflags::Flags;

use linux_raw::arch;
use linux_raw::auxv;
use linux_raw::cred::{Capability, Securebits};
use linux_raw::errno::Errno;
use linux_raw::eventfd::EventfdFlags;
use linux_raw::fd::CloseRangeFlags;
use linux_raw::io::{OpenFlags, PollFlags};
use linux_raw::landlock::{self, AccessFs, AccessNet, RestrictFlags, Scope};
use linux_raw::memfd::{MemfdFlags, Seals};
use linux_raw::mm::{self, Advice, MapFlags, Prot};
use linux_raw::mount::{MountAttrs, MountFlags};
use linux_raw::nr;
use linux_raw::pidfd::{PidfdFlags, WaitFlags};
use linux_raw::prctl::{Speculation, SpeculationState};
use linux_raw::process::{AtFlags, CloneFlags, Resource};
use linux_raw::seccomp::{self, InstallFlags, bpf};
use linux_raw::signal::{self, AltStackFlags, MaskHow, SaFlags, Signal};
use linux_raw::sys::{general as sys, ioctl, net, prctl, ptrace, system};
use linux_raw::uffd::{self, Features, Modes};

use crate::probe::Fact;

/// Every flag of a type, whose C names are `prefix` and ours.
pub(crate) fn flags<F: Flags>(facts: &mut Vec<Fact>, prefix: &str)
where
    F::Bits: Into<u64>,
{
    // Those without a name are what else there may be.
    for flag in F::FLAGS.iter().filter(|flag| flag.is_named()) {
        let name = format!("{prefix}{}", flag.name());
        let of = format!("{}::{}", type_name::<F>(), flag.name());
        facts.push(Fact::constant(&name, flag.value().bits().into()).of(&of));
    }
}

/// Names with their values, one by one.
fn named(facts: &mut Vec<Fact>, pairs: &[(&str, u32)]) {
    facts.extend(
        pairs
            .iter()
            .map(|(name, value)| Fact::constant(name, (*value).into())),
    );
}

/// Values of the generated names, under the same name.
macro_rules! generated {
    ($facts:ident, $module:ident: $($name:ident),* $(,)?) => {
        $facts.extend([$(Fact::constant(stringify!($name), u64::from($module::$name)),)*]);
    };
}

/// A number of any type.
fn wide<T: TryInto<u64, Error: std::fmt::Debug>>(number: T) -> u64 {
    number.try_into().expect("none is negative")
}

/// Values of our names, each with the kernel's name for it.
macro_rules! ours {
    ($facts:ident: $($theirs:ident = $ours:path),* $(,)?) => {
        $($facts.push(
            Fact::constant(stringify!($theirs), wide($ours)).of(stringify!($ours)),
        );)*
    };
}

/// What the kernel's headers define.
pub(crate) fn kernel() -> Vec<Fact> {
    let mut facts = Vec::new();
    for errno in Errno::NAMED {
        facts.push(Fact::constant(errno.name(), errno.raw().into()));
    }
    for (number, name) in nr::NAMED {
        let name = format!("__NR_{}", name.to_lowercase());
        facts.push(Fact::constant(&name, number.raw().into()));
    }
    for signal in Signal::NAMED {
        facts.push(Fact::constant(signal.name(), signal.raw().into()));
    }
    all_flags(&mut facts);
    enums(&mut facts);
    filters(&mut facts);
    relied_on(&mut facts);
    page_faults(&mut facts);
    crate::rings::constants(&mut facts);
    facts
}

/// Types of flags.
fn all_flags(facts: &mut Vec<Fact>) {
    flags::<Prot>(facts, "PROT_");
    flags::<MapFlags>(facts, "MAP_");
    flags::<OpenFlags>(facts, "O_");
    flags::<PollFlags>(facts, "POLL");
    flags::<CloseRangeFlags>(facts, "CLOSE_RANGE_");
    flags::<MemfdFlags>(facts, "MFD_");
    flags::<Seals>(facts, "F_SEAL_");
    flags::<CloneFlags>(facts, "CLONE_");
    flags::<AtFlags>(facts, "AT_");
    flags::<PidfdFlags>(facts, "PIDFD_");
    flags::<SaFlags>(facts, "SA_");
    flags::<AltStackFlags>(facts, "SS_");
    flags::<Securebits>(facts, "SECBIT_");
    flags::<MountAttrs>(facts, "MOUNT_ATTR_");
    flags::<MountFlags>(facts, "MS_");
    flags::<InstallFlags>(facts, "SECCOMP_FILTER_FLAG_");
    flags::<AccessFs>(facts, "LANDLOCK_ACCESS_FS_");
    flags::<AccessNet>(facts, "LANDLOCK_ACCESS_NET_");
    flags::<Scope>(facts, "LANDLOCK_SCOPE_");
    flags::<RestrictFlags>(facts, "LANDLOCK_RESTRICT_SELF_");
    flags::<SpeculationState>(facts, "PR_SPEC_");
    named(
        facts,
        &[
            ("WNOHANG", WaitFlags::NOHANG.bits()),
            ("__WALL", WaitFlags::ALL.bits()),
        ],
    );
}

/// Types of one value among several.
fn enums(facts: &mut Vec<Fact>) {
    named(
        facts,
        &[
            ("CAP_SETGID", Capability::SETGID.raw()),
            ("CAP_SETUID", Capability::SETUID.raw()),
            ("CAP_SETPCAP", Capability::SETPCAP.raw()),
            ("CAP_SYS_ADMIN", Capability::SYS_ADMIN.raw()),
            ("MADV_DONTFORK", Advice::DontFork as u32),
            ("MADV_WIPEONFORK", Advice::WipeOnFork as u32),
            ("MADV_DONTDUMP", Advice::DontDump as u32),
            ("RLIMIT_FSIZE", Resource::FileSize as u32),
            ("RLIMIT_DATA", Resource::Data as u32),
            ("RLIMIT_CORE", Resource::Core as u32),
            ("RLIMIT_NPROC", Resource::Processes as u32),
            ("RLIMIT_NOFILE", Resource::Files as u32),
            ("RLIMIT_MEMLOCK", Resource::LockedMemory as u32),
            ("RLIMIT_MSGQUEUE", Resource::MessageQueues as u32),
            ("RLIMIT_NICE", Resource::Nice as u32),
            ("RLIMIT_RTPRIO", Resource::RealtimePriority as u32),
            ("SIG_BLOCK", MaskHow::Block as u32),
            ("SIG_UNBLOCK", MaskHow::Unblock as u32),
            ("SIG_SETMASK", MaskHow::Set as u32),
            ("PR_SPEC_STORE_BYPASS", Speculation::StoreBypass as u32),
            (
                "PR_SPEC_INDIRECT_BRANCH",
                Speculation::IndirectBranch as u32,
            ),
        ],
    );
    ours!(facts:
        LANDLOCK_CREATE_RULESET_VERSION = landlock::CREATE_RULESET_VERSION,
        AT_NULL = auxv::key::NULL,
        AT_HWCAP2 = auxv::key::HWCAP2,
        AT_MINSIGSTKSZ = auxv::key::MINSIGSTKSZ,
        HWCAP2_FSGSBASE = auxv::hwcap2::FSGSBASE,
        SIG_DFL = signal::SigAction::DEFAULT_HANDLER,
        SIG_IGN = signal::SigAction::IGNORE_HANDLER,
    );
}

/// What filters are made of.
fn filters(facts: &mut Vec<Fact>) {
    ours!(facts:
        AUDIT_ARCH_X86_64 = arch::AUDIT_ARCH,
        SECCOMP_RET_ALLOW = seccomp::ALLOW,
        SECCOMP_RET_KILL_PROCESS = seccomp::KILL_PROCESS,
        SECCOMP_SET_MODE_FILTER = seccomp::SET_MODE_FILTER,
        SECCOMP_RET_TRAP = seccomp::TRAP,
        SECCOMP_RET_ERRNO = seccomp::ERRNO,
        SECCOMP_RET_USER_NOTIF = seccomp::USER_NOTIF,
        SECCOMP_FILTER_FLAG_NEW_LISTENER = seccomp::NEW_LISTENER,
        SECCOMP_IOCTL_NOTIF_RECV = seccomp::notify::RECEIVE,
        SECCOMP_IOCTL_NOTIF_SEND = seccomp::notify::SEND,
        SECCOMP_IOCTL_NOTIF_ID_VALID = seccomp::notify::ID_VALID,
        SECCOMP_USER_NOTIF_FLAG_CONTINUE = seccomp::notify::CONTINUE,
    );
    generated!(facts, sys: __X32_SYSCALL_BIT);
    generated!(facts, system: __NEW_UTS_LEN);
    generated!(facts, ptrace: BPF_MAXINSNS);
    for (expression, code) in [
        ("BPF_LD | BPF_W | BPF_ABS", bpf::LOAD),
        ("BPF_ALU | BPF_AND | BPF_K", bpf::AND),
        ("BPF_JMP | BPF_JEQ | BPF_K", bpf::JUMP_IF_EQUAL),
        ("BPF_JMP | BPF_JGE | BPF_K", bpf::JUMP_IF_AT_LEAST),
        ("BPF_JMP | BPF_JSET | BPF_K", bpf::JUMP_IF_ANY_BIT),
        ("BPF_RET | BPF_K", bpf::RETURN),
    ] {
        facts.push(Fact::expression(expression, code.into()));
    }
}

/// Generated names that wrappers pass on.
fn relied_on(facts: &mut Vec<Fact>) {
    generated!(facts, sys:
        MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, F_DUPFD_CLOEXEC,
        F_SETFD, F_ADD_SEALS, PRIO_PROCESS, CLONE_CHILD_CLEARTID, CLOCK_MONOTONIC, FUTEX_WAIT,
        FUTEX_WAKE, P_PIDFD, P_ALL, CLONE_INTO_CGROUP, WEXITED, CLD_EXITED, CLD_KILLED, CLD_DUMPED, FSOPEN_CLOEXEC,
        FSMOUNT_CLOEXEC, MOVE_MOUNT_F_EMPTY_PATH, _LINUX_CAPABILITY_VERSION_3, FALLOC_FL_PUNCH_HOLE,
        FALLOC_FL_KEEP_SIZE, SEEK_DATA, SEEK_HOLE,
    );
    generated!(facts, prctl:
        PR_SET_NAME, PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_GET_DUMPABLE, PR_SET_NO_NEW_PRIVS,
        PR_SET_MDWE, PR_GET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, PR_SET_SECUREBITS, PR_CAPBSET_DROP,
        PR_SET_SPECULATION_CTRL, PR_SPEC_FORCE_DISABLE, PR_GET_SPECULATION_CTRL,
        PR_GET_NO_NEW_PRIVS, PR_GET_SECUREBITS, PR_CAPBSET_READ, PR_CAP_AMBIENT,
        PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_IS_SET, PR_SET_TSC, PR_GET_TSC, PR_TSC_ENABLE,
        PR_TSC_SIGSEGV, PR_SCHED_CORE, PR_SCHED_CORE_GET, PR_SCHED_CORE_CREATE,
        PR_SCHED_CORE_SCOPE_THREAD, PR_SCHED_CORE_SCOPE_THREAD_GROUP,
    );
    // A signed number, which a register gets sign-extended.
    let here = i64::from(sys::AT_FDCWD).cast_unsigned();
    facts.push(Fact::constant("AT_FDCWD", here));
}

/// What is said to a userfaultfd.
fn page_faults(facts: &mut Vec<Fact>) {
    generated!(facts, sys:
        UFFD_API, UFFD_USER_MODE_ONLY, UFFDIO_COPY_MODE_DONTWAKE, UFFDIO_COPY_MODE_WP,
        UFFDIO_ZEROPAGE_MODE_DONTWAKE,
    );
    generated!(facts, ioctl:
        UFFDIO_API, UFFDIO_REGISTER, UFFDIO_UNREGISTER, UFFDIO_ZEROPAGE, UFFDIO_COPY,
        UFFDIO_CONTINUE, UFFDIO_WRITEPROTECT,
    );
    ours!(facts:
        USERFAULTFD_IOC_NEW = uffd::USERFAULTFD_IOC_NEW,
        PAGEMAP_SCAN = mm::PAGEMAP_SCAN,
        UFFDIO_CONTINUE_MODE_DONTWAKE = uffd::CONTINUE_DONTWAKE,
        UFFDIO_CONTINUE_MODE_WP = uffd::CONTINUE_WP,
        UFFDIO_WRITEPROTECT_MODE_WP = uffd::WRITEPROTECT_WP,
        UFFDIO_WRITEPROTECT_MODE_DONTWAKE = uffd::WRITEPROTECT_DONTWAKE,
    );
    let features = [
        ("PAGEFAULT_FLAG_WP", Features::WRITE_PROTECT),
        ("MISSING_SHMEM", Features::MISSING_SHMEM),
        ("SIGBUS", Features::SIGBUS),
        ("MINOR_SHMEM", Features::MINOR_SHMEM),
        ("WP_HUGETLBFS_SHMEM", Features::WRITE_PROTECT_SHMEM),
    ];
    for (name, feature) in features {
        let name = format!("UFFD_FEATURE_{name}");
        facts.push(Fact::constant(&name, feature.bits()));
    }
    let modes = [
        ("MISSING", Modes::MISSING),
        ("WP", Modes::WRITE_PROTECT),
        ("MINOR", Modes::MINOR),
    ];
    for (name, mode) in modes {
        let name = format!("UFFDIO_REGISTER_MODE_{name}");
        facts.push(Fact::constant(&name, mode.bits()));
    }
}

/// What libc's headers define.
pub(crate) fn libc() -> Vec<Fact> {
    let mut facts = Vec::new();
    generated!(facts, net: AF_UNIX, SOL_SOCKET, MSG_TRUNC, MSG_CTRUNC);
    // Enumerators in libc, which no `#ifdef` sees.
    for (name, value) in [
        ("MNT_DETACH", sys::MNT_DETACH),
        ("SOCK_SEQPACKET", net::SOCK_SEQPACKET),
        ("SOCK_CLOEXEC", sys::O_CLOEXEC),
        ("SCM_RIGHTS", net::SCM_RIGHTS),
        ("MSG_NOSIGNAL", net::MSG_NOSIGNAL),
        ("MSG_DONTWAIT", net::MSG_DONTWAIT),
        ("MSG_CMSG_CLOEXEC", net::MSG_CMSG_CLOEXEC),
        ("EFD_CLOEXEC", EventfdFlags::CLOEXEC.bits()),
        ("EFD_NONBLOCK", EventfdFlags::NONBLOCK.bits()),
    ] {
        facts.push(Fact::expression(name, value.into()));
    }
    facts
}
