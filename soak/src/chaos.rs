//! Who kills and stops workers and nurseries, and says so before.

use std::fs;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use cellwall::{Errno, Signal};
use linux_raw::fd::AsFd as _;
use linux_raw::fd::OwnedFd;
use linux_raw::io::{self, PollFd, PollFlags};
use linux_raw::pidfd::{PidfdFlags, pidfd_open, pidfd_send_signal};
use linux_raw::process::Pid;
use linux_raw::time::Timespec;

use crate::victim::Victim;
use crate::world::World;

/// How long a killed process may take to be dead.
const DEATH: Duration = Duration::from_secs(10);
/// The longest that a worker is stopped.
const STOPPED_MS_MAX: u64 = 20;
/// The longest between two strikes.
const PEACE_MS_MAX: u64 = 20;

/// What a nursery and a worker call themselves, as far as the kernel keeps it.
const NURSERY: &str = "cellwall-nurser";

/// Strikes until the world ends.
pub(crate) fn reign(world: &World, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    while !world.is_over.load(Relaxed) {
        thread::sleep(Duration::from_millis(random.u64(1..=PEACE_MS_MAX)));
        let Some(victim) = world.victims.choose(&mut random) else {
            continue;
        };
        let what = match random.u32(..100) {
            0..60 => kill(&victim),
            60..90 => pause(&victim, random.u64(1..=STOPPED_MS_MAX)),
            90..97 => kill_any(world, &victim, &mut random),
            _ => kill_nursery(world, &victim),
        };
        match what {
            Ok(Some(what)) => world.ledger.strike(what),
            Ok(None) => {}
            Err(what) => world.accuse(&what),
        }
    }
}

/// What was done, or nothing where there was nobody any more.
type Struck = Result<Option<&'static str>, String>;

/// Kills a worker with an instance, and lets nobody drop that before the worker is dead.
fn kill(victim: &Victim) -> Struck {
    let Some(_held) = victim.hold() else {
        return Ok(None);
    };
    let Some(process) = Process::below_us(victim.process) else {
        return Ok(None);
    };
    victim.strike();
    process.kill()?;
    Ok(Some("workers killed"))
}

/// Stops a worker for a while, which nobody may notice but by the time.
fn pause(victim: &Victim, milliseconds: u64) -> Struck {
    let Some(_held) = victim.hold() else {
        return Ok(None);
    };
    let Some(process) = Process::below_us(victim.process) else {
        return Ok(None);
    };
    process.signal(Signal::STOP)?;
    thread::sleep(Duration::from_millis(milliseconds));
    process.signal(Signal::CONT)?;
    Ok(Some("workers stopped for a while"))
}

/// Kills any worker of the same nursery: one that is idle, perhaps, or being made.
fn kill_any(world: &World, victim: &Victim, random: &mut fastrand::Rng) -> Struck {
    let site = &world.sites[victim.site];
    let Some(nursery) = nursery_of(victim) else {
        return Ok(None);
    };
    let children = fs::read_to_string(format!("/proc/{nursery}/task/{nursery}/children"));
    let children = children.unwrap_or_default();
    let children: Vec<&str> = children.split_whitespace().collect();
    let chosen = random.choice(children);
    let Some(chosen) = chosen.and_then(|chosen| chosen.parse().ok()) else {
        return Ok(None);
    };
    site.strikes.next();
    let killed = Process::below_us(chosen).map(|process| process.kill());
    site.strikes.next();
    Ok(killed.transpose()?.map(|()| "any workers killed"))
}

/// Kills a nursery, and with it all of its workers.
fn kill_nursery(world: &World, victim: &Victim) -> Struck {
    let site = &world.sites[victim.site];
    let Some(nursery) = nursery_of(victim) else {
        return Ok(None);
    };
    site.strikes.next();
    let killed = Process::below_us(nursery).map(|process| process.kill());
    site.strikes.next();
    Ok(killed.transpose()?.map(|()| "nurseries killed"))
}

/// The nursery that has made a worker, if one has.
fn nursery_of(victim: &Victim) -> Option<u32> {
    let _held = victim.hold()?;
    let parent = parent(victim.process)?;
    let name = fs::read_to_string(format!("/proc/{parent}/comm")).ok()?;
    (name.trim_end() == NURSERY).then_some(parent)
}

fn parent(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// A process that descends from this one. Numbers are used again; this is not.
struct Process(OwnedFd);

impl Process {
    fn below_us(number: u32) -> Option<Self> {
        let fd = pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty()).ok()?;
        // Now that we have it, the number is its own for as long as it lives.
        let (us, above) = (std::process::id(), parent(number)?);
        (above == us || parent(above)? == us).then_some(Self(fd))
    }

    /// Kills it, and waits until it is dead.
    fn kill(&self) -> Result<(), String> {
        self.signal(Signal::KILL)?;
        let mut poll = [PollFd::new(self.0.as_fd(), PollFlags::IN)];
        match io::poll(&mut poll, Some(Timespec::from(DEATH))) {
            Ok(1) => Ok(()),
            other => Err(format!("a killed process is not dead: {other:?}")),
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        match pidfd_send_signal(&self.0, Some(signal)) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(format!("pidfd_send_signal: {errno}")),
        }
    }
}
