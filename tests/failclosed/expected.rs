//! What each step calls, what puts up each layer, and which calls may fail: the expectations as
//! data. A step or a layer without a line here fails the test.

use cellwall::{Errno, Layer, Layers, Standing, Step};
use linux_raw::nr::{self, Nr};
use linux_raw::sys::prctl as sys;
use linux_raw::{ports, prctl};

use super::supervisor::Call;

/// The calls that a step makes. One that fails ends the start, and the error names both.
pub(super) const CALLS: &[(Step, &[Nr])] = &[
    (Step::DeathSignal, &[nr::PRCTL]),
    (Step::Descriptors, &[nr::DUP3, nr::CLOSE_RANGE, nr::FCNTL]),
    (Step::Ambient, &[nr::CAPGET, nr::CAPSET, nr::PRCTL]),
    (Step::IdMaps, &[nr::OPENAT, nr::WRITE]),
    (Step::Exec, &[nr::EXECVEAT]),
    // A nursery's worker gives itself a name there.
    (Step::SharedPages, &[nr::MMAP, nr::PRCTL]),
    (Step::Stack, &[nr::MMAP]),
    (
        Step::Standing,
        &[
            nr::SETSID,
            nr::SCHED_GETSCHEDULER,
            nr::SCHED_SETSCHEDULER,
            nr::GETPRIORITY,
            nr::SETPRIORITY,
            nr::SCHED_GETAFFINITY,
            nr::SCHED_SETAFFINITY,
            nr::OPENAT,
            nr::READ,
            nr::WRITE,
            nr::PRCTL,
        ],
    ),
    (Step::Bounding, &[nr::PRCTL]),
    (
        Step::User,
        &[
            nr::SETGROUPS,
            nr::SETRESGID,
            nr::SETRESUID,
            nr::GETRESUID,
            nr::GETRESGID,
        ],
    ),
    (
        Step::Root,
        &[
            nr::FSOPEN,
            nr::FSCONFIG,
            nr::FSMOUNT,
            nr::MOVE_MOUNT,
            nr::FCHDIR,
            nr::PIVOT_ROOT,
            nr::UMOUNT2,
        ],
    ),
    (
        Step::Privileges,
        &[nr::IOPL, nr::IOPERM, nr::PRCTL, nr::CAPSET],
    ),
    (Step::HostDeath, &[nr::PRCTL, nr::PPOLL]),
    (Step::Speculation, &[nr::PRCTL]),
    (Step::CoreScheduling, &[nr::PRCTL]),
    (Step::TimestampCounter, &[nr::PRCTL]),
    (Step::DenyWriteExecute, &[nr::PRCTL]),
    (Step::Regions, &[nr::MMAP]),
    (Step::Unmap, &[nr::MUNMAP]),
    (Step::Paging, &[nr::USERFAULTFD, nr::SENDMSG]),
    (
        Step::Signals,
        &[
            nr::RT_SIGACTION,
            nr::SIGALTSTACK,
            nr::RT_SIGPROCMASK,
            nr::MEMBARRIER,
        ],
    ),
    (
        Step::Landlock,
        &[nr::LANDLOCK_CREATE_RULESET, nr::LANDLOCK_RESTRICT_SELF],
    ),
    (Step::Limits, &[nr::PRLIMIT64]),
    (Step::CloseAll, &[nr::CLOSE_RANGE]),
    (Step::Seal, &[nr::MSEAL]),
    (Step::Seccomp, &[nr::SECCOMP]),
    // What a nursery keeps from its workers, and what it has of the host's.
    (Step::Ready, &[nr::MADVISE, nr::PRLIMIT64, nr::PRCTL]),
];

/// What puts up a layer: a call of a step, with these first arguments.
pub(super) const LAYERS: &[(Layer, Step, Nr, &[u32])] = &[
    (Layer::SystemCalls, Step::Seccomp, nr::SECCOMP, &[]),
    (Layer::UserNamespace, Step::IdMaps, nr::WRITE, &[]),
    (Layer::EmptyRoot, Step::Root, nr::PIVOT_ROOT, &[]),
    (Layer::UserId, Step::User, nr::SETRESUID, &[]),
    (
        Layer::NoNewPrivileges,
        Step::Privileges,
        nr::PRCTL,
        &[sys::PR_SET_NO_NEW_PRIVS],
    ),
    (Layer::Capabilities, Step::Privileges, nr::CAPSET, &[]),
    (
        Layer::BoundingSet,
        Step::Bounding,
        nr::PRCTL,
        &[sys::PR_CAPBSET_DROP],
    ),
    (
        Layer::Securebits,
        Step::Bounding,
        nr::PRCTL,
        &[sys::PR_SET_SECUREBITS],
    ),
    (
        Layer::NotDumpable,
        Step::Privileges,
        nr::PRCTL,
        &[sys::PR_SET_DUMPABLE],
    ),
    (Layer::WriteXorExecute, Step::Regions, nr::MMAP, &[]),
    (
        Layer::DenyWriteExecute,
        Step::DenyWriteExecute,
        nr::PRCTL,
        &[sys::PR_SET_MDWE],
    ),
    (Layer::Mseal, Step::Seal, nr::MSEAL, &[]),
    (Layer::KernelMappings, Step::Unmap, nr::MUNMAP, &[]),
    (Layer::Descriptors, Step::CloseAll, nr::CLOSE_RANGE, &[]),
    (
        Layer::LandlockFiles,
        Step::Landlock,
        nr::LANDLOCK_RESTRICT_SELF,
        &[],
    ),
    (
        Layer::LandlockNetwork,
        Step::Landlock,
        nr::LANDLOCK_RESTRICT_SELF,
        &[],
    ),
    (
        Layer::LandlockScopes,
        Step::Landlock,
        nr::LANDLOCK_RESTRICT_SELF,
        &[],
    ),
    (Layer::Limits, Step::Limits, nr::PRLIMIT64, &[]),
    (Layer::Signals, Step::Signals, nr::RT_SIGACTION, &[]),
    (Layer::Standing, Step::Standing, nr::SETSID, &[]),
    (
        Layer::HostDeath,
        Step::HostDeath,
        nr::PRCTL,
        &[sys::PR_SET_PDEATHSIG],
    ),
    (Layer::SharedWords, Step::SharedPages, nr::MMAP, &[]),
    // To ask comes first, and where the CPU has nothing to disable that is all.
    (
        Layer::StoreBypass,
        Step::Speculation,
        nr::PRCTL,
        &[sys::PR_GET_SPECULATION_CTRL, sys::PR_SPEC_STORE_BYPASS],
    ),
    (
        Layer::IndirectBranch,
        Step::Speculation,
        nr::PRCTL,
        &[sys::PR_GET_SPECULATION_CTRL, sys::PR_SPEC_INDIRECT_BRANCH],
    ),
    (
        Layer::CoreScheduling,
        Step::CoreScheduling,
        nr::PRCTL,
        &[sys::PR_SCHED_CORE],
    ),
    (
        Layer::TimestampCounter,
        Step::TimestampCounter,
        nr::PRCTL,
        &[sys::PR_SET_TSC],
    ),
];

/// Layers that come with the clone: all of them or no worker. The tests of the host's own calls
/// make that fail.
pub(super) const BY_CLONE: &[Layer] = &[
    Layer::UserNamespace,
    Layer::MountNamespace,
    Layer::PidNamespace,
    Layer::NetworkNamespace,
    Layer::IpcNamespace,
    Layer::UtsNamespace,
    Layer::CgroupNamespace,
];

/// Calls that may fail: every layer is up all the same.
pub(super) const HARMLESS: &[(Nr, &str)] = &[(
    nr::CLOSE,
    "what stays open is closed by the exec, or else by the step that closes everything",
)];

/// How a kernel says that it lacks a layer, to each call of this kind.
const LACKING: &[(Layer, Nr, &[u32], Errno)] = &[
    (
        Layer::DenyWriteExecute,
        nr::PRCTL,
        &[sys::PR_SET_MDWE],
        Errno::EINVAL,
    ),
    (
        Layer::DenyWriteExecute,
        nr::PRCTL,
        &[sys::PR_GET_MDWE],
        Errno::EINVAL,
    ),
    (Layer::Mseal, nr::MSEAL, &[], Errno::ENOSYS),
];

/// Calls of which a lie shows at once: they did nothing and are said to have succeeded. All others
/// are believed: who can answer in the kernel's place needs no guest.
const CHECKED: &[(Nr, &[u32])] = &[
    (nr::DUP3, &[]),
    (nr::EXECVEAT, &[]),
    (nr::MMAP, &[]),
    (nr::FSOPEN, &[]),
    (nr::FSMOUNT, &[]),
    (nr::MOVE_MOUNT, &[]),
    (nr::FCHDIR, &[]),
    (nr::LANDLOCK_CREATE_RULESET, &[]),
    (nr::PRCTL, &[sys::PR_SET_MDWE]),
    (nr::PRCTL, &[sys::PR_GET_MDWE]),
];

/// Whether it is this call, with these first arguments.
pub(super) fn is_such(call: Call, number: Nr, first: &[u32]) -> bool {
    let mut pairs = first.iter().zip(call.args);
    call.nr == number && pairs.all(|(wanted, arg)| u64::from(*wanted) == arg)
}

/// The layer that a kernel lacks which answers this.
pub(super) fn lacking(call: Call, errno: Errno) -> Option<Layer> {
    let mut rows = LACKING.iter();
    let row =
        rows.find(|(_, number, first, answer)| *answer == errno && is_such(call, *number, first));
    row.map(|(layer, ..)| *layer)
}

/// Whether a lie about a call may go unnoticed.
pub(super) fn is_believed(call: Call) -> bool {
    let mut rows = CHECKED.iter();
    !rows.any(|(number, first)| is_such(call, *number, first))
}

/// Whether the kernel here gives this answer by itself; `last` is its last capability.
pub(super) fn is_the_truth(call: Call, errno: Errno, layers: &Layers, last: u64) -> bool {
    let mut asks = [sys::PR_CAPBSET_DROP, sys::PR_CAPBSET_READ].iter();
    let is_past_the_last = asks.any(|option| is_such(call, nr::PRCTL, &[*option]))
        && call.args[1] > last
        && errno == Errno::EINVAL;
    let is_absent =
        lacking(call, errno).is_some_and(|layer| layers.standing(layer) == Standing::Absent(errno));
    let is_such = |number, first: &[u32]| is_such(call, number, first);
    let has_no_ports = ports::give_up_level() == Err(Errno::ENOSYS) && errno == Errno::ENOSYS;
    let merges_none = prctl::get_memory_merge() == Err(Errno::EINVAL) && errno == Errno::EINVAL;
    let is_needless = has_no_ports && (is_such(nr::IOPL, &[]) || is_such(nr::IOPERM, &[]))
        || merges_none
            && (is_such(nr::PRCTL, &[sys::PR_SET_MEMORY_MERGE])
                || is_such(nr::PRCTL, &[sys::PR_GET_MEMORY_MERGE]));
    is_past_the_last || is_absent || is_needless
}
