//! The numbers of the system calls that Cellwall makes or filters.

use linux_raw_sys::general as sys;

/// A system call's number on this architecture.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Nr(u32);

impl Nr {
    /// Any number, for filters and for tests that try calls this crate has no name for.
    #[must_use]
    pub const fn from_raw(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The number as the kernel takes it in its register.
    #[inline]
    pub(crate) const fn register(self) -> isize {
        (self.0 as usize).cast_signed()
    }
}

macro_rules! calls {
    ($($name:ident = $kernel:ident,)*) => {
        $(
            #[doc = concat!("`", stringify!($kernel), "`.")]
            pub const $name: Nr = Nr(sys::$kernel);
        )*

        /// Every call named here with its name, to print what a policy allows.
        pub const NAMED: &[(Nr, &str)] = &[$(($name, stringify!($name)),)*];
    };
}

calls! {
    READ = __NR_read,
    WRITE = __NR_write,
    CLOSE = __NR_close,
    OPENAT = __NR_openat,
    PREAD64 = __NR_pread64,
    PWRITE64 = __NR_pwrite64,
    PPOLL = __NR_ppoll,
    DUP3 = __NR_dup3,
    FCNTL = __NR_fcntl,
    CLOSE_RANGE = __NR_close_range,
    LSEEK = __NR_lseek,
    FSTAT = __NR_fstat,
    READLINKAT = __NR_readlinkat,
    MKDIRAT = __NR_mkdirat,
    IOCTL = __NR_ioctl,
    MMAP = __NR_mmap,
    MUNMAP = __NR_munmap,
    MUNLOCK = __NR_munlock,
    MPROTECT = __NR_mprotect,
    MADVISE = __NR_madvise,
    MSEAL = __NR_mseal,
    MINCORE = __NR_mincore,
    PROCESS_MADVISE = __NR_process_madvise,
    PKEY_ALLOC = __NR_pkey_alloc,
    MEMFD_CREATE = __NR_memfd_create,
    MEMFD_SECRET = __NR_memfd_secret,
    FTRUNCATE = __NR_ftruncate,
    FALLOCATE = __NR_fallocate,
    USERFAULTFD = __NR_userfaultfd,
    CLONE = __NR_clone,
    CLONE3 = __NR_clone3,
    FORK = __NR_fork,
    VFORK = __NR_vfork,
    EXECVE = __NR_execve,
    EXECVEAT = __NR_execveat,
    EXIT = __NR_exit,
    EXIT_GROUP = __NR_exit_group,
    GETPID = __NR_getpid,
    GETPPID = __NR_getppid,
    GETTID = __NR_gettid,
    GETUID = __NR_getuid,
    GETEUID = __NR_geteuid,
    GETGID = __NR_getgid,
    GETEGID = __NR_getegid,
    SETUID = __NR_setuid,
    SETGID = __NR_setgid,
    SETGROUPS = __NR_setgroups,
    SETRESUID = __NR_setresuid,
    SETRESGID = __NR_setresgid,
    SETSID = __NR_setsid,
    GETCPU = __NR_getcpu,
    PRLIMIT64 = __NR_prlimit64,
    SCHED_YIELD = __NR_sched_yield,
    SCHED_SETSCHEDULER = __NR_sched_setscheduler,
    SCHED_GETSCHEDULER = __NR_sched_getscheduler,
    SCHED_SETAFFINITY = __NR_sched_setaffinity,
    SCHED_GETAFFINITY = __NR_sched_getaffinity,
    GETRANDOM = __NR_getrandom,
    KILL = __NR_kill,
    TGKILL = __NR_tgkill,
    WAIT4 = __NR_wait4,
    WAITID = __NR_waitid,
    PTRACE = __NR_ptrace,
    PROCESS_VM_READV = __NR_process_vm_readv,
    PROCESS_VM_WRITEV = __NR_process_vm_writev,
    PIDFD_OPEN = __NR_pidfd_open,
    PIDFD_SEND_SIGNAL = __NR_pidfd_send_signal,
    PIDFD_GETFD = __NR_pidfd_getfd,
    FUTEX = __NR_futex,
    FUTEX_WAIT = __NR_futex_wait,
    FUTEX_WAKE = __NR_futex_wake,
    FUTEX_WAITV = __NR_futex_waitv,
    RT_SIGACTION = __NR_rt_sigaction,
    RT_SIGPROCMASK = __NR_rt_sigprocmask,
    RT_SIGRETURN = __NR_rt_sigreturn,
    RT_SIGQUEUEINFO = __NR_rt_sigqueueinfo,
    SIGALTSTACK = __NR_sigaltstack,
    RESTART_SYSCALL = __NR_restart_syscall,
    NANOSLEEP = __NR_nanosleep,
    CLOCK_NANOSLEEP = __NR_clock_nanosleep,
    PRCTL = __NR_prctl,
    ARCH_PRCTL = __NR_arch_prctl,
    SECCOMP = __NR_seccomp,
    CAPGET = __NR_capget,
    CAPSET = __NR_capset,
    UNSHARE = __NR_unshare,
    SETNS = __NR_setns,
    MOUNT = __NR_mount,
    UMOUNT2 = __NR_umount2,
    PIVOT_ROOT = __NR_pivot_root,
    CHDIR = __NR_chdir,
    FCHDIR = __NR_fchdir,
    CHROOT = __NR_chroot,
    FSOPEN = __NR_fsopen,
    FSCONFIG = __NR_fsconfig,
    FSMOUNT = __NR_fsmount,
    MOVE_MOUNT = __NR_move_mount,
    OPEN_TREE = __NR_open_tree,
    MOUNT_SETATTR = __NR_mount_setattr,
    SOCKET = __NR_socket,
    SOCKETPAIR = __NR_socketpair,
    CONNECT = __NR_connect,
    BIND = __NR_bind,
    LISTEN = __NR_listen,
    ACCEPT4 = __NR_accept4,
    SENDTO = __NR_sendto,
    RECVFROM = __NR_recvfrom,
    SENDMSG = __NR_sendmsg,
    RECVMSG = __NR_recvmsg,
    SHUTDOWN = __NR_shutdown,
    CLOCK_GETTIME = __NR_clock_gettime,
    LANDLOCK_CREATE_RULESET = __NR_landlock_create_ruleset,
    LANDLOCK_ADD_RULE = __NR_landlock_add_rule,
    LANDLOCK_RESTRICT_SELF = __NR_landlock_restrict_self,
    IO_URING_SETUP = __NR_io_uring_setup,
    IO_URING_ENTER = __NR_io_uring_enter,
    IO_URING_REGISTER = __NR_io_uring_register,
    BPF = __NR_bpf,
    PERF_EVENT_OPEN = __NR_perf_event_open,
    KEYCTL = __NR_keyctl,
    ADD_KEY = __NR_add_key,
    REQUEST_KEY = __NR_request_key,
    SET_ROBUST_LIST = __NR_set_robust_list,
    RSEQ = __NR_rseq,
    SET_TID_ADDRESS = __NR_set_tid_address,
    MEMBARRIER = __NR_membarrier,
    MODIFY_LDT = __NR_modify_ldt,
    PERSONALITY = __NR_personality,
    OPEN_BY_HANDLE_AT = __NR_open_by_handle_at,
    EPOLL_CREATE1 = __NR_epoll_create1,
    EPOLL_CTL = __NR_epoll_ctl,
    EPOLL_WAIT = __NR_epoll_wait,
    EPOLL_PWAIT2 = __NR_epoll_pwait2,
    EVENTFD2 = __NR_eventfd2,
    TIMERFD_CREATE = __NR_timerfd_create,
    SIGNALFD4 = __NR_signalfd4,
    INOTIFY_INIT1 = __NR_inotify_init1,
    SHMGET = __NR_shmget,
    SHMAT = __NR_shmat,
    MSGGET = __NR_msgget,
    SEMGET = __NR_semget,
    BRK = __NR_brk,
    MREMAP = __NR_mremap,
    MLOCK = __NR_mlock,
}
