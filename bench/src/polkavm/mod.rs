//! What PolkaVM 0.37 needs, measured through its public interface: compiler and Linux sandbox, the
//! host's thread and the worker each pinned to a CPU by itself, as it does unless told otherwise.

pub(crate) mod guest;
pub(crate) mod lives;
pub(crate) mod memory;
pub(crate) mod turns;

pub(crate) use self::guest::PAGING_SYSCTL;
