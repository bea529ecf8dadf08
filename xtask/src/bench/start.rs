//! Starting a worker, and one call into it.

use std::process::{Command, Stdio};
use std::time::Instant;

use cellwall::{Config, Engine, Interrupt, Module};

use super::Bench;
use super::figure::{Figure, micros, quantiles};
use crate::Failure;

/// `mov rax, rdi; ret`
const IDENTITY: [u8; 4] = [0x48, 0x89, 0xf8, 0xc3];

/// From `instantiate` to the first value back, with seven namespaces of the worker's own.
pub(super) fn starts(bench: &Bench<'_>) -> Result<Vec<Figure>, Failure> {
    let engine = Engine::new(&Config::default())?;
    let module = module(&engine)?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..if bench.quick { 50 } else { 300 } {
        let start = Instant::now();
        let mut instance = engine.instantiate(&module)?;
        instance.call(module.entry(), &[7])?;
        expect(instance.run()?, 7)?;
        ours.push(micros(start.elapsed()));
        drop(instance);
        let start = Instant::now();
        Command::new("true").stdin(Stdio::null()).status()?;
        bare.push(micros(start.elapsed()));
    }
    let limit = ("spawn and wait for `true`", quantiles(bare));
    Ok(vec![Figure::with_limit(
        "start: direct, own namespaces",
        "us",
        quantiles(ours),
        limit,
    )])
}

/// A call and its return, the worker awake.
pub(super) fn calls(bench: &Bench<'_>) -> Result<Vec<Figure>, Failure> {
    const BATCH: u32 = 100;
    let engine = Engine::new(&Config::default())?;
    let module = module(&engine)?;
    let mut instance = engine.instantiate(&module)?;
    let mut samples = Vec::new();
    for _ in 0..if bench.quick { 100 } else { 1000 } {
        let start = Instant::now();
        for value in 0..BATCH {
            instance.call(module.entry(), &[value.into()])?;
            expect(instance.run()?, value.into())?;
        }
        samples.push(micros(start.elapsed()) / f64::from(BATCH));
    }
    let limit = (
        "cache-line ping-pong of two threads",
        quantiles(ping_pong(bench)),
    );
    Ok(vec![Figure::with_limit(
        "call: call and return, awake",
        "us",
        quantiles(samples),
        limit,
    )])
}

/// A guest that does nothing but hostcalls, each answered at once.
pub(super) fn hostcalls(bench: &Bench<'_>) -> Result<Vec<Figure>, Failure> {
    const BATCH: u32 = 1000;
    let engine = Engine::new(&Config::default())?;
    let module = Module::builder()
        .code(&endless_hostcalls())
        .stack(0x10_0000, 0x1_0000)
        .build(&engine)?;
    let mut instance = engine.instantiate(&module)?;
    instance.call(module.entry(), &[])?;
    let mut samples = Vec::new();
    for _ in 0..if bench.quick { 100 } else { 1000 } {
        let start = Instant::now();
        for _ in 0..BATCH {
            match instance.run()? {
                Interrupt::Hostcall(call) => instance.answer(call.args[0])?,
                other => return Err(format!("expected a hostcall, got \"{other}\"").into()),
            }
        }
        samples.push(micros(start.elapsed()) / f64::from(BATCH));
    }
    let limit = (
        "cache-line ping-pong of two threads",
        quantiles(ping_pong(bench)),
    );
    Ok(vec![Figure::with_limit(
        "hostcall: out and back, both awake",
        "us",
        quantiles(samples),
        limit,
    )])
}

/// `1: mov eax, 1; movabs r11, HOSTCALL; call r11; jmp 1b`
fn endless_hostcalls() -> Vec<u8> {
    let mut code = vec![0xb8, 1, 0, 0, 0, 0x49, 0xbb];
    code.extend_from_slice(&cellwall::abi::HOSTCALL.to_le_bytes());
    code.extend_from_slice(&[0x41, 0xff, 0xd3, 0xeb, 0xec]);
    code
}

fn module(engine: &Engine) -> Result<Module, Failure> {
    Ok(Module::builder()
        .code(&IDENTITY)
        .stack(0x10_0000, 0x1_0000)
        .build(engine)?)
}

fn expect(interrupt: Interrupt, value: u64) -> Result<(), Failure> {
    match interrupt {
        Interrupt::Finished(found) if found == value => Ok(()),
        other => Err(format!("expected {value}, got \"{other}\"").into()),
    }
}

/// Microseconds of one round trip of a cache line between two threads.
fn ping_pong(bench: &Bench<'_>) -> Vec<f64> {
    use std::sync::atomic::{AtomicU64, Ordering};
    const BATCH: u64 = 1000;
    let batches: u64 = if bench.quick { 50 } else { 500 };
    #[repr(align(128))]
    struct Line(AtomicU64);
    let line = Line(AtomicU64::new(0));
    let mut samples = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..batches * BATCH {
                // Acquire and Release pair with the other thread's.
                while line.0.load(Ordering::Acquire) != 2 * round + 1 {
                    std::hint::spin_loop();
                }
                line.0.store(2 * round + 2, Ordering::Release);
            }
        });
        for batch in 0..batches {
            let start = Instant::now();
            for round in batch * BATCH..(batch + 1) * BATCH {
                line.0.store(2 * round + 1, Ordering::Release);
                while line.0.load(Ordering::Acquire) != 2 * round + 2 {
                    std::hint::spin_loop();
                }
            }
            samples.push(micros(start.elapsed()) / 1000.0);
        }
    });
    samples
}
