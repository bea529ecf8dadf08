//! Filters on system calls: policy as data, assembled at compile time.

pub mod bpf;
pub mod filter;
mod install;
#[cfg(test)]
mod simulate;
#[cfg(test)]
mod tests;

pub use bpf::{Instruction, SeccompData};
pub use filter::{Cond, Is, Program, Rule, compile, length};
pub use install::{InstallFlags, install};

/// The filter's answer that lets a call pass (`SECCOMP_RET_ALLOW`).
pub const ALLOW: u32 = 0x7fff_0000;
/// The filter's answer that kills the whole process (`SECCOMP_RET_KILL_PROCESS`). Since Linux 4.14.
pub const KILL_PROCESS: u32 = 0x8000_0000;
/// The operation of the system call that installs a filter (`SECCOMP_SET_MODE_FILTER`).
pub const SET_MODE_FILTER: u32 = 1;
