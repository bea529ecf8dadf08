//! What others may know of the zygote: its system call filter. The zygote itself is `main.rs`.
#![no_std]
#![forbid(unsafe_code)]

pub mod policy;
