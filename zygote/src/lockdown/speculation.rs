//! Side channels that the CPU and the kernel let a process close.

use linux_raw::called::{Called as _, Failed};
use linux_raw::prctl::{self, Speculation, SpeculationState};
use linux_raw::{Errno, nr};
use vmctx::{Layer, Options};

use super::Wall;

/// Disables speculation for good: by ourselves, or never if the machine has done so already.
pub(super) fn disable(wall: &mut Wall) -> Result<(), Failed> {
    if wall.has(Options::KEEP_SPECULATION) {
        return Ok(());
    }
    for (kind, layer) in [
        (Speculation::StoreBypass, Layer::StoreBypass),
        (Speculation::IndirectBranch, Layer::IndirectBranch),
    ] {
        if wall.does_without(layer) {
            continue;
        }
        match can_disable(kind)? {
            Ok(()) => {
                prctl::disable_speculation(kind).called(nr::PRCTL)?;
                wall.up(layer);
            }
            Err(None) => wall.up(layer),
            Err(Some(errno)) => wall.absent(layer, errno),
        }
    }
    Ok(())
}

/// Whether it is ours to disable; if not, why, or `None` if it is disabled for everybody
/// (`Documentation/userspace-api/spec_ctrl.rst`).
fn can_disable(kind: Speculation) -> Result<Result<(), Option<Errno>>, Failed> {
    let state = match prctl::speculation(kind) {
        // An architecture that does not know the kind.
        Err(Errno::ENODEV) => return Ok(Err(Some(Errno::ENODEV))),
        state => state.called(nr::PRCTL)?,
    };
    let disabled = SpeculationState::DISABLE | SpeculationState::FORCE_DISABLE;
    Ok(if state.contains(SpeculationState::PRCTL) {
        Ok(())
    } else if state.intersects(disabled) {
        Err(None)
    } else if state == SpeculationState::NOT_AFFECTED {
        Err(Some(Errno::ENXIO))
    } else {
        Err(Some(Errno::EPERM))
    })
}

/// A core-scheduling cookie of our own, if asked for.
pub(super) fn keep_the_core(wall: &mut Wall) -> Result<(), Failed> {
    if wall.has(Options::CORE_SCHEDULING) {
        prctl::create_core_scheduling_cookie().called(nr::PRCTL)?;
        wall.up(Layer::CoreScheduling);
    }
    Ok(())
}

/// No time-stamp counter, if asked for.
pub(super) fn hide_the_counter(wall: &mut Wall) -> Result<(), Failed> {
    if wall.has(Options::NO_TIMESTAMP_COUNTER) {
        prctl::set_timestamp_counter(false).called(nr::PRCTL)?;
        wall.up(Layer::TimestampCounter);
    }
    Ok(())
}
