//! What native guests and the `cellwall` command agree on: hostcalls, entry, memory.
//!
//! A machine of your own has hostcalls of its own; nothing in the wall knows these numbers.
//!
//! On entry `rdi` holds the address of the arguments block, `rsi` its length in bytes, `rdx` the
//! first address of the heap and `rcx` the address after its end. The block is a sequence of
//! NUL-terminated strings. A hostcall answers with a value, or with a negated errno.

/// `read(handle, address, length)`: bytes read, 0 at the end of the input.
pub const READ: u32 = 1;
/// `write(handle, address, length)`: bytes written.
pub const WRITE: u32 = 2;
/// `log(address, length)`: a line of UTF-8 for the host's log.
pub const LOG: u32 = 3;
/// `panic(address, length)`: the guest gives up with this message and does not go on.
pub const PANIC: u32 = 4;

/// The handle of the standard input.
pub const STDIN: u64 = 0;
/// The handle of the standard output.
pub const STDOUT: u64 = 1;
/// The handle of the standard error.
pub const STDERR: u64 = 2;

/// The status of a guest that panicked.
pub const PANIC_STATUS: u64 = 101;

/// The most bytes that one `read` or `write` moves; a longer one is cut, not refused.
pub const TRANSFER_BYTES_MAX: u64 = 2 << 20;
/// The most bytes of a log line or panic message; the rest is cut.
pub const MESSAGE_BYTES_MAX: u64 = 4096;
