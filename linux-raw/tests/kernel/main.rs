//! Every wrapper against the running kernel: real files, real children, no mocks.

mod child;
mod credentials;
mod fds;
mod holes;
mod jail;
mod memory;
mod paging;
mod processes;
mod random;
mod signals;
mod supervise;
mod sync;
mod tracing;
mod watched;
