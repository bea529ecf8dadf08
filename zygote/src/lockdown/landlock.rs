//! A Landlock domain that allows nothing that the kernel's Landlock knows and we know too, but for
//! what the host does without.

use linux_raw::called::{Called as _, Failed};
use linux_raw::landlock::{self, AccessNet, RestrictFlags, Rights, Scope};
use linux_raw::{Errno, nr};
use vmctx::Layer;

use super::Wall;

pub(super) fn enter(wall: &mut Wall) -> Result<(), Failed> {
    let abi = landlock::abi().called(nr::LANDLOCK_CREATE_RULESET)?;
    let mut rights = Rights::known(abi);
    if wall.without.has(Layer::LandlockNetwork) {
        rights.net = AccessNet::empty();
    }
    if wall.without.has(Layer::LandlockScopes) {
        rights.scoped = Scope::empty();
    }
    // Without a single rule it allows none of what it handles.
    let ruleset = landlock::create_ruleset(&rights).called(nr::LANDLOCK_CREATE_RULESET)?;
    landlock::restrict_self(&ruleset, RestrictFlags::empty()).called(nr::LANDLOCK_RESTRICT_SELF)?;
    for (layer, is_handled) in [
        (Layer::LandlockNetwork, !rights.net.is_empty()),
        (Layer::LandlockScopes, !rights.scoped.is_empty()),
    ] {
        if is_handled {
            wall.up(layer);
        } else {
            // What the kernel would have answered.
            wall.absent(layer, Errno::EINVAL);
        }
    }
    Ok(())
}
