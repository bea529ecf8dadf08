//! A guest that spins, stopped.

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use cellwall::{Interrupt, Module};

use super::deaths::ENDLESS;
use super::guest::{engine, unexpected};
use crate::limits::interrupt::interrupt_another_cpu;
use crate::measure::{Failure, Measure, Sampler, Side, batch};
use crate::target::{Of, Target};

/// To be measured along with [`crate::measures::turns`].
pub(crate) const MEASURES: &[Measure] = &[Measure::new(
    "interrupt_latency",
    "from `interrupt` to `run` returning, while the guest spins",
    |_| latency(),
)
.limit(Side::new("interrupt of another CPU", |_| {
    interrupt_another_cpu()
}))
.targets(&[Target::AtMost(20.0, Of::Itself)])];

/// Another thread interrupts; this one is in `run`.
fn latency() -> Result<Sampler, Failure> {
    let engine = engine()?;
    let module = Module::builder()
        .code(&ENDLESS)
        .stack(0x10_0000, 0x1_0000)
        .build(&engine)?;
    let mut instance = engine.instantiate(&module)?;
    instance.call(module.entry(), &[])?;
    Ok(Box::new(move || {
        batch(5, || {
            let handle = instance.interrupt_handle();
            let (started, running) = channel();
            thread::scope(|scope| {
                let other = scope.spawn(move || {
                    let _ = running.recv();
                    // The guest spins by then, and the host waits.
                    thread::sleep(Duration::from_millis(1));
                    let start = Instant::now();
                    handle.interrupt();
                    start
                });
                let _ = started.send(());
                let interrupt = instance.run();
                let returned = Instant::now();
                let start = other.join().map_err(|_| "the other thread panicked")?;
                match interrupt? {
                    // The next run goes on where this one was stopped.
                    Interrupt::Interrupted => {
                        Ok(returned.saturating_duration_since(start).as_secs_f64() * 1e6)
                    }
                    other => Err(unexpected(other)),
                }
            })
        })
    }))
}
