//! What is done with instances. Each deed makes its own, and knows what every call has to answer.
//!
//! | file | what |
//! |---|---|
//! | `runs` | values, hostcalls, traps, ends |
//! | `stops` | deadlines, interruptions, gas |
//! | `tenants` | one after the other in the same worker, who find nothing of each other |
//! | `memory` | faults, maps, heap, snapshots, code |
//! | `others` | modules and engines of their own, many instances at once |

mod memory;
mod others;
mod runs;
mod stops;
mod tenants;

use crate::tenant::Done;
use crate::thread::Hand;

/// A kind of deed.
pub(crate) struct Deed {
    pub(crate) name: &'static str,
    /// How often, in parts.
    pub(crate) weight: u32,
    pub(crate) act: for<'a> fn(&'a Hand<'a>) -> Done,
}

const fn deed(name: &'static str, weight: u32, act: for<'a> fn(&'a Hand<'a>) -> Done) -> Deed {
    Deed { name, weight, act }
}

pub(crate) const DEEDS: &[Deed] = &[
    deed("values", 10, runs::values),
    deed("hostcalls", 14, runs::hostcalls),
    deed("traps", 8, runs::traps),
    deed("ends", 5, runs::ends),
    deed("deadlines", 4, stops::deadlines),
    deed("interrupts", 5, stops::interrupts),
    deed("gas", 4, stops::gas),
    deed("tenants", 20, tenants::tenants),
    deed("resets", 6, tenants::resets),
    deed("abandoned", 5, tenants::abandoned),
    deed("faults", 10, memory::faults),
    deed("maps", 6, memory::maps),
    deed("heaps", 6, memory::heaps),
    deed("snapshots", 6, memory::snapshots),
    deed("windows", 4, memory::windows),
    deed("crowds", 3, others::crowds),
    deed("modules", 5, others::modules),
    deed("engines", 1, others::engines),
];
