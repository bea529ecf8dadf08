//! What callers do that cannot be, and what it means.

use crate::interrupt::Access;

/// What a caller did that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// A region that is empty, unaligned, or not where guests may have memory.
    #[error("region {start:#x}..{end:#x} is {fault}")]
    Region {
        /// Its first address.
        start: u64,
        /// The address after its end.
        end: u64,
        /// What is wrong with it.
        fault: RegionFault,
    },
    /// An entry that is not in the code.
    #[error("the entry {0:#x} is not in the code")]
    EntryOutsideCode(u64),
    /// Two regions overlap.
    #[error("regions overlap at {0:#x}")]
    Overlap(u64),
    /// As many workers as the pool may have, all with an instance, for as long as was waited.
    #[error("all {most} workers that PoolConfig::most allows have an instance")]
    PoolExhausted {
        /// How many those are.
        most: usize,
    },
    /// More regions than a worker can be told of.
    #[error("{0} regions; at most {max} are possible", max = vmctx::host_page::REGIONS_MAX)]
    TooManyRegions(usize),
    /// More memory than the engine allows an instance, at its start or later.
    #[error("{bytes} bytes of guest memory; Config::memory_limit allows {limit}")]
    MemoryLimit {
        /// What it would hold.
        bytes: u64,
        /// What the engine allows.
        limit: u64,
    },
    /// More memory than the engine allows all instances together.
    #[error(
        "{bytes} more bytes of guest memory; the engine's instances hold {used} of the {limit} that \
         Config::engine_memory_limit allows"
    )]
    EngineMemoryLimit {
        /// What all instances hold.
        used: u64,
        /// What was asked for.
        bytes: u64,
        /// What the engine allows.
        limit: u64,
    },
    /// A change of a memory map that was fixed when the worker started.
    #[error(
        "the memory map is fixed: userfaultfd is not to be had here, or Config::fixed_memory is \
         on (`cellwall probe` tells)"
    )]
    FixedMap,
    /// A module that wants its page faults where none can be had.
    #[error(
        "no dynamic paging: userfaultfd is not to be had here, or Config::fixed_memory is on \
         (`cellwall probe` tells)"
    )]
    NoDynamicPaging,
    /// A page that was to be protected is not mapped.
    #[error("nothing is mapped at {0:#x}")]
    NotMapped(u64),
    /// A page that is part of the module's code or constants.
    #[error("at {0:#x} are code or constants of the module's, which stay as they are")]
    Fixed(u64),
    /// A heap for an instance whose module has none.
    #[error("the module has no heap; use ModuleBuilder::heap")]
    NoHeap,
    /// A heap that would begin before its start or end beyond its limit.
    #[error("the heap cannot change by {bytes} bytes: it has {used}, and room for {limit}")]
    HeapLimit {
        /// How many bytes it has.
        used: u64,
        /// By how much it was to grow.
        bytes: i64,
        /// The most bytes that it may have.
        limit: u64,
    },
    /// Input for an instance whose module has no region for it.
    #[error("the module has no input region; use ModuleBuilder::input")]
    NoInput,
    /// Input that does not fit into the guest's region for it.
    #[error("{bytes} bytes of input; the guest's region holds {limit}")]
    InputBytes {
        /// How many there are.
        bytes: u64,
        /// How many fit.
        limit: u64,
    },
    /// Code for an address that is not in the instance's code window.
    #[error("{length} bytes of code at {address:#x} are not in the instance's code window")]
    OutsideCodeWindow {
        /// The first address.
        address: u64,
        /// How many bytes.
        length: u64,
    },
    /// A fault was to be answered and there is none.
    #[error("the guest is not stopped in a page fault")]
    NoFault,
    /// A seed that is empty, longer than a page, or crosses the end of one.
    #[error(
        "{length} bytes of entropy at {address:#x} are not within one page of the instance's own memory"
    )]
    Entropy {
        /// The first address.
        address: u64,
        /// How many bytes.
        length: u64,
    },
    /// A file that is no snapshot, or not one for this module.
    #[error("not a valid snapshot: {0}")]
    Snapshot(#[from] crate::memory::snapshot::SnapshotError),
    /// A module without a stack: a guest is entered by a push of its return address.
    #[error("the module has no stack; use `stack` or `stack_pointer`")]
    NoStack,
    /// A module without code.
    #[error("the module has no code")]
    NoCode,
    /// Guest memory that is not there, or that the guest itself could not touch so.
    #[error("{length} bytes at {address:#x} are not {}", able(*access))]
    OutOfBounds {
        /// The first address.
        address: u64,
        /// How many bytes.
        length: u64,
        /// To do what.
        access: Access,
    },
    /// `run` without anything to do: neither `call` nor `answer` came before it.
    #[error("nothing to run: use `call`, or `answer` after a hostcall")]
    NothingToRun,
    /// `answer` without a hostcall to answer.
    #[error("there is no hostcall to answer")]
    NoHostcall,
    /// More arguments than a call can carry.
    #[error("{0} arguments; a call carries at most {max}", max = vmctx::HOSTCALL_ARGS)]
    TooManyArguments(usize),
    /// Workers that would be user or group 0.
    #[error(
        "workers are never user or group 0: give Config::uid and Config::gid others, or run the \
         host as an ordinary user"
    )]
    RootWorker,
    /// Workers that this process could not signal: no deadline would stop them, and they would
    /// outlive it.
    #[error(
        "workers of another user could not be killed: this process lacks CAP_KILL. Give it that, \
         or run it as the ordinary user that its workers are to be"
    )]
    CannotKill,
    /// A user or group that is none.
    #[error("4294967295 is no user and no group: it stands for \"no change\" in system calls")]
    NoSuchUser,
    /// No CPU at all.
    #[error("Config::cpus names no CPU")]
    NoCpu,
    /// A CPU that cannot be named.
    #[error("there is no CPU {number}: numbers are below {max}")]
    NoSuchCpu {
        /// Its number.
        number: usize,
        /// The first number that cannot be named.
        max: usize,
    },
    /// This process is a forked child of the one that made the engine: the workers are not its own.
    #[error("this process forked from the one that made the engine; it needs an engine of its own")]
    Forked,
    /// The instance's worker is gone: killed for a forgery or since it did not stop, or dead by
    /// itself.
    #[error("the instance is over: its worker is gone")]
    Over,
    /// A file that is no guest.
    #[error("not a valid guest: {0}")]
    Elf(#[from] crate::elf::ElfError),
    /// An instance or a snapshot of another module than the one at hand.
    #[error("the instance or snapshot is of another module")]
    OtherModule,
    /// An argument that would look like two of them.
    #[error("an argument holds a NUL, which ends arguments")]
    ArgumentNul,
    /// Arguments that do not fit into the guest's arguments block.
    #[error("{bytes} bytes of arguments; the guest's block holds {limit}")]
    ArgumentBytes {
        /// How many there are.
        bytes: u64,
        /// How many fit.
        limit: u64,
    },
}

/// What is wrong with a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegionFault {
    /// It has no byte.
    #[error("empty")]
    Empty,
    /// It does not begin at a page.
    #[error("not page-aligned")]
    Unaligned,
    /// It wraps around the end of the address space.
    #[error("beyond the address space")]
    Wraps,
    /// It is not, or not wholly, in the code window.
    #[error("outside the code window")]
    OutsideCodeWindow,
    /// It is not, or not wholly, where guests may have memory of this kind.
    #[error("outside the guest's addresses")]
    Outside,
}

fn able(access: Access) -> &'static str {
    match access {
        Access::Read => "readable",
        Access::Write => "writable",
        Access::Execute => "executable",
    }
}
