//! How long after a worker's death `run` returns.

use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cellwall::{Config, Engine, Interrupt, Module, Signal};
use linux_raw::pidfd::{PidfdFlags, pidfd_open, pidfd_send_signal};
use linux_raw::process::Pid;

use super::Bench;
use super::figure::{Figure, micros, quantiles};
use crate::Failure;

/// `jmp $`: a guest that never gives the turn back.
const ENDLESS: [u8; 2] = [0xeb, 0xfe];

pub(super) fn measure(bench: &Bench<'_>) -> Result<Vec<Figure>, Failure> {
    let engine = Engine::new(&Config::default())?;
    let module = Module::builder()
        .code(&ENDLESS)
        .stack(0x10_0000, 0x1_0000)
        .build(&engine)?;
    let mut samples = Vec::new();
    let mut bare = Vec::new();
    for _ in 0..if bench.quick { 10 } else { 50 } {
        samples.push(one(&engine, &module)?);
        bare.push(bare_death()?);
    }
    let limit = ("kill and wait for an ordinary child", quantiles(bare));
    Ok(vec![Figure::with_limit(
        "death: SIGKILL to `run` returning",
        "us",
        quantiles(samples),
        limit,
    )])
}

fn one(engine: &Engine, module: &Module) -> Result<f64, Failure> {
    let mut instance = engine.instantiate(module)?;
    let number = Pid::from_raw(instance.process_id()).ok_or("the worker has no number")?;
    let worker = pidfd_open(number, PidfdFlags::empty()).map_err(|errno| errno.to_string())?;
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
        let killed = killer.join().map_err(|_| "the killing thread panicked")?;
        let killed = killed.map_err(|errno| errno.to_string())?;
        match interrupt? {
            Interrupt::Died(_) => Ok(micros(noticed.saturating_duration_since(killed))),
            other => Err(format!("a killed worker gave \"{other}\"").into()),
        }
    })
}

/// The machine's own figure: a child that sleeps, killed and waited for.
fn bare_death() -> Result<f64, Failure> {
    let mut child = Command::new("sleep").arg("60").spawn()?;
    thread::sleep(Duration::from_millis(5));
    let start = Instant::now();
    child.kill()?;
    child.wait()?;
    Ok(micros(start.elapsed()))
}
