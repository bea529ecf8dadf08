//! Filters on system calls: policy as data, assembled at compile time.

pub mod bpf;
pub mod filter;
mod install;
pub mod notify;
mod refuse;
pub mod simulate;
#[cfg(test)]
mod tests;

use linux_raw_sys::ptrace as sys;

pub use bpf::{Instruction, SeccompData};
pub use filter::{
    Cond, Is, Program, Rule, compile, compile_notifying, compile_reporting, length,
    length_notifying, length_reporting,
};
pub use install::{InstallFlags, NEW_LISTENER, install, install_with_listener};
pub use refuse::{ERRNO, Refusal, compile_refusing, length_refusing};

/// The filter's answer that lets a call pass (`SECCOMP_RET_ALLOW`).
pub const ALLOW: u32 = sys::SECCOMP_RET_ALLOW;
/// The filter's answer that kills the whole process (`SECCOMP_RET_KILL_PROCESS`). Since Linux 4.14.
pub const KILL_PROCESS: u32 = sys::SECCOMP_RET_KILL_PROCESS;
/// The operation of the system call that installs a filter (`SECCOMP_SET_MODE_FILTER`).
pub const SET_MODE_FILTER: u32 = sys::SECCOMP_SET_MODE_FILTER;
/// The filter's answer that raises `SIGSYS` (`SECCOMP_RET_TRAP`), which tells a handler the call.
pub const TRAP: u32 = sys::SECCOMP_RET_TRAP;
/// The filter's answer that asks a supervisor (`SECCOMP_RET_USER_NOTIF`). Since Linux 5.0.
pub const USER_NOTIF: u32 = sys::SECCOMP_RET_USER_NOTIF;
