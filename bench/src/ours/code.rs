//! Code that a generator has made, to where the guest can run it.

use std::time::Instant;

use cellwall::abi::CODE_WINDOW;

use super::guest::{engine, finish, parts};
use crate::measure::{Failure, Sampler, batch, each};

/// Where the window begins, which is large enough.
const WINDOW: u64 = CODE_WINDOW.start + 0x10_0000;
const WINDOW_BYTES: u64 = 2 << 20;

/// `write_code` of so many KiB, into an empty window or over other code.
pub(crate) fn writes(kibibytes: usize, fresh: bool) -> Result<Sampler, Failure> {
    let engine = engine()?;
    let module = parts().code_window(WINDOW, WINDOW_BYTES).build(&engine)?;
    let mut instance = engine.instantiate(&module)?;
    // `ret` everywhere. Its last page alone is run: the rest is in no cache of the worker's.
    let code = vec![0xc3; kibibytes << 10];
    let last = WINDOW + u64::try_from(code.len())? - 1;
    instance.write_code(WINDOW, &code)?;
    Ok(Box::new(move || {
        batch(10, || {
            if fresh {
                instance.reset()?;
            }
            let start = Instant::now();
            instance.write_code(WINDOW, &code)?;
            let took = each(start, 1);
            finish(&mut instance, last, &[])?;
            Ok(took)
        })
    }))
}
