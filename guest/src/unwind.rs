#![expect(unsafe_code, reason = "symbols that the precompiled libraries name")]
//! What the precompiled `core` and `alloc` name because they can unwind. Nothing here does.

use crate::hostcall;

/// Named by their unwind tables, which nobody reads.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Where their clean-up code goes on. A panic never starts it.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    hostcall::give_up("something unwound")
}
