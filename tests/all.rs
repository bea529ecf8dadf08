//! Real workers on a real kernel, seen as an embedder, an operator and a guest see them.

mod abi;
mod deaths;
mod failclosed;
mod forged;
mod harness;
mod host;
mod hostcalls;
mod leaks;
mod lifecycle;
mod memory;
mod modules;
mod native;
mod traps;
mod wall;
