//! A worker that is killed while it starts, at every moment of that: an error in time that says
//! so, and nothing is left behind.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use cellwall::{Blame, Config, Death, Engine, Error, Interrupt, Signal, Stage};
use linux_raw::pidfd::{PidfdFlags, pidfd_open, pidfd_send_signal};
use linux_raw::process::Pid;

use crate::harness::{
    DEATH_NOTICED, alone, both, call, children_of, descriptors, eventually, is_nursed, nurseries,
    parts, workers,
};

/// How often, and how much later each time: from the clone to well after the lock-down, three
/// times over. A nursed start is a tenth of the other.
const ATTEMPTS: u32 = 600;
const LATEST_MICROSECONDS: u32 = 3_000;
const NURSED_LATEST_MICROSECONDS: u32 = 600;
/// Kills must have met so many different steps of the start, or the test looks at nothing. There
/// are more than twenty, of which some take no time.
const STEPS_MET: usize = 4;
const SETTLED: Duration = Duration::from_secs(5);

/// Kills the next child that this process has, so long after it was first seen, and says when.
fn kill_next(
    parent: u32,
    delays: &Receiver<Duration>,
    killed: &Sender<Option<Instant>>,
    over: &AtomicBool,
) {
    while let Ok(delay) = delays.recv() {
        let child = loop {
            if let Some(child) = children_of(parent).first().copied() {
                break Some(child);
            }
            if over.load(Ordering::Relaxed) {
                break None; // it was never seen
            }
        };
        let seen = Instant::now();
        while seen.elapsed() < delay {
            std::hint::spin_loop();
        }
        let when = child.and_then(Pid::from_raw).and_then(|child| {
            let child = pidfd_open(child, PidfdFlags::empty()).ok()?;
            pidfd_send_signal(&child, Some(Signal::KILL)).ok()?;
            Some(Instant::now())
        });
        killed.send(when).unwrap();
    }
}

/// What a killed start has to say: that the worker was killed, or that it is gone.
fn assert_sensible(error: &Error) {
    let text = error.to_string();
    assert!(text.starts_with("starting a worker"), "{text}");
    assert!(
        matches!(error.stage, Stage::Start | Stage::Lockdown(_)),
        "{text}"
    );
    assert!(
        matches!(&error.blame, Blame::Died(why) if why.contains("killed by SIGKILL")),
        "{text}"
    );
}

/// The parent of the workers to come, and when a start is over.
fn parent(config: &Config) -> (u32, u32) {
    match nurseries()[..] {
        [nursery] if is_nursed(config) => (nursery, NURSED_LATEST_MICROSECONDS),
        [] => (std::process::id(), LATEST_MICROSECONDS),
        _ => panic!("more nurseries than one"),
    }
}

fn kill_while_starting(config: &Config) {
    let engine = Engine::new(config).unwrap();
    let module = parts(&[0xc3]).build(&engine).unwrap();
    drop(engine.instantiate(&module).unwrap());
    eventually(SETTLED, "reaped", || workers().is_empty());
    // What is closed after a worker has been reaped.
    std::thread::sleep(Duration::from_millis(100));
    let (parent, latest) = parent(config);
    let before = descriptors().len();
    let mut met: BTreeMap<String, u32> = BTreeMap::new();
    let over = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (delay, delays) = channel();
        let (killed, kills) = channel();
        scope.spawn(move || kill_next(parent, &delays, &killed, over));
        for attempt in 0..ATTEMPTS {
            over.store(false, Ordering::Relaxed);
            let later = attempt * 3 * latest / ATTEMPTS % latest;
            delay.send(Duration::from_micros(later.into())).unwrap();
            let started = engine.instantiate(&module);
            let returned = Instant::now();
            over.store(true, Ordering::Relaxed);
            let killed = kills.recv().unwrap();
            match started {
                Err(error) => {
                    let killed = killed.unwrap_or_else(|| panic!("nobody was killed: {error}"));
                    let took = returned.saturating_duration_since(killed);
                    assert!(took < DEATH_NOTICED, "{took:?}: {error}");
                    assert_sensible(&error);
                    *met.entry(format!("{:?}", error.stage)).or_default() += 1;
                }
                // Killed when it was ready: the next run tells.
                Ok(mut instance) if killed.is_some() => {
                    call(&mut instance, &[]);
                    let begun = Instant::now();
                    let death = Interrupt::Died(Death::Killed(Signal::KILL));
                    assert_eq!(instance.run().unwrap(), death);
                    assert!(begun.elapsed() < DEATH_NOTICED);
                }
                Ok(instance) => drop(instance),
            }
            eventually(SETTLED, "reaped", || children_of(parent).is_empty());
        }
    });
    println!("{met:?}");
    assert!(met.len() >= STEPS_MET, "{met:?}");
    eventually(SETTLED, "no descriptor is left", || {
        descriptors().len() == before
    });
    let nursery = nurseries();
    assert!(
        nursery.is_empty() || nursery == [parent],
        "the nursery lives on"
    );
    let mut next = engine.instantiate(&module).unwrap();
    call(&mut next, &[]);
    assert!(matches!(next.run().unwrap(), Interrupt::Finished(_)));
}

#[test]
fn killed_at_every_moment_of_its_start() {
    alone(
        "deaths::starting::killed_at_every_moment_of_its_start",
        || both(kill_while_starting),
    );
}
