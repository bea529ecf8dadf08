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

        impl Nr {
            /// The name of a call that is named here, as the manual has it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $(sys::$kernel => stringify!($kernel).split_at("__NR_".len()).1,)*
                    _ => "a system call",
                }
            }
        }

        /// Every call named here with its name.
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
    EVENTFD2 = __NR_eventfd2,
    DUP3 = __NR_dup3,
    FCNTL = __NR_fcntl,
    CLOSE_RANGE = __NR_close_range,
    LSEEK = __NR_lseek,
    IOCTL = __NR_ioctl,
    MMAP = __NR_mmap,
    MUNMAP = __NR_munmap,
    MUNLOCK = __NR_munlock,
    MPROTECT = __NR_mprotect,
    MADVISE = __NR_madvise,
    MSEAL = __NR_mseal,
    MEMFD_CREATE = __NR_memfd_create,
    FTRUNCATE = __NR_ftruncate,
    FALLOCATE = __NR_fallocate,
    FSTAT = __NR_fstat,
    USERFAULTFD = __NR_userfaultfd,
    MEMBARRIER = __NR_membarrier,
    CLONE3 = __NR_clone3,
    CLONE = __NR_clone,
    FORK = __NR_fork,
    EXECVEAT = __NR_execveat,
    EXIT_GROUP = __NR_exit_group,
    GETPID = __NR_getpid,
    GETPPID = __NR_getppid,
    GETTID = __NR_gettid,
    GETEUID = __NR_geteuid,
    GETEGID = __NR_getegid,
    SETSID = __NR_setsid,
    GETCPU = __NR_getcpu,
    GETRUSAGE = __NR_getrusage,
    PRLIMIT64 = __NR_prlimit64,
    SCHED_YIELD = __NR_sched_yield,
    SCHED_SETSCHEDULER = __NR_sched_setscheduler,
    SCHED_GETSCHEDULER = __NR_sched_getscheduler,
    SCHED_SETAFFINITY = __NR_sched_setaffinity,
    SCHED_GETAFFINITY = __NR_sched_getaffinity,
    SETPRIORITY = __NR_setpriority,
    GETPRIORITY = __NR_getpriority,
    WAIT4 = __NR_wait4,
    WAITID = __NR_waitid,
    PIDFD_OPEN = __NR_pidfd_open,
    PIDFD_GETFD = __NR_pidfd_getfd,
    PIDFD_SEND_SIGNAL = __NR_pidfd_send_signal,
    FUTEX = __NR_futex,
    RT_SIGACTION = __NR_rt_sigaction,
    RT_SIGPROCMASK = __NR_rt_sigprocmask,
    SIGALTSTACK = __NR_sigaltstack,
    PRCTL = __NR_prctl,
    GETRANDOM = __NR_getrandom,
    SECCOMP = __NR_seccomp,
    CAPSET = __NR_capset,
    IOPL = __NR_iopl,
    IOPERM = __NR_ioperm,
    PTRACE = __NR_ptrace,
    CAPGET = __NR_capget,
    SETGROUPS = __NR_setgroups,
    SETRESUID = __NR_setresuid,
    SETRESGID = __NR_setresgid,
    GETRESUID = __NR_getresuid,
    GETRESGID = __NR_getresgid,
    MOUNT = __NR_mount,
    UMOUNT2 = __NR_umount2,
    PIVOT_ROOT = __NR_pivot_root,
    FCHDIR = __NR_fchdir,
    FSOPEN = __NR_fsopen,
    FSCONFIG = __NR_fsconfig,
    FSMOUNT = __NR_fsmount,
    MOVE_MOUNT = __NR_move_mount,
    SOCKETPAIR = __NR_socketpair,
    SENDMSG = __NR_sendmsg,
    RECVMSG = __NR_recvmsg,
    CLOCK_GETTIME = __NR_clock_gettime,
    LANDLOCK_CREATE_RULESET = __NR_landlock_create_ruleset,
    LANDLOCK_RESTRICT_SELF = __NR_landlock_restrict_self,
    IO_URING_SETUP = __NR_io_uring_setup,
    IO_URING_ENTER = __NR_io_uring_enter,
    IO_URING_REGISTER = __NR_io_uring_register,
}
