//! A CPU made to look up from what it does.

use std::hint::spin_loop;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use linux_raw::membarrier;

use crate::cpus::two_cpus;
use crate::measure::{Failure, Sampler, batch, each};

/// Another CPU, which runs a thread that spins, interrupted, until it says that it was.
pub(crate) fn interrupt_another_cpu() -> Result<Sampler, Failure> {
    let (here, there) = two_cpus()?;
    here.pin()?;
    membarrier::register_global_expedited()?;
    Ok(Box::new(move || {
        let (begun, over) = (Barrier::new(2), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                let _ = there.pin();
                begun.wait();
                while !over.load(Ordering::Relaxed) {
                    spin_loop();
                }
            });
            begun.wait();
            let samples = batch(20, || {
                let start = Instant::now();
                membarrier::global_expedited()?;
                Ok(each(start, 1))
            });
            over.store(true, Ordering::Relaxed);
            samples
        })
    }))
}
