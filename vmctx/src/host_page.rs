//! The host page: orders and limits. The worker maps it read-only, from a descriptor that
//! cannot be mapped writable, and has no descriptor at all once a guest runs.

use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicU32, AtomicU64};

use bitflags::bitflags;
use static_assertions::const_assert;

use crate::{LINE_BYTES, PAGE_BYTES};

/// The most regions that a module may consist of.
pub const REGIONS_MAX: usize = 64;

/// How many words of CPUs there are: 1,024 CPUs.
pub const CPU_WORDS: usize = 16;

/// Words that only the host writes.
#[repr(C, align(4096))]
pub struct HostPage {
    /// [`VERSION`](crate::VERSION); the worker refuses any other.
    pub version: AtomicU32,
    /// How often the worker looks at the state word before it yields, in iterations of `pause`.
    pub spin_iterations: AtomicU32,
    /// How often the worker then yields its CPU before it sleeps.
    pub spin_yields: AtomicU32,
    /// How many entries of `regions` are valid, at most [`REGIONS_MAX`].
    pub region_count: AtomicU32,
    /// Where the guest is entered: any guest address; what is not code there traps.
    pub entry: AtomicU64,
    /// The guest's stack pointer on entry, before the return address is pushed.
    pub stack: AtomicU64,
    /// [`Options`]: how to lock down.
    pub options: AtomicU32,
    /// The nice value to take, a signed number.
    pub nice: AtomicU32,
    /// The user to become, as the worker's user namespace names it.
    pub uid: AtomicU32,
    /// The group to become, likewise.
    pub gid: AtomicU32,
    /// A [`LayerSet`](crate::LayerSet) that a zygote of the layer tests leaves out. The zygote that
    /// is shipped has no code that reads it.
    pub left_out: AtomicU64,
    /// Not 0 from an eviction until the next order to enter: the host may wipe all that the worker
    /// can write, signal frames too.
    pub evicted: AtomicU32,
    reserved: AtomicU32,
    /// The CPUs to run on: bit `n` of the words is CPU `n`.
    pub cpus: [AtomicU64; CPU_WORDS],
    /// What is mapped where, made before lock-down.
    pub regions: [Region; REGIONS_MAX],
    /// A [`LayerSet`](crate::LayerSet) that the host does without, as if the kernel lacked them;
    /// read once, before a guest runs. Only of [`LayerSet::MAY`](crate::LayerSet::MAY): with any
    /// other bit the start fails.
    pub without: AtomicU64,
}

/// One region of guest memory.
#[repr(C)]
pub struct Region {
    /// The first address, page-aligned.
    pub address: AtomicU64,
    /// The length in bytes, whole pages.
    pub length: AtomicU64,
    /// Where its contents begin in the descriptor that `flags` names, in bytes, page-aligned.
    pub offset: AtomicU64,
    /// [`RegionFlags`].
    pub flags: AtomicU32,
    reserved: AtomicU32,
}

bitflags! {
    /// How a worker locks itself down, as bits of [`HostPage::options`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Options: u32 {
        /// A forbidden system call is a fault, not death.
        const REPORT_CALLS = 1;
        /// Speculation stays as it is.
        const KEEP_SPECULATION = 2;
        /// A core-scheduling cookie of its own.
        const CORE_SCHEDULING = 4;
        /// Reading the time-stamp counter traps.
        const NO_TIMESTAMP_COUNTER = 8;
        /// No namespaces: [`Tier::WithoutNamespaces`](crate::Tier::WithoutNamespaces).
        const WITHOUT_NAMESPACES = 16;
        /// The host's OOM score is below 0, where a worker's may not be.
        const RAISE_OOM_SCORE = 32;
        /// The worker becomes another user than the host, who has no supplementary groups.
        const DROP_GROUPS = 64;
        /// All guest addresses are mapped, and the host decides by userfaultfd what is there: the
        /// worker makes the descriptor and sends it. Otherwise the regions are all there is.
        const PAGED = 128;
        /// Programs can set the bases of `fs` and `gs`, which the guest before may have done. The
        /// host sets this after the worker's report: a guest could not be believed about it.
        const SEGMENT_BASES = 256;
        /// The process is a nursery: it takes the steps that its workers inherit, and then clones
        /// them.
        const NURSERY = 512;
        /// The nursery clones by `clone`, as if the kernel had no `clone3`.
        const OLD_CLONE = 1024;
        /// The host has found that it has no I/O port, though ports cannot even be given up here.
        const NO_PORTS = 2048;
    }
}

bitflags! {
    /// Protection of a region and the descriptor behind it, as bits of [`Region::flags`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RegionFlags: u32 {
        /// The guest may read.
        const READ = 1;
        /// The guest may write.
        const WRITE = 2;
        /// The guest may execute. Never together with `WRITE`.
        const EXECUTE = 4;
        /// Behind it is the module's sealed memfd; otherwise the instance's own memory.
        const MODULE = 8;
        /// Behind it is the instance's own code.
        const CODE = 16;
    }
}

// Orders are read at each entry and each hostcall: they stay on the first line.
const_assert!(offset_of!(HostPage, version) == 0);
const_assert!(offset_of!(HostPage, spin_iterations) == 4);
const_assert!(offset_of!(HostPage, spin_yields) == 8);
const_assert!(offset_of!(HostPage, region_count) == 12);
const_assert!(offset_of!(HostPage, entry) == 16);
const_assert!(offset_of!(HostPage, stack) == 24);
const_assert!(offset_of!(HostPage, options) == 32);
const_assert!(offset_of!(HostPage, nice) == 36);
const_assert!(offset_of!(HostPage, uid) == 40);
const_assert!(offset_of!(HostPage, gid) == 44);
const_assert!(offset_of!(HostPage, left_out) == 48);
const_assert!(offset_of!(HostPage, evicted) == 56);
const_assert!(offset_of!(HostPage, cpus) == LINE_BYTES);
const_assert!(offset_of!(HostPage, regions) == 3 * LINE_BYTES);
const_assert!(offset_of!(HostPage, without) == 35 * LINE_BYTES);
const_assert!(offset_of!(Region, address) == 0);
const_assert!(offset_of!(Region, length) == 8);
const_assert!(offset_of!(Region, offset) == 16);
const_assert!(offset_of!(Region, flags) == 24);
const_assert!(size_of::<Region>() == 32);
const_assert!(size_of::<HostPage>() as u64 == PAGE_BYTES);
