//! What Cellwall needs, measured through its public interface.
//!
//! Where it matters who has which CPU ([`guest::engine`]), the measuring thread is on one and the
//! worker on another.

pub(crate) mod accesses;
pub(crate) mod code;
pub(crate) mod deaths;
pub(crate) mod drops;
pub(crate) mod faults;
pub(crate) mod guest;
pub(crate) mod idle;
pub(crate) mod interrupts;
pub(crate) mod large_host;
pub(crate) mod lockdown;
pub(crate) mod native;
pub(crate) mod nursery;
pub(crate) mod pooled;
pub(crate) mod renewals;
pub(crate) mod scale;
pub(crate) mod starts;
pub(crate) mod turns;
