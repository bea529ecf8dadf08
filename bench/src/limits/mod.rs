//! What the machine and the bare kernel need: nobody who isolates does the same faster.
//!
//! What clones is run in a small process of its own ([`crate::remote`]): a clone's time depends on
//! how much there is to copy.

mod child;
pub(crate) mod clones;
pub(crate) mod futex;
pub(crate) mod interrupt;
pub(crate) mod memory;
pub(crate) mod ping_pong;
pub(crate) mod small;
