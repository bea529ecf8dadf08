//! Code that a generator has made, to where the guest can run it.

use std::time::Instant;

use super::guest::{engine, finish, parts};
use crate::figure::{Failure, Quantiles, each, quantiles};
use cellwall::abi::CODE_WINDOW;

/// Where the window begins, which is large enough.
const WINDOW: u64 = CODE_WINDOW.start + 0x10_0000;
const WINDOW_BYTES: u64 = 2 << 20;

/// `write_code` of so many KiB, into an empty window or over other code.
pub(super) fn writes(kibibytes: usize, fresh: bool) -> Result<Quantiles, Failure> {
    let engine = engine()?;
    let module = parts().code_window(WINDOW, WINDOW_BYTES).build(&engine)?;
    let mut instance = engine.instantiate(&module)?;
    // A function that does nothing for long: `nop`, and `ret` at the end.
    let mut code = vec![0x90; kibibytes << 10];
    if let Some(last) = code.last_mut() {
        *last = 0xc3;
    }
    instance.write_code(WINDOW, &code)?;
    let mut samples = Vec::new();
    for _ in 0..300 {
        if fresh {
            instance.reset()?;
        }
        let start = Instant::now();
        instance.write_code(WINDOW, &code)?;
        samples.push(each(start, 1));
        finish(&mut instance, WINDOW, &[])?;
    }
    quantiles(samples)
}
