//! Every wrapper against the running kernel: real files, real children, no mocks.

mod child;
mod credentials;
mod fds;
mod jail;
mod memory;
mod processes;
mod signals;
mod supervise;
mod sync;
