//! What an operator can do about a call that the kernel refused.

use linux_raw::Errno;

/// Advice for this errno of this call, if we know any.
pub(crate) fn about(call: &str, errno: Errno) -> Option<&'static str> {
    Some(match (call, errno) {
        ("clone3", Errno::EPERM) => {
            "User namespaces are forbidden here: by a container's seccomp profile, by AppArmor \
             (kernel.apparmor_restrict_unprivileged_userns), by user.max_user_namespaces, because \
             this process is in a chroot, or because its user has no id in its own user \
             namespace. `cellwall probe` tells more"
        }
        ("clone3", Errno::ENOSYS) => {
            "A seccomp profile around this process hides clone3: allow it there, or use Linux 5.5 \
             or later"
        }
        ("clone3", Errno::ENOSPC | Errno::EUSERS) => {
            "A limit on namespaces is reached: raise the user.max_*_namespaces sysctls"
        }
        ("clone3", Errno::EAGAIN) => "Too many processes: raise RLIMIT_NPROC or pids.max",
        ("memfd_create", Errno::EACCES) => {
            "Executable memfds are forbidden here: set vm.memfd_noexec to 0 or 1"
        }
        ("reopen the memfd through /proc/self/fd", Errno::ENOENT) => "Mount /proc for this process",
        ("execveat", Errno::EACCES) => {
            "Executing a memfd is forbidden here: by a security module, or by vm.memfd_noexec=2"
        }
        ("execveat", Errno::ENOSYS | Errno::EPERM) => {
            "A seccomp profile around this process forbids execveat: allow it there"
        }
        (_, Errno::EMFILE | Errno::ENFILE) | ("fcntl(F_DUPFD_CLOEXEC)", Errno::EINVAL) => {
            "Too many descriptors are open: raise RLIMIT_NOFILE (`ulimit -n`)"
        }
        ("mmap", Errno::EAGAIN) => {
            "This process locks its memory: raise RLIMIT_MEMLOCK (`ulimit -l`), or do without \
             mlockall(MCL_FUTURE)"
        }
        ("write the id maps", Errno::EACCES) => {
            "This process is not dumpable, as after setuid(), or when its file cannot be read: \
             execute it again after the change of user, or call prctl(PR_SET_DUMPABLE, 1)"
        }
        ("empty the root", Errno::ENOSPC) => {
            "A limit on mounts is reached: raise user.max_mnt_namespaces or fs.mount-max"
        }
        ("write the id maps", Errno::EPERM) => {
            "The id maps of a user namespace may not be written here; `cellwall probe` tells more"
        }
        ("empty the root", Errno::EPERM | Errno::EACCES) => {
            "Mounting inside a user namespace is forbidden here: by a container's seccomp profile \
             or by a security module. Allow fsopen, fsmount, move_mount and pivot_root"
        }
        ("empty the root", Errno::EINVAL) => {
            "The root cannot be replaced here, as on an initramfs: run from a root that is a mount of \
             its own"
        }
        ("empty the root", Errno::ENOSYS) => "Linux 5.2 or later is needed",
        ("install the system call filter", _) => {
            "The kernel must be built with CONFIG_SECCOMP_FILTER"
        }
        ("mmap", Errno::ENOMEM) => {
            "Address space is limited: raise RLIMIT_AS (`ulimit -v`) or vm.max_map_count. An \
             instance takes 4 GiB of it, and memory only for pages that are touched"
        }
        ("ftruncate", Errno::EFBIG) => {
            "The size of files is limited: raise RLIMIT_FSIZE (`ulimit -f`) to 4 GiB or more"
        }
        (_, Errno::ENOMEM) => "The machine, or a cgroup, is out of memory",
        _ => return None,
    })
}
