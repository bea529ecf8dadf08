//! What an operator can do about a call that the kernel refused.

use linux_raw::Errno;
use linux_raw::signal::Signal;
use vmctx::Step;

use crate::cgroup;
use crate::error::Stage;
use crate::interrupt::Death;
use crate::spawn::NOT_IN_PROC;

/// Its files in `/proc` are root's then.
pub(crate) const NOT_DUMPABLE: &str = "This process is not dumpable, as after setuid(), or when \
     its file cannot be read: execute it again after the change of user, or call \
     prctl(PR_SET_DUMPABLE, 1)";

/// What a worker does to itself, and an engine for it, the kernel lets everybody do, but for what
/// has advice of its own.
const FILTER: &str = "A seccomp filter around this process may forbid this call: allow it there, or \
     have it answered with ENOSYS if it is one that a wall can stand without; `cellwall probe` tells \
     which";

/// One of a pid namespace below or beside this process' own does not show it either.
const NO_PROC: &str = "Mount /proc for this process, of its own pid namespace";

/// Advice for this errno of this call at this stage, if we know any.
pub(crate) fn about(stage: Stage, call: &str, errno: Errno) -> Option<&'static str> {
    let of_step = match stage {
        Stage::Lockdown(step) => about_step(step, call, errno),
        _ => None,
    };
    let of_filter = match stage {
        // A guest is there by then, and other rules than those of a start.
        Stage::Run | Stage::Memory => None,
        _ => (errno == Errno::EPERM).then_some(FILTER),
    };
    of_step.or_else(|| about_call(call, errno)).or(of_filter)
}

fn about_step(step: Step, call: &str, errno: Errno) -> Option<&'static str> {
    Some(match (step, errno) {
        (Step::Exec, Errno::EACCES) => {
            "Executing a memfd is forbidden here: by a security module, or by vm.memfd_noexec=2"
        }
        (Step::Exec, Errno::ENOSYS | Errno::EPERM) => {
            "A seccomp profile around this process forbids execveat: allow it there"
        }
        (Step::IdMaps, Errno::EACCES) => NOT_DUMPABLE,
        (Step::IdMaps, Errno::EPERM | Errno::EINVAL) => {
            "The id maps of a user namespace may not be written here, or the user of Config::uid \
             or the group of Config::gid does not exist in this user namespace, or this process \
             lacks CAP_SETUID or CAP_SETGID; `cellwall probe` tells more"
        }
        (Step::User, Errno::EPERM) => {
            "Becoming another user takes CAP_SETUID and CAP_SETGID: give Config::uid and \
             Config::gid this process' own, or run the host as an ordinary user"
        }
        (Step::User, Errno::EINVAL) => {
            "The user of Config::uid or the group of Config::gid does not exist in this process' \
             user namespace: give others"
        }
        (Step::Standing, Errno::EACCES | Errno::EPERM) if call == "setpriority" => {
            "A nice value below the host's takes RLIMIT_NICE, whoever the host is: raise that limit, \
             start the host with that value, or give Config::nice a higher one"
        }
        (Step::Standing, Errno::EINVAL) if call == "sched_setaffinity" => {
            "None of the CPUs of Config::cpus may be used by this process: see its cpuset and \
             `nproc --all`"
        }
        (Step::Standing | Step::IdMaps, Errno::ENOENT) => NO_PROC,
        (Step::Root, Errno::ENOSPC) => {
            "A limit on mounts is reached: raise user.max_mnt_namespaces or fs.mount-max"
        }
        (Step::Root, Errno::EPERM | Errno::EACCES) => {
            "Mounting inside a user namespace is forbidden here: by a container's seccomp profile \
             or by a security module. Allow fsopen, fsmount, move_mount and pivot_root"
        }
        (Step::Root, Errno::EINVAL) => {
            "The root cannot be replaced here, as on an initramfs: run from a root that is a mount of \
             its own"
        }
        (Step::Root, Errno::ENOSYS) => "Linux 5.2 or later is needed",
        (Step::Landlock, Errno::ENOSYS | Errno::EOPNOTSUPP) => {
            "Landlock is not there: use Linux 5.13 or later with CONFIG_SECURITY_LANDLOCK, and with \
             landlock in the kernel's lsm= list"
        }
        (Step::Landlock, Errno::E2BIG) => {
            "This process has the most Landlock domains that there can be, 16: start the host from \
             fewer of them"
        }
        (Step::CoreScheduling, _) => {
            "Core scheduling needs Linux 5.14 with CONFIG_SCHED_CORE and a CPU with several threads \
             a core: leave Config::core_scheduling off elsewhere"
        }
        (Step::Privileges, Errno::EPERM | Errno::ENOSYS) if call == "iopl" || call == "ioperm" => {
            "A seccomp filter around this process forbids to give up I/O ports, and it could not be \
             shown that the thread which made the engine has none: allow ptrace there, or iopl and \
             ioperm, which give no port without CAP_SYS_RAWIO"
        }
        (Step::Speculation, _) => {
            "The kernel controls speculation otherwise: boot with spec_store_bypass_disable=prctl \
             and spectre_v2_user=prctl, or use Config::keep_speculation"
        }
        (Step::Seccomp, _) => "The kernel must be built with CONFIG_SECCOMP_FILTER",
        _ => return None,
    })
}

/// Advice for a worker's death before a guest ran in it, if we know any.
pub(crate) fn about_death(death: Death) -> Option<&'static str> {
    (death == Death::Killed(Signal::SYS)).then_some(FILTER)
}

fn about_call(call: &str, errno: Errno) -> Option<&'static str> {
    Some(match (call, errno) {
        ("clone3", Errno::EACCES | Errno::EBADF | Errno::E2BIG) | (cgroup::OPEN, _) => {
            "Config::cgroup takes a group of cgroup v2, Linux 5.7 or later, and the right to write \
             cgroup.procs there and in the closest group around it and the host's own (cgroups(7), \
             \"Delegation\")"
        }
        ("clone3", Errno::ENOENT | Errno::ENODEV) => {
            "The group of Config::cgroup has been removed; or it is outside of this process' cgroup \
             namespace, and the hierarchy is mounted with nsdelegate: take a group inside of it"
        }
        ("clone3", Errno::EBUSY) => {
            "The group of Config::cgroup shares out controllers to groups inside of it \
             (cgroup.subtree_control): take one of those"
        }
        (cgroup::LIMIT, Errno::EACCES | Errno::EPERM) => {
            "The limits of a group that was delegated are for who did that to set: make a group \
             inside of it, with limits of its own"
        }
        (cgroup::LIMIT, Errno::EINVAL) => {
            "The kernel does not take this value: cpu.max wants at least 1,000 microseconds in a \
             period of at most a second"
        }
        (cgroup::LIMIT, Errno::ENOENT) => {
            "The group does not have that controller: add it to cgroup.subtree_control of the group \
             around it"
        }
        ("pidfd_send_signal", Errno::EPERM) => {
            "This process may not kill its workers any more: give up privileges, enter a Landlock \
             domain or install a filter before the engine is made. Until then such workers run on"
        }
        ("clone3" | "clone", Errno::EPERM) => {
            "User namespaces are forbidden here: by a container's seccomp profile, by AppArmor \
             (kernel.apparmor_restrict_unprivileged_userns), by user.max_user_namespaces, because \
             this process is in a chroot, or because its user has no id in its own user \
             namespace. `cellwall probe` tells more. Where nothing else is possible, \
             Config::tier(Tier::WithoutNamespaces) is a weaker wall without them"
        }
        ("clone3" | "clone", Errno::ENOSPC | Errno::EUSERS) => {
            "A limit on namespaces is reached: raise the user.max_*_namespaces sysctls"
        }
        ("pthread_create", Errno::EAGAIN) => {
            "Too many threads, or no room for the stack of one: raise RLIMIT_NPROC, RLIMIT_DATA, \
             RLIMIT_AS, kernel.threads-max, or pids.max of a cgroup"
        }
        ("pthread_create", Errno::EPERM) => {
            "A seccomp filter around this process forbids clone3: have it answer ENOSYS, so that \
             the C library and Cellwall take clone"
        }
        ("clone3" | "clone", Errno::EAGAIN) => {
            "Too many processes: raise RLIMIT_NPROC, kernel.threads-max, or pids.max of a cgroup, such \
             as Cgroup::pids_max has set"
        }
        (NOT_IN_PROC, Errno::ESRCH) => {
            "/proc here is of another pid namespace: mount one of this process' own"
        }
        ("stat /proc/sys", Errno::ENOENT) => {
            "Mount all of /proc for this process, not only its processes (subset=pid, or ProcSubset= \
             of a systemd unit)"
        }
        ("memfd_create", Errno::EACCES) => {
            "Executable memfds are forbidden here: set vm.memfd_noexec to 0 or 1"
        }
        (
            "reopen the memfd through /proc/self/fd"
            | "read /proc/self/uid_map"
            | "open /proc/self/oom_score_adj",
            Errno::ENOENT,
        ) => NO_PROC,
        _ => return about_limit(call, errno),
    })
}

/// The same for what a process may have of something.
fn about_limit(call: &str, errno: Errno) -> Option<&'static str> {
    Some(match (call, errno) {
        (_, Errno::EMFILE | Errno::ENFILE) | ("fcntl(F_DUPFD_CLOEXEC)", Errno::EINVAL) => {
            "Too many descriptors are open: raise RLIMIT_NOFILE (`ulimit -n`)"
        }
        ("mmap", Errno::EAGAIN) => {
            "This process locks its memory: raise RLIMIT_MEMLOCK (`ulimit -l`), or do without \
             mlockall(MCL_FUTURE)"
        }
        ("mmap", Errno::ENOMEM) => {
            "Address space is limited: raise RLIMIT_AS (`ulimit -v`) or vm.max_map_count. An \
             instance takes 4 GiB of it, and memory only for pages that are touched"
        }
        ("ftruncate", Errno::EFBIG) => {
            "The size of files is limited: raise RLIMIT_FSIZE (`ulimit -f`) to 4 GiB or more"
        }
        ("UFFDIO_REGISTER" | "UFFDIO_UNREGISTER", Errno::ENOMEM) => {
            "The machine, or a cgroup, is out of memory; or the worker has as many mappings as \
             vm.max_map_count allows: change larger ranges at once"
        }
        (_, Errno::ENOMEM) => "The machine, or a cgroup, is out of memory",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use linux_raw::Errno;
    use vmctx::Step;

    use super::{FILTER, about};
    use crate::error::Stage;

    #[test]
    fn a_start_that_is_not_permitted_may_be_a_filters_doing() {
        let start = [
            Stage::Engine,
            Stage::Module,
            Stage::Nursery,
            Stage::Start,
            Stage::Lockdown(Step::Signals),
        ];
        for stage in start {
            let about = |call, errno| about(stage, call, errno);
            assert_eq!(about("socketpair", Errno::EPERM), Some(FILTER), "{stage}");
            assert_eq!(about("socketpair", Errno::EINVAL), None, "{stage}");
            // Who knows more says more.
            let known = about("pidfd_send_signal", Errno::EPERM);
            assert!(known.is_some_and(|known| known != FILTER), "{stage}");
        }
        assert_eq!(about(Stage::Run, "socketpair", Errno::EPERM), None);
    }
}
