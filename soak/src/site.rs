//! The engines, each of another kind, and what has happened to them.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use cellwall::{Config, Engine, Error, PoolConfig, Waiting};

use crate::lands::Modules;

/// How long a worker may take to stop its guest, and to start. On a machine with fewer CPUs than
/// threads it may wait long for one: neither is ever to be reached.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(10);
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(30);

/// What the engine with a limit may hold. Its workers take some 500 KiB each.
const ENGINE_BYTES: u64 = 24 << 20;

/// What a clean worker holds at the most: the memory that its module begins with.
const KEPT_BYTES_MAX: u64 = 1 << 20;

/// One engine.
pub(crate) struct Site {
    pub(crate) name: &'static str,
    /// How many of all instances are made here, in parts.
    pub(crate) weight: u32,
    pub(crate) engine: Engine,
    pub(crate) modules: Modules,
    pub(crate) traits: Traits,
    pub(crate) strikes: Strikes,
    pub(crate) counts: Counts,
}

/// What is to be expected of an engine.
#[derive(Clone, Copy, Default)]
pub(crate) struct Traits {
    /// A nursery clones its workers.
    pub(crate) nursed: bool,
    /// How many workers its pool keeps, if it has one.
    pub(crate) pool: Option<u64>,
    /// It makes workers that nobody has asked for.
    pub(crate) spares: bool,
    /// What all of its instances may hold; 0 is no limit.
    pub(crate) bytes: u64,
}

/// Counts attacks on workers without regard to whose they are: odd while there is one.
#[derive(Default)]
pub(crate) struct Strikes(AtomicU64);

impl Strikes {
    /// Before and after it: whoever sees the same even number twice was not met.
    pub(crate) fn next(&self) {
        self.0.fetch_add(1, SeqCst);
    }

    pub(crate) fn now(&self) -> u64 {
        self.0.load(SeqCst)
    }

    /// Whether there may have been one since.
    pub(crate) fn since(&self, then: u64) -> bool {
        then % 2 == 1 || self.now() != then
    }
}

/// What we have done with an engine, to compare with its own counts.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) made: AtomicU64,
    /// Starts that failed, for whatever reason but the pool's limit.
    pub(crate) failed: AtomicU64,
    /// Resets and restores that were tried, and those that were done.
    pub(crate) resets_tried: AtomicU64,
    pub(crate) resets: AtomicU64,
    /// Times that a guest gave the turn back by itself, and how many of those were page faults.
    pub(crate) turns: AtomicU64,
    pub(crate) faults: AtomicU64,
}

/// Counts one more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// The configuration of all engines, but for their kind.
pub(crate) fn patient() -> Config {
    Config::default()
        .stop_timeout(STOP_TIMEOUT)
        .start_timeout(START_TIMEOUT)
}

/// All of them.
pub(crate) fn all() -> Result<Vec<Site>, Error> {
    let crowded = PoolConfig::new().most(12).idle(6).spares(2);
    let crowded = crowded.wait(Duration::from_millis(5));
    let steady = PoolConfig::new().most(4).idle(4);
    let steady = steady.wait(Duration::from_millis(50));
    let alone = PoolConfig::new().most(3).idle(2);
    let nursed = Traits {
        nursed: true,
        ..Traits::default()
    };
    let pooled = Traits {
        pool: Some(4),
        ..nursed
    };
    let direct = Traits::default();
    Ok(vec![
        Site::new(
            ("crowded", 8),
            &patient().pool(crowded).engine_memory_limit(ENGINE_BYTES),
            Traits {
                pool: Some(6),
                spares: true,
                bytes: ENGINE_BYTES,
                ..pooled
            },
        )?,
        Site::new(("nursed", 3), &patient(), nursed)?,
        Site::new(("direct", 2), &patient().direct(true), direct)?,
        Site::new(
            ("single", 1),
            &patient().single_tenant(true).waiting(Waiting::Frugal),
            nursed,
        )?,
        Site::new(
            ("steady", 4),
            &patient().pool(steady).waiting(Waiting::Latency),
            pooled,
        )?,
        Site::new(
            ("alone", 1),
            &patient().pool(alone).direct(true),
            Traits {
                pool: Some(2),
                ..direct
            },
        )?,
    ])
}

impl Site {
    pub(crate) fn new(
        (name, weight): (&'static str, u32),
        config: &Config,
        traits: Traits,
    ) -> Result<Self, Error> {
        let engine = Engine::new(config)?;
        Ok(Self {
            name,
            weight,
            modules: Modules::new(&engine)?,
            engine,
            traits,
            strikes: Strikes::default(),
            counts: Counts::default(),
        })
    }

    /// What its own counts say, once no instance is left. Nothing if it is right.
    pub(crate) fn miscounted(&self) -> Vec<String> {
        let (metrics, counts) = (self.engine.metrics(), &self.counts);
        let seen = |counter: &AtomicU64| counter.load(Relaxed);
        let (made, failed) = (seen(&counts.made), seen(&counts.failed));
        let (spawns, reuses) = (metrics.spawns.count(), metrics.reuses.count());
        // One that was made beforehand is a spawn, and a reuse when somebody gets it.
        let are_made = if self.traits.spares {
            spawns + reuses >= made && reuses <= made
        } else {
            spawns + reuses == made
        };
        let failures = metrics.failed_spawns;
        let have_failed = failures == failed || self.traits.spares && failures > failed;
        let kills = metrics.kills;
        let ended = kills.dropped + kills.unresponsive + kills.spoiled + kills.died;
        let idle = self.traits.pool.unwrap_or(0);
        let have_ended = (ended..=ended + idle).contains(&spawns);
        let resets = metrics.resets.count();
        let were_reset = (seen(&counts.resets)..=seen(&counts.resets_tried)).contains(&resets);
        let have_run =
            metrics.turns >= seen(&counts.turns) && metrics.faults >= seen(&counts.faults);
        let held = self.engine.memory_held();
        let is_kept = held <= idle * KEPT_BYTES_MAX;
        let checks = [
            ("instances do not add up", are_made),
            ("failed starts do not add up", have_failed),
            ("ended workers do not add up", have_ended),
            ("resets do not add up", were_reset),
            ("turns or faults are missing", have_run),
            (
                "a worker was killed as unresponsive",
                kills.unresponsive == 0,
            ),
            ("a worker has forged", kills.forged == 0),
            ("too much memory is kept", is_kept),
        ];
        let wrong = checks.iter().filter(|(_, right)| !right);
        let say = |(what, _): &(&str, bool)| {
            let text = format!("{}: {what}: {held} bytes held, seen {counts:?}", self.name);
            format!(
                "{text}, counted {spawns} spawns, {reuses} reuses, {failures} failed, {resets} \
                 resets, {} turns, {} faults, {kills:?}",
                metrics.turns, metrics.faults
            )
        };
        wrong.map(say).collect()
    }
}
