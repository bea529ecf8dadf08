//! Why a guest gave control back.

use std::fmt;

use linux_raw::signal::Signal;
use vmctx::HOSTCALL_ARGS;

/// Why [`Instance::run`](crate::Instance::run) returned. A guest's misdeeds are interrupts too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interrupt {
    /// The guest finished with this value.
    Finished(u64),
    /// The guest makes a hostcall: `answer` it, or `call` something else.
    Hostcall(Hostcall),
    /// The guest did what its machine code or memory does not allow. It does not go on; `call`
    /// enters it anew, unless the trap is a forbidden system call that is not only reported: then
    /// the instance is over.
    Trap(Trap),
    /// The guest touched a page that is not there, and its module pages dynamically
    /// ([`ModuleBuilder::dynamic_paging`](crate::ModuleBuilder::dynamic_paging)). Map it, and the
    /// next `run` goes on exactly where it was; or `refuse_fault`, or `call` something else.
    PageFault(PageFault),
    /// The pager wanted to map more than the instance or the engine may hold. The guest is stopped
    /// in this fault as in a [`PageFault`](Self::PageFault).
    OutOfMemory(PageFault),
    /// The guest's gas is used up ([`Instance::gas`](crate::Instance::gas)). The next `run` goes on
    /// where it was.
    OutOfGas,
    /// The deadline passed ([`Instance::set_deadline`](crate::Instance::set_deadline)). The next
    /// `run` goes on where the guest was, or, if it was in a page fault, tries that again.
    Deadline,
    /// An [`InterruptHandle`](crate::InterruptHandle) was used. The next `run` does what this one
    /// was to do, or goes on where the guest was.
    Interrupted,
    /// The worker died: the guest ended its process, something outside killed it, or it did not
    /// stop when it had to. The instance is over.
    Died(Death),
}

/// A touch of a page that is not there, as the worker reported it. A hostile guest can write this
/// report: what it asks for is what it could have had by a touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageFault {
    /// The address: of the first byte that is not there, in an access across two pages.
    pub address: u64,
    /// What the guest wanted: to read or to write. What is fetched from there is never code.
    pub access: Access,
    /// The address of the instruction, which is executed anew.
    pub pc: u64,
}

impl PageFault {
    /// The address of the page.
    #[must_use]
    pub const fn page(&self) -> u64 {
        self.address & !(vmctx::PAGE_BYTES - 1)
    }
}

/// A hostcall: what it means is between the guest and the embedder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hostcall {
    /// Which one.
    pub number: u32,
    /// Its arguments. They are the guest's claims: addresses and lengths among them are checked
    /// by [`Instance::read`](crate::Instance::read) and
    /// [`Instance::write`](crate::Instance::write).
    pub args: [u64; HOSTCALL_ARGS],
}

/// A trap, as the worker reported it. A hostile guest can write this report: show it, count it,
/// but do not decide on it what is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trap {
    /// What kind.
    pub kind: TrapKind,
    /// The faulting address of a memory trap, where the CPU tells it.
    pub address: Option<u64>,
    /// What the guest wanted at that address.
    pub access: Option<Access>,
    /// The address of the instruction, where it is known: not for a forbidden system call that
    /// killed the worker.
    pub pc: Option<u64>,
    /// The number of a forbidden system call, with
    /// [`Config::report_forbidden_calls`](crate::Config::report_forbidden_calls).
    pub call: Option<u32>,
}

impl Trap {
    /// A trap of which nothing is known but its kind.
    #[must_use]
    pub const fn new(kind: TrapKind) -> Self {
        Self {
            kind,
            address: None,
            access: None,
            pc: None,
            call: None,
        }
    }
}

/// What kind of trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrapKind {
    /// Memory that is not there or not allowed so: SIGSEGV.
    Memory,
    /// An unaligned access where alignment is asked for, or memory that the machine could not
    /// provide: SIGBUS.
    Bus,
    /// An instruction that is none, or is privileged: SIGILL.
    IllegalInstruction,
    /// A division by zero or a floating-point exception: SIGFPE.
    Arithmetic,
    /// A breakpoint or single step: SIGTRAP.
    Breakpoint,
    /// A system call that the filter forbids: SIGSYS. The kernel killed the worker, unless
    /// [`Config::report_forbidden_calls`](crate::Config::report_forbidden_calls) is on.
    ForbiddenCall,
}

impl TrapKind {
    /// The signal that a shell would show for it.
    #[must_use]
    pub fn signal(self) -> Signal {
        match self {
            Self::Memory => Signal::SEGV,
            Self::Bus => Signal::BUS,
            Self::IllegalInstruction => Signal::ILL,
            Self::Arithmetic => Signal::FPE,
            Self::Breakpoint => Signal::TRAP,
            Self::ForbiddenCall => Signal::SYS,
        }
    }

    pub(crate) fn from_signal(signal: Signal) -> Option<Self> {
        [
            Self::Memory,
            Self::Bus,
            Self::IllegalInstruction,
            Self::Arithmetic,
            Self::Breakpoint,
            Self::ForbiddenCall,
        ]
        .into_iter()
        .find(|kind| kind.signal() == signal)
    }
}

/// What an access to memory wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To read.
    Read,
    /// To write.
    Write,
    /// To execute.
    Execute,
}

/// How a worker died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Death {
    /// It ended itself with this status.
    Exited(i32),
    /// A signal killed it.
    Killed(Signal),
    /// It did not stop when it was told to, for longer than
    /// [`Config::stop_timeout`](crate::Config::stop_timeout), and was killed. The worker's own code
    /// does not take so long: the guest has jumped into it.
    Unresponsive,
    /// It is gone, and so is its exit status: the embedder ignores SIGCHLD, or waits for all of
    /// its children. A forbidden system call cannot be told from another death then.
    Unknown,
}

impl fmt::Display for Interrupt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished(value) => write!(out, "finished with {value}"),
            Self::Hostcall(call) => write!(out, "hostcall {}", call.number),
            Self::Trap(trap) => trap.fmt(out),
            Self::PageFault(fault) => fault.fmt(out),
            Self::OutOfMemory(fault) => write!(out, "no memory left for a {fault}"),
            Self::OutOfGas => write!(out, "out of gas"),
            Self::Deadline => write!(out, "the deadline passed"),
            Self::Interrupted => write!(out, "interrupted"),
            Self::Died(death) => death.fmt(out),
        }
    }
}

impl fmt::Display for PageFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, pc) = (self.address, self.pc);
        let doing = doing(self.access);
        write!(out, "page fault, {doing} {address:#x}, at pc {pc:#x}")
    }
}

fn doing(access: Access) -> &'static str {
    match access {
        Access::Read => "reading",
        Access::Write => "writing",
        Access::Execute => "executing",
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}",
            match self.kind {
                TrapKind::Memory => "memory trap",
                TrapKind::Bus => "bus trap",
                TrapKind::IllegalInstruction => "illegal instruction",
                TrapKind::Arithmetic => "arithmetic trap",
                TrapKind::Breakpoint => "breakpoint",
                TrapKind::ForbiddenCall => "forbidden system call",
            }
        )?;
        if let Some(call) = self.call {
            write!(out, " {call}")?;
        }
        match (self.access, self.address) {
            (Some(access), Some(address)) => write!(out, ", {} {address:#x}", doing(access))?,
            (None, Some(address)) => write!(out, ", address {address:#x}")?,
            (_, None) => {}
        }
        match self.pc {
            Some(pc) => write!(out, ", at pc {pc:#x}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(out, "the worker exited with status {status}"),
            Self::Killed(signal) => write!(out, "the worker was killed by {signal}"),
            Self::Unresponsive => write!(out, "the worker did not stop and was killed"),
            Self::Unknown => write!(out, "the worker is gone"),
        }
    }
}
