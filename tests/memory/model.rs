//! Against a model: whatever happens to an instance happens to a plain map of pages too, and both
//! agree on every byte, every fault and every error.

mod ask;
mod guest;
mod kernel;
mod layout;
mod map;
mod op;
mod play;
mod rules;
mod side;
mod space;
mod world;

use absence::absent;
use cellwall::Config;
use proptest::prelude::*;

use self::op::{Case, cases};
use self::world::World;
use crate::harness::{config, engine};

/// How many operations a case has.
const OPS: usize = 300;

/// How long a failing case is made smaller.
const SHRINK_MS: u32 = 60_000;

/// A case takes as long as hundreds of the usual ones: two workers, and operations of theirs.
fn settings() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: default.cases.div_ceil(32),
        max_shrink_time: SHRINK_MS,
        failure_persistence: None,
        ..default
    }
}

fn agree(config: Config, case: &Case, paged: bool) {
    let mut world = World::new(config, case, paged);
    for (which, op) in &case.ops {
        world.step(*which, op);
    }
    world.end();
}

#[test]
fn an_instance_is_what_the_model_says() {
    if !engine().can_change_maps() {
        return absent("userfaultfd", "maps are fixed");
    }
    proptest!(settings(), |(case in cases(OPS))| agree(config(), &case, true));
}

#[test]
fn so_it_is_with_a_fixed_map() {
    let config = config().fixed_memory(true);
    proptest!(settings(), |(case in cases(OPS))| agree(config.clone(), &case, false));
}
