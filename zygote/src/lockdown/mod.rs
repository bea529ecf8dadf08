#![expect(unsafe_code, reason = "leaves for the assembly that never comes back")]
//! The start of a worker as a list: each step is short, in an order that is visible here.

mod landlock;
mod limits;
mod mapped;
mod memory;
mod paging;
mod privileges;
mod root;
mod speculation;
mod standing;

use core::sync::atomic::Ordering::Relaxed;

use linux_raw::called::{Called as _, Failed};
use linux_raw::fd::{self, CloseRangeFlags};
use linux_raw::seccomp::{self, InstallFlags};
use linux_raw::{Errno, nr};
use vmctx::{Layer, LayerNeed, LayerSet, Options, Step, Tier};

use crate::boot::host_page;
use crate::last_words::{begin, die, report_absence, report_layers};
use crate::{signal, trampoline};
use cellwall_zygote::policy;

/// What the steps know of the process, and what they have put up so far.
pub(crate) struct Wall {
    /// The largest signal frame, in bytes.
    frame_bytes: usize,
    options: Options,
    layers: LayerSet,
}

impl Wall {
    fn has(&self, option: Options) -> bool {
        self.options.contains(option)
    }

    /// Notes a layer that only some kernels have.
    fn up(&mut self, layer: Layer) {
        self.layers = self.layers.with(layer);
    }

    /// Notes that the kernel or the CPU lacks such a layer.
    fn absent(&mut self, layer: Layer, errno: Errno) {
        report_absence(layer, errno);
    }
}

/// One step. Its layers that every kernel has are up once it has succeeded; those that a kernel may
/// lack, and those that are only put up on request, are noted by the action.
struct Entry(Step, fn(&mut Wall) -> Result<(), Failed>);

/// Later steps forbid earlier ones: descriptors are needed until the memory is mapped and the
/// Landlock domain is entered, and the filter allows nothing of all this.
const STEPS: [Entry; 19] = [
    Entry(Step::Standing, standing::give_up),
    Entry(Step::Bounding, |_| privileges::lock_away()),
    Entry(Step::User, privileges::change_user),
    Entry(Step::Root, |_| root::empty()),
    Entry(Step::Privileges, |_| privileges::drop_all()),
    Entry(Step::HostDeath, |_| privileges::die_with_the_host()),
    Entry(Step::Speculation, speculation::disable),
    Entry(Step::CoreScheduling, speculation::keep_the_core),
    Entry(Step::TimestampCounter, speculation::hide_the_counter),
    Entry(Step::DenyWriteExecute, memory::deny_write_execute),
    Entry(Step::Regions, memory::map_regions),
    Entry(Step::Unmap, |_| memory::unmap_the_rest()),
    Entry(Step::Paging, paging::hand_over),
    Entry(Step::Signals, |wall| {
        signal::install(wall.frame_bytes, wall.has(Options::REPORT_CALLS))
    }),
    Entry(Step::Landlock, landlock::enter),
    Entry(Step::Limits, |_| limits::set()),
    Entry(Step::CloseAll, |_| close_all()),
    Entry(Step::Seal, memory::seal),
    Entry(Step::Seccomp, filter),
];

/// Takes every step, then waits for the first order. A step that fails ends the process.
///
/// # Safety
///
/// To be called once, on the stack that `boot` mapped.
pub(crate) unsafe extern "C" fn lockdown(frame_bytes: usize) -> ! {
    let mut wall = Wall {
        frame_bytes,
        options: Options::from_bits_retain(host_page().options.load(Relaxed)),
        layers: LayerSet::NONE,
    };
    let tier = if wall.has(Options::WITHOUT_NAMESPACES) {
        Tier::WithoutNamespaces
    } else {
        Tier::Full
    };
    for Entry(step, action) in STEPS.into_iter().filter(|entry| entry.0.is_in(tier)) {
        #[cfg(cellwall_layer_switch)]
        if is_left_out(step) {
            continue;
        }
        begin(step);
        if let Err(Failed(call, errno)) = action(&mut wall) {
            die(step, call, errno)
        }
        for layer in step.layers() {
            if layer.need() == LayerNeed::Must {
                wall.up(*layer);
            }
        }
    }
    report_layers(wall.layers);
    begin(Step::Ready);
    // SAFETY: it takes the stack from its top; nothing below is needed again.
    unsafe { trampoline::cellwall_idle() }
}

/// What `cargo xtask build-zygote --check` finds in a zygote that can leave out layers, and does
/// not find in the one that is shipped.
#[cfg(cellwall_layer_switch)]
static MARK: [u8; 21] = *b"cellwall_layer_switch";

/// In a zygote of the layer tests: whether the host wants to see what happens without this step.
/// One that puts up several layers is left out with all of them.
#[cfg(cellwall_layer_switch)]
fn is_left_out(step: Step) -> bool {
    core::hint::black_box(&MARK);
    let left_out = LayerSet::from_raw(host_page().left_out.load(Relaxed));
    let layers = step.layers();
    // The guest's memory has to be mapped somehow, and what is no layer is needed.
    step != Step::Regions && !layers.is_empty() && layers.iter().all(|layer| left_out.has(*layer))
}

/// None of the slots is needed any more, and nothing else is open.
fn close_all() -> Result<(), Failed> {
    // SAFETY: no owned descriptor exists: what was mapped stays mapped without one.
    unsafe { fd::close_range(0, u32::MAX, CloseRangeFlags::empty()) }.called(nr::CLOSE_RANGE)
}

fn filter(wall: &mut Wall) -> Result<(), Failed> {
    let filter = if wall.has(Options::REPORT_CALLS) {
        policy::REPORTING_FILTER.as_slice()
    } else {
        policy::FILTER.as_slice()
    };
    seccomp::install(filter, InstallFlags::empty()).called(nr::SECCOMP)
}
