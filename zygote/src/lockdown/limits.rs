//! Resource limits: what the filter forbids is also not to be had.

use linux_raw::called::{Called as _, Failed};
use linux_raw::nr;
use linux_raw::process::{Resource, set_limit};

use super::{Wall, Who};

/// Soft and hard limit of each resource, with the reason, and whether it would keep a nursery from
/// its work: such a limit is each worker's own.
const LIMITS: [(Resource, u64, Hinders, &str); 11] = {
    use Hinders::{Nobody, TheNursery};
    [
        (
            Resource::Core,
            0,
            Nobody,
            "a crash writes no guest memory to a disk",
        ),
        (Resource::FileSize, 0, TheNursery, "no file grows"),
        (
            Resource::Processes,
            0,
            TheNursery,
            "no process or thread beside this one",
        ),
        (
            Resource::Files,
            0,
            TheNursery,
            "no descriptor is ever opened",
        ),
        (Resource::LockedMemory, 0, Nobody, "no page is pinned"),
        (Resource::MessageQueues, 0, Nobody, "no message queue"),
        (
            Resource::AddressSpace,
            0,
            TheNursery,
            "no memory beyond what is mapped, shared memory included",
        ),
        (Resource::Data, 0, TheNursery, "nor private memory"),
        (
            Resource::PendingSignals,
            0,
            Nobody,
            "no signal or timer is queued",
        ),
        (
            Resource::RealtimePriority,
            0,
            Nobody,
            "no real-time scheduling",
        ),
        (Resource::Nice, 0, Nobody, "no higher priority"),
    ]
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hinders {
    Nobody,
    TheNursery,
}

/// Sets all of them, for good: the hard limit too. A nursery's workers inherit those that it sets.
pub(super) fn set(wall: &mut Wall) -> Result<(), Failed> {
    for (resource, limit, hinders, _why) in LIMITS {
        let is_mine = match wall.who {
            Who::Alone => true,
            Who::Nursery => hinders == Hinders::Nobody,
            Who::Nursed => hinders == Hinders::TheNursery,
        };
        if is_mine {
            set_limit(resource, limit, limit).called(nr::PRLIMIT64)?;
        }
    }
    Ok(())
}
