//! How long after a worker's death `run` returns.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cellwall::{Config, Engine, Interrupt, Module, Signal};
use linux_raw::pidfd::{PidfdFlags, pidfd_open, pidfd_send_signal};
use linux_raw::process::Pid;

use super::guest::unexpected;
use crate::measure::{Failure, Sampler};

/// `jmp $`: a guest that never gives the turn back.
pub(crate) const ENDLESS: [u8; 2] = [0xeb, 0xfe];

/// From a `SIGKILL` of a worker whose guest loops to `run` returning.
pub(crate) fn noticed() -> Result<Sampler, Failure> {
    let engine = Engine::new(&Config::default())?;
    let module = Module::builder()
        .code(&ENDLESS)
        .stack(0x10_0000, 0x1_0000)
        .build(&engine)?;
    Ok(Box::new(move || Ok(vec![one(&engine, &module)?])))
}

fn one(engine: &Engine, module: &Module) -> Result<f64, Failure> {
    let mut instance = engine.instantiate(module)?;
    let number = Pid::from_raw(instance.process_id()).ok_or("the worker has no number")?;
    let worker = pidfd_open(number, PidfdFlags::empty())?;
    instance.call(module.entry(), &[])?;
    let (started, running) = mpsc::channel();
    thread::scope(|scope| {
        let killer = scope.spawn(move || {
            let _ = running.recv();
            // The guest runs and the host sleeps by then.
            thread::sleep(Duration::from_millis(30));
            let killed = Instant::now();
            pidfd_send_signal(&worker, Some(Signal::KILL)).map(|()| killed)
        });
        let _ = started.send(());
        let interrupt = instance.run();
        let noticed = Instant::now();
        let killed = killer.join().map_err(|_| "the killing thread panicked")??;
        match interrupt? {
            Interrupt::Died(_) => Ok(noticed.saturating_duration_since(killed).as_secs_f64() * 1e6),
            other => Err(unexpected(other)),
        }
    })
}
