#![expect(unsafe_code, reason = "entry point, defined and called by symbol")]
//! From the worker's jump into the guest to the program's own function, and the panic handler.

use core::fmt::Write as _;
use core::panic::PanicInfo;
use core::{ptr, slice};

use crate::message::Message;
use crate::{Args, global, hostcall};

unsafe extern "Rust" {
    /// Defined by [`entry!`](crate::entry).
    safe fn cellwall_guest_run(args: Args) -> u8;
}

/// Where the worker enters: as if called, with the arguments block and the heap in the first four
/// argument registers. Returning finishes the guest with the returned value.
#[unsafe(no_mangle)]
extern "C" fn _start(args: usize, args_bytes: usize, heap: usize, heap_end: usize) -> u64 {
    global::give(heap, heap_end);
    let block = if args_bytes == 0 {
        &[]
    } else {
        // SAFETY: the host wrote the block there before the guest started, keeps it mapped as long
        // as the guest runs, and gave it to nobody else: it is no part of heap, stack or image.
        unsafe { slice::from_raw_parts(ptr::with_exposed_provenance(args), args_bytes) }
    };
    u64::from(cellwall_guest_run(Args::new(block)))
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let mut message = Message::new();
    // Cannot fail: what does not fit is cut.
    let _ = write!(message, "{info}");
    hostcall::give_up(message.text())
}
