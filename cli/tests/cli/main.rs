//! The real command, run as a user runs it.

mod asm;
mod audit;
mod deadlines;
mod harness;
mod orphans;
mod probe;
mod statuses;
mod streams;
mod words;
