#![expect(unsafe_code, reason = "installs handlers and alternate stacks")]
//! Signals: names, sets, handlers, masks and stacks.

use bitflags::bitflags;
use core::fmt;
use linux_raw_sys::general as sys;

use crate::arch;
use crate::errno::Errno;
use crate::nr;

pub use crate::siginfo::SigInfo;

/// A signal's number, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Signal(u32);

macro_rules! signals {
    ($($name:ident $kernel:ident,)*) => {
        impl Signal {
            $(
                #[doc = concat!("`", stringify!($kernel), "`.")]
                pub const $name: Self = Self(sys::$kernel);
            )*

            /// The C name, such as `SIGSEGV`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($kernel),)*
                    Self(32..=64) => "a real-time signal",
                    _ => "unknown",
                }
            }

            /// Every signal that has a name.
            pub const NAMED: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

signals! {
    HUP SIGHUP, INT SIGINT, QUIT SIGQUIT, ILL SIGILL, TRAP SIGTRAP, ABRT SIGABRT, BUS SIGBUS,
    FPE SIGFPE, KILL SIGKILL, USR1 SIGUSR1, SEGV SIGSEGV, USR2 SIGUSR2, PIPE SIGPIPE, ALRM SIGALRM,
    TERM SIGTERM, STKFLT SIGSTKFLT, CHLD SIGCHLD, CONT SIGCONT, STOP SIGSTOP, TSTP SIGTSTP,
    TTIN SIGTTIN, TTOU SIGTTOU, URG SIGURG, XCPU SIGXCPU, XFSZ SIGXFSZ, VTALRM SIGVTALRM,
    PROF SIGPROF, WINCH SIGWINCH, IO SIGIO, PWR SIGPWR, SYS SIGSYS,
}

impl Signal {
    /// The signal with this number, if there can be one.
    #[must_use]
    pub const fn from_raw(number: u32) -> Option<Self> {
        match number {
            1..=sys::_NSIG => Some(Self(number)),
            _ => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", self.name(), self.0)
    }
}

/// A set of signals, as the kernel has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct SigSet(u64);

impl SigSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// Every signal; the kernel leaves `SIGKILL` and `SIGSTOP` out where it must.
    pub const FULL: Self = Self(u64::MAX);

    /// This set and `signal`.
    #[must_use]
    pub const fn with(self, signal: Signal) -> Self {
        Self(self.0 | 1 << (signal.0 - 1))
    }

    /// This set without `signal`.
    #[must_use]
    pub const fn without(self, signal: Signal) -> Self {
        Self(self.0 & !(1 << (signal.0 - 1)))
    }

    /// Whether `signal` is in it.
    #[must_use]
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & 1 << (signal.0 - 1) != 0
    }

    /// Bit `n - 1` is signal `n`.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// Bytes in a [`SigSet`], which the kernel asks for.
const SET_BYTES: usize = size_of::<SigSet>();

bitflags! {
    /// How a handler runs.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[repr(transparent)]
    pub struct SaFlags: u64 {
        /// The handler gets [`SigInfo`] and a frame.
        const SIGINFO = sys::SA_SIGINFO as u64;
        /// On the alternate stack.
        const ONSTACK = sys::SA_ONSTACK as u64;
        /// The signal is not blocked while its handler runs.
        const NODEFER = sys::SA_NODEFER as u64;
        /// `restorer` is set; x86-64 kernels refuse to deliver without.
        const RESTORER = sys::SA_RESTORER as u64;
    }
}

/// What happens at a signal (the kernel's `struct sigaction`, not libc's).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SigAction {
    /// The handler's address, [`SigAction::DEFAULT_HANDLER`] or [`SigAction::IGNORE_HANDLER`].
    pub handler: usize,
    /// How it runs.
    pub flags: SaFlags,
    /// What it returns to: the address of [`arch::sigreturn`], or zero if it never returns.
    pub restorer: usize,
    /// What is blocked meanwhile.
    pub mask: SigSet,
}

same_layout!(SigAction, sys::kernel_sigaction:
    handler = sa_handler_kernel,
    flags = sa_flags,
    restorer = sa_restorer,
    mask = sa_mask,
);

impl SigAction {
    /// What the signal does by default (`SIG_DFL`).
    pub const DEFAULT_HANDLER: usize = 0;
    /// Nothing (`SIG_IGN`).
    pub const IGNORE_HANDLER: usize = 1;

    /// The default action.
    pub const DEFAULT: Self = Self {
        handler: Self::DEFAULT_HANDLER,
        flags: SaFlags::empty(),
        restorer: 0,
        mask: SigSet::EMPTY,
    };

    /// No action.
    pub const IGNORE: Self = Self {
        handler: Self::IGNORE_HANDLER,
        ..Self::DEFAULT
    };
}

/// Sets what happens at a signal and answers what did (`rt_sigaction`).
///
/// Since Linux 2.2.
///
/// # Errors
///
/// `EINVAL` for `SIGKILL` and `SIGSTOP`.
///
/// # Safety
///
/// The handler must be sound to run between any two instructions of this process, on the stack
/// that the flags say, and the restorer must return from its frame.
pub unsafe fn sigaction(signal: Signal, action: &SigAction) -> Result<SigAction, Errno> {
    let mut old = SigAction::DEFAULT;
    // SAFETY: both structs have the kernel's layout; the caller answers for the handler.
    let answer = unsafe {
        arch::syscall4(
            nr::RT_SIGACTION,
            signal.0.into(),
            (&raw const *action).into(),
            (&raw mut old).into(),
            SET_BYTES.into(),
        )
    };
    answer.done().map(|()| old)
}

/// An alternate signal stack (`stack_t`).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct AltStack {
    /// The lowest address.
    pub base: *mut u8,
    /// How it is used.
    pub flags: AltStackFlags,
    /// Bytes.
    pub bytes: usize,
}

bitflags! {
    /// How an alternate stack is used.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[repr(transparent)]
    pub struct AltStackFlags: u32 {
        /// Answered only: in use right now.
        const ONSTACK = sys::SS_ONSTACK;
        /// There is none.
        const DISABLE = sys::SS_DISABLE;
        /// Off while a handler runs on it. Since Linux 4.7.
        const AUTODISARM = sys::SS_AUTODISARM;
    }
}

same_layout!(AltStack, sys::sigaltstack: base = ss_sp, flags = ss_flags, bytes = ss_size);

impl AltStack {
    /// No alternate stack.
    pub const NONE: Self = Self {
        base: core::ptr::null_mut(),
        flags: AltStackFlags::DISABLE,
        bytes: 0,
    };
}

/// Sets the thread's alternate signal stack and answers the old one.
///
/// Since Linux 2.2.
///
/// # Errors
///
/// `ENOMEM` if it is shorter than the kernel's minimum (`AT_MINSIGSTKSZ`), `EPERM` while on it.
///
/// # Safety
///
/// The memory must stay mapped and unused for as long as it is the alternate stack.
pub unsafe fn sigaltstack(stack: &AltStack) -> Result<AltStack, Errno> {
    let mut old = AltStack::NONE;
    // SAFETY: both structs have the kernel's layout; the caller answers for the memory.
    let answer = unsafe {
        arch::syscall2(
            nr::SIGALTSTACK,
            (&raw const *stack).into(),
            (&raw mut old).into(),
        )
    };
    answer.done().map(|()| old)
}

/// What [`sigprocmask`] does with its set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum MaskHow {
    /// Blocks its signals too.
    Block = sys::SIG_BLOCK,
    /// Unblocks its signals.
    Unblock = sys::SIG_UNBLOCK,
    /// Blocks exactly its signals.
    Set = sys::SIG_SETMASK,
}

/// Changes which signals are blocked in this thread and answers which were (`rt_sigprocmask`).
///
/// Since Linux 2.2.
///
/// # Errors
///
/// None that a correct kernel answers.
pub fn sigprocmask(how: MaskHow, set: &SigSet) -> Result<SigSet, Errno> {
    let mut old = SigSet::EMPTY;
    // SAFETY: both sets have the kernel's layout and the size given.
    let answer = unsafe {
        arch::syscall4(
            nr::RT_SIGPROCMASK,
            (how as u32).into(),
            (&raw const *set).into(),
            (&raw mut old).into(),
            SET_BYTES.into(),
        )
    };
    answer.done().map(|()| old)
}
