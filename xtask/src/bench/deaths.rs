//! How long after a worker's death `run` returns.

use std::fs;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cellwall::{Config, Engine, Interrupt, Module};

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
    let worker = worker_of_this_process()?;
    instance.call(module.entry(), &[])?;
    let (started, running) = mpsc::channel();
    thread::scope(|scope| {
        let killer = scope.spawn(move || {
            let _ = running.recv();
            // The guest runs and the host sleeps by then.
            thread::sleep(Duration::from_millis(30));
            let killed = Instant::now();
            let _ = linux_kill(worker);
            killed
        });
        let _ = started.send(());
        let interrupt = instance.run();
        let noticed = Instant::now();
        let killed = killer.join().map_err(|_| "the killing thread panicked")?;
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

/// The one worker among this process' children, from /proc.
fn worker_of_this_process() -> Result<u32, Failure> {
    let me = std::process::id();
    for task in fs::read_dir(format!("/proc/{me}/task"))? {
        let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            let name = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
            if name.trim() == "cellwall-worker" {
                return Ok(child.parse()?);
            }
        }
    }
    Err("no worker among the children; is CONFIG_PROC_CHILDREN off?".into())
}

fn linux_kill(pid: u32) -> Result<(), Failure> {
    let status = Command::new("kill")
        .arg("-9")
        .arg(pid.to_string())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err("kill failed".into())
    }
}
