//! Real workers on a real kernel, seen as an embedder, an operator and a guest see them.

mod abi;
mod cgroup;
mod deaths;
mod failclosed;
mod forged;
mod harness;
mod host;
mod hostcalls;
mod interrupts;
mod kernels;
mod leaks;
mod lifecycle;
mod memory;
mod metrics;
mod modules;
mod native;
mod nursery;
mod pool;
mod probe;
mod reactor;
mod traps;
mod wall;
