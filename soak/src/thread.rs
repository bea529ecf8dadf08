//! One of the threads that use the library: a deed after the other.

use std::cell::RefCell;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crate::deeds::{DEEDS, Deed};
use crate::seat::Seat;
use crate::site::Site;
use crate::tenant::Stop;
use crate::world::World;

/// What a deed is done with.
pub(crate) struct Hand<'a> {
    pub(crate) world: &'a World<'a>,
    pub(crate) seat: &'a Seat,
    /// Which of the sites it is done on.
    pub(crate) site: usize,
    random: RefCell<fastrand::Rng>,
}

impl<'a> Hand<'a> {
    pub(crate) fn site(&self) -> &'a Site {
        &self.world.sites[self.site]
    }

    /// Below `end`.
    pub(crate) fn random(&self, end: u32) -> u32 {
        self.random.borrow_mut().u32(..end)
    }

    /// Up to `most`, and at least 1.
    pub(crate) fn upto(&self, most: u64) -> u64 {
        self.random.borrow_mut().u64(1..=most)
    }

    pub(crate) fn word(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    pub(crate) fn is_tails(&self) -> bool {
        self.random.borrow_mut().bool()
    }
}

/// Does deeds until the world ends.
pub(crate) fn work(world: &World, thread: usize, seed: u64) {
    let seat = &world.seats[thread];
    let mut random = fastrand::Rng::with_seed(seed);
    while !world.is_over.load(Relaxed) {
        let deed = choose(&mut random, world);
        let site = weighted(&mut random, world.sites.iter().map(|site| site.weight));
        let seed = random.u64(..);
        seat.begin(deed.name, seed, world.sites[site].name);
        let hand = Hand {
            world,
            seat,
            site,
            random: RefCell::new(fastrand::Rng::with_seed(seed)),
        };
        let begun = Instant::now();
        let done = (deed.act)(&hand);
        if let Err(Stop::Wrong(what)) = &done {
            world.accuse(&format!("{seat}: {what}"));
        }
        world.ledger.note(deed, &done, begun.elapsed());
    }
    seat.leave();
}

fn choose(random: &mut fastrand::Rng, world: &World) -> &'static Deed {
    let deeds = || DEEDS.iter().filter(|deed| world.wants(deed));
    let chosen = weighted(random, deeds().map(|deed| deed.weight));
    deeds().nth(chosen).unwrap_or(&DEEDS[0])
}

/// One by its weight.
fn weighted(random: &mut fastrand::Rng, weights: impl Iterator<Item = u32> + Clone) -> usize {
    let mut point = random.u32(..weights.clone().sum::<u32>().max(1));
    for (number, weight) in weights.enumerate() {
        match point.checked_sub(weight) {
            Some(rest) => point = rest,
            None => return number,
        }
    }
    0
}
