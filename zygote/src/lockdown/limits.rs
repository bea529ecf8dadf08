//! Resource limits: what the filter forbids is also not to be had.

use linux_raw::called::{Called as _, Failed};
use linux_raw::nr;
use linux_raw::process::{Resource, set_limit};

/// Soft and hard limit of each resource, with the reason.
const LIMITS: [(Resource, u64, &str); 11] = [
    (
        Resource::Core,
        0,
        "a crash writes no guest memory to a disk",
    ),
    (Resource::FileSize, 0, "no file grows"),
    (
        Resource::Processes,
        0,
        "no process or thread beside this one",
    ),
    (Resource::Files, 0, "no descriptor is ever opened"),
    (Resource::LockedMemory, 0, "no page is pinned"),
    (Resource::MessageQueues, 0, "no message queue"),
    (
        Resource::AddressSpace,
        0,
        "no memory beyond what is mapped, shared memory included",
    ),
    (Resource::Data, 0, "nor private memory"),
    (Resource::PendingSignals, 0, "no signal or timer is queued"),
    (Resource::RealtimePriority, 0, "no real-time scheduling"),
    (Resource::Nice, 0, "no higher priority"),
];

/// Sets all of them, for good: the hard limit too.
pub(super) fn set() -> Result<(), Failed> {
    for (resource, limit, _why) in LIMITS {
        set_limit(resource, limit, limit).called(nr::PRLIMIT64)?;
    }
    Ok(())
}
