#![expect(unsafe_code, reason = "leaves for the assembly that never comes back")]
//! The start of a worker as a list: each step is short, in an order that is visible here. A nursery
//! takes some of the steps once, its workers take the others.

mod lacking;
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
use linux_raw::fd::{self, CloseRangeFlags, RawFd};
use linux_raw::seccomp::{self, InstallFlags};
use linux_raw::{Errno, nr, prctl};
use vmctx::{Layer, LayerNeed, LayerSet, Options, Step, Tier, slots};

use crate::boot::{check_pages, host_page, without};
use crate::last_words::{begin, die, report_layers};
use crate::{entry, signal, trampoline};
use cellwall_zygote::policy;

/// What the steps know of the process, and what they have put up so far.
#[derive(Clone, Copy)]
pub(crate) struct Wall {
    /// The largest signal frame, in bytes.
    frame_bytes: usize,
    options: Options,
    who: Who,
    files: Files,
    layers: LayerSet,
    /// What the host does without. A nursery's workers have what it left out.
    without: LayerSet,
    /// Why the kernel or the CPU lacks a layer, by the layer's number.
    absences: [Option<Errno>; Layer::ALL.len()],
}

/// Which process it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// A worker that the host has started: it takes every step.
    Alone,
    /// It takes the steps that its workers inherit.
    Nursery,
    /// A nursery's worker: it takes the others.
    Nursed,
}

/// The descriptors behind guest memory.
#[derive(Clone, Copy)]
pub(crate) struct Files {
    pub(crate) memory: RawFd,
    pub(crate) module: RawFd,
    pub(crate) code: RawFd,
}

impl Wall {
    pub(crate) fn has(&self, option: Options) -> bool {
        self.options.contains(option)
    }

    /// Notes a layer that only some kernels have.
    fn up(&mut self, layer: Layer) {
        self.layers = self.layers.with(layer);
    }

    /// Notes that the kernel or the CPU lacks such a layer.
    fn absent(&mut self, layer: Layer, errno: Errno) {
        if let Some(absence) = self.absences.get_mut(layer as usize) {
            *absence = Some(errno);
        }
    }

    /// Whether the host does without such a layer: then it is noted as absent. What the kernel
    /// would have answered, the host knows.
    fn does_without(&mut self, layer: Layer) -> bool {
        let is_left_out = self.without.has(layer);
        if is_left_out {
            self.absent(layer, Errno::ENOSYS);
        }
        is_left_out
    }

    /// The same wall for a worker that the nursery has cloned, whose own page says the rest.
    pub(crate) fn of_nursed(&self, files: Files) -> Self {
        Self {
            who: Who::Nursed,
            files,
            ..*self
        }
    }
}

/// Who takes a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// The nursery, once for all: its workers inherit what it does.
    Once,
    /// Each worker.
    Each,
    /// Both.
    Twice,
}

impl Taken {
    fn by(self, who: Who) -> bool {
        match who {
            Who::Alone => true,
            Who::Nursery => self != Self::Each,
            Who::Nursed => self != Self::Once,
        }
    }
}

/// One step. Its layers that every kernel has are up once it has succeeded; those that a kernel may
/// lack, and those that are only put up on request, are noted by the action.
struct Entry(Step, Taken, fn(&mut Wall) -> Result<(), Failed>);

/// Later steps forbid earlier ones: descriptors are needed until the memory is mapped and the
/// Landlock domain is entered, and the filter allows nothing of all this.
const STEPS: [Entry; 19] = {
    use Taken::{Each, Once, Twice};
    [
        Entry(Step::Standing, Once, standing::give_up),
        Entry(Step::Bounding, Once, |_| privileges::lock_away()),
        Entry(Step::User, Once, privileges::change_user),
        Entry(Step::Root, Once, |_| root::empty()),
        Entry(Step::Privileges, Once, |wall| privileges::drop_all(wall)),
        Entry(Step::HostDeath, Once, |_| privileges::die_with_the_host()),
        Entry(Step::Speculation, Once, speculation::disable),
        Entry(Step::CoreScheduling, Each, speculation::keep_the_core),
        Entry(Step::TimestampCounter, Once, speculation::hide_the_counter),
        Entry(Step::DenyWriteExecute, Once, memory::deny_write_execute),
        Entry(Step::Regions, Each, memory::map_regions),
        Entry(Step::Unmap, Once, |_| memory::unmap_the_rest()),
        Entry(Step::Paging, Each, paging::hand_over),
        Entry(Step::Signals, Once, |wall| {
            signal::install(wall.frame_bytes, wall.has(Options::REPORT_CALLS))
        }),
        Entry(Step::Landlock, Once, landlock::enter),
        Entry(Step::Limits, Twice, limits::set),
        Entry(Step::CloseAll, Each, close_all),
        Entry(Step::Seal, Twice, memory::seal),
        Entry(Step::Seccomp, Each, filter),
    ]
};

/// Takes every step, then waits for the first order, or the first request. A step that fails ends
/// the process.
///
/// # Safety
///
/// To be called once, on the stack that `boot` mapped.
pub(crate) unsafe extern "C" fn lockdown(frame_bytes: usize) -> ! {
    let options = Options::from_bits_retain(host_page().options.load(Relaxed));
    let who = if options.contains(Options::NURSERY) {
        Who::Nursery
    } else {
        Who::Alone
    };
    let mut wall = Wall {
        frame_bytes,
        options,
        who,
        files: Files {
            memory: slots::MEMORY,
            module: slots::MODULE,
            code: slots::CODE,
        },
        layers: LayerSet::NONE,
        without: without(),
        absences: [None; Layer::ALL.len()],
    };
    take_steps(&mut wall);
    if who == Who::Nursery {
        // SAFETY: `boot` has mapped that stack for a nursery, and nothing is done here any more.
        unsafe { entry::on_nursery_stack(&raw const wall) }
    }
    ready(&wall)
}

/// What a nursery's worker does, from the moment it has its own pages.
///
/// # Safety
///
/// To be called once, on the worker's own stack, with the wall that the nursery has left above it.
pub(crate) unsafe extern "C" fn of_worker(inherited: *const Wall) -> ! {
    check_pages();
    if let Err(errno) = prctl::set_name(c"cellwall-worker") {
        die(Step::SharedPages, nr::PRCTL, errno)
    }
    // SAFETY: the caller says so, and nobody writes there but us.
    let mut wall = unsafe { inherited.read() };
    // Asked for worker by worker.
    wall.options = Options::from_bits_retain(host_page().options.load(Relaxed));
    take_steps(&mut wall);
    ready(&wall)
}

fn take_steps(wall: &mut Wall) {
    let tier = if wall.has(Options::WITHOUT_NAMESPACES) {
        Tier::WithoutNamespaces
    } else {
        Tier::Full
    };
    for Entry(step, taken, action) in &STEPS {
        if !step.is_in(tier) || !taken.by(wall.who) {
            continue;
        }
        #[cfg(cellwall_layer_switch)]
        if is_left_out(*step) {
            continue;
        }
        begin(*step);
        if let Err(Failed(call, errno)) = action(wall) {
            die(*step, call, errno)
        }
        for layer in step.layers() {
            if layer.need() == LayerNeed::Must {
                wall.up(*layer);
            }
        }
    }
}

/// Says what has been put up, and waits for the first order.
fn ready(wall: &Wall) -> ! {
    report_layers(wall.layers, &wall.absences);
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

/// None of the descriptors is needed any more. A nursery's worker closes them for itself alone.
fn close_all(wall: &mut Wall) -> Result<(), Failed> {
    let flags = match wall.who {
        Who::Nursed => CloseRangeFlags::UNSHARE,
        Who::Alone | Who::Nursery => CloseRangeFlags::empty(),
    };
    // SAFETY: no owned descriptor exists: what was mapped stays mapped without one.
    unsafe { fd::close_range(0, u32::MAX, flags) }.called(nr::CLOSE_RANGE)
}

fn filter(wall: &mut Wall) -> Result<(), Failed> {
    let filter = if wall.has(Options::REPORT_CALLS) {
        policy::REPORTING_FILTER.as_slice()
    } else {
        policy::FILTER.as_slice()
    };
    seccomp::install(filter, InstallFlags::empty()).called(nr::SECCOMP)
}
