//! What all threads of a round share.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use cellwall::Error;

use crate::chaos;
use crate::deeds::Deed;
use crate::ledger::Ledger;
use crate::pressure;
use crate::seat::Seat;
use crate::site::{self, Site};
use crate::thread::work;
use crate::victim::Victims;

/// How often somebody looks whether all threads get on.
const LOOK: Duration = Duration::from_millis(250);
/// How long what ends behind our back may take.
const SETTLED: Duration = Duration::from_secs(10);

/// What a soak is to do.
pub(crate) struct Plan {
    pub(crate) threads: usize,
    pub(crate) seed: u64,
    /// Whose names begin so.
    pub(crate) only: String,
    pub(crate) is_calm: bool,
}

pub(crate) struct World<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) sites: Vec<Site>,
    pub(crate) seats: Vec<Seat>,
    pub(crate) victims: Victims,
    pub(crate) ledger: &'a Ledger,
    pub(crate) is_over: AtomicBool,
    /// What must not be, and was.
    accusations: Mutex<Vec<String>>,
}

impl World<'_> {
    pub(crate) fn wants(&self, deed: &Deed) -> bool {
        deed.name.starts_with(&self.plan.only)
    }

    /// Says what must not be, and ends the round.
    pub(crate) fn accuse(&self, what: &str) {
        eprintln!("soak: WRONG: {what}");
        let mut accusations = self
            .accusations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        accusations.push(what.to_owned());
        self.is_over.store(true, Relaxed);
    }
}

/// Makes engines, uses them for so long, and drops them. Gives what was wrong.
pub(crate) fn round(
    plan: &Plan,
    ledger: &Ledger,
    number: u64,
    length: Duration,
) -> Result<Vec<String>, Error> {
    let world = World {
        plan,
        sites: site::all()?,
        seats: (0..plan.threads).map(Seat::new).collect(),
        victims: Victims::default(),
        ledger,
        is_over: AtomicBool::new(false),
        accusations: Mutex::default(),
    };
    let mut seeds = fastrand::Rng::with_seed(plan.seed.wrapping_add(number));
    thread::scope(|scope| {
        for thread in 0..plan.threads {
            let (world, seed) = (&world, seeds.u64(..));
            scope.spawn(move || work(world, thread, seed));
        }
        if !plan.is_calm {
            let (world, seed) = (&world, seeds.u64(..));
            scope.spawn(move || chaos::reign(world, seed));
            scope.spawn(|| pressure::reign(world));
        }
        watch(&world, length);
    });
    let mut wrong = settled(&world);
    let accusations = world.accusations;
    wrong.extend(
        accusations
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner),
    );
    Ok(wrong)
}

/// Ends the round in time, and the program if a thread does not return.
fn watch(world: &World, length: Duration) {
    let begun = Instant::now();
    loop {
        thread::sleep(LOOK);
        if world.seats.iter().any(Seat::is_stuck) {
            eprintln!("soak: a call does not return (seed {})", world.plan.seed);
            for seat in &world.seats {
                eprintln!("  {}{seat}", if seat.is_stuck() { "STUCK: " } else { "" });
            }
            std::process::exit(1);
        }
        for site in &world.sites {
            let (held, most) = (site.engine.memory_held(), site.traits.bytes);
            if most > 0 && held > most {
                world.accuse(&format!("{} holds {held} bytes of {most}", site.name));
            }
        }
        if world.ledger.is_time_to_tell() {
            eprintln!("soak: {}", world.ledger.progress());
        }
        if begun.elapsed() >= length {
            world.is_over.store(true, Relaxed);
        }
        if world.seats.iter().all(Seat::has_left) {
            return;
        }
    }
}

/// What the engines' own counts say once nobody uses them.
fn settled(world: &World) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let wrong: Vec<String> = world.sites.iter().flat_map(Site::miscounted).collect();
        if wrong.is_empty() || begun.elapsed() > SETTLED {
            return wrong;
        }
        thread::sleep(Duration::from_millis(10));
    }
}
