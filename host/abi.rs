//! The numbers that generated code relies on; `docs/abi.md` is the contract in words.

pub use vmctx::map::{CODE_WINDOW, FINISH, GUEST, HOSTCALL, Span};
pub use vmctx::{HOSTCALL_ARGS, PAGE_BYTES};
