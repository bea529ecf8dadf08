//! Nothing of one tenant is left for the next: a guest fills all that it can write, registers too,
//! and after a reset, a restore or a drop neither the next guest nor the host finds any of it.

mod filling;
pub(super) mod guest;
mod places;
mod pooled;
mod registers;
mod shared;
mod swapped;
pub(super) mod traces;

use std::time::Duration;

use cellwall::abi::{GUEST_PAGE, PAGE_BYTES, TURN_LINE};
use cellwall::{Engine, Instance, Interrupt, Module, Protection, Snapshot};
use vmctx::map::{self, Span};

use self::filling::fill_worker;
pub(super) use self::filling::{fill_code, fill_module, fill_more};
use self::guest::{Program, run};
use self::traces::Traces;
use crate::harness::{DATA, DATA_BYTES, STACK, STACK_BYTES, config, engine, eventually};

/// What a tenant leaves wherever it can. It is an address that a segment may begin at.
pub(super) const PATTERN: u64 = 0x5ec2_e75a_c3d4;

/// Contents that the module begins with: few, which are there from the start, and many.
pub(super) const FEW: u64 = 0x20_0000;
pub(super) const FEW_BYTES: u64 = 0x8000;
pub(super) const MANY: u64 = 0x40_0000;
pub(super) const MANY_BYTES: u64 = 0x10_0000;
/// What the guest may only read, and not even that.
pub(super) const READ_ONLY: u64 = 0x60_0000;
pub(super) const HIDDEN: u64 = 0x61_0000;
pub(super) const INPUT: u64 = 0x62_0000;
pub(super) const SMALL_BYTES: u64 = 0x4000;
pub(super) const HEAP: u64 = 0x80_0000;
pub(super) const HEAP_BYTES: u64 = 0x20_0000;
/// More pages than are kept, and more runs of every other page than one scan of the kernel returns.
pub(super) const WIDE: u64 = 0x1000_0000;
pub(super) const WIDE_BYTES: u64 = 64 << 20;
/// Where nothing is at first.
pub(super) const NOWHERE: u64 = 0x2000_0000;
const NOWHERE_BYTES: u64 = 0x80_0000;
/// The last page, and one where dynamic paging maps one.
const TOP: u64 = 0xffff_f000;
const PAGED: u64 = 0x3000_0000;
const PAGED_BYTES: u64 = 0x4_0000;
/// Code that the host writes.
pub(super) const WINDOW: u64 = map::CODE_WINDOW.start + 0x10_0000;
const WINDOW_BYTES: u64 = 0x1_0000;

/// What the worker itself can write, but for the state word.
const WORKERS: [Span; 4] = [
    TURN_LINE + 8..TURN_LINE + PAGE_BYTES,
    GUEST_PAGE..GUEST_PAGE + PAGE_BYTES,
    map::STACK,
    map::ALT_STACK,
];

/// What of the module's own memory can be written by the guest.
pub(super) const WRITABLE: [Span; 5] = [
    DATA..DATA + DATA_BYTES,
    FEW..FEW + FEW_BYTES,
    MANY..MANY + MANY_BYTES,
    WIDE..WIDE + WIDE_BYTES,
    // The rest of it is in use while a guest fills.
    STACK..STACK + STACK_BYTES - 0x100,
];

pub(super) const UNREADABLE: Span = HIDDEN..HIDDEN + SMALL_BYTES;
pub(super) const ONLY_READ: [Span; 2] = [
    READ_ONLY..READ_ONLY + SMALL_BYTES,
    INPUT..INPUT + SMALL_BYTES,
];

/// Which pages of the wide region a tenant writes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Amount {
    One,
    Scattered,
    Most,
}

/// How a tenant is left, or leaves.
#[derive(Clone, Copy, Debug)]
enum End {
    Finished,
    Hostcall,
    Trap,
    Fault,
}

/// Ten times what a worker may take to notice something.
const SETTLED: Duration = Duration::from_millis(10 * 100);

const AMOUNTS: [Amount; 3] = [Amount::One, Amount::Scattered, Amount::Most];
const ENDS: [End; 4] = [End::Finished, End::Hostcall, End::Trap, End::Fault];

pub(super) fn module(engine: &Engine) -> Module {
    let contents = |bytes: u64| -> Vec<u8> { (0..bytes).map(|at| (at % 251) as u8 | 1).collect() };
    let both = Protection::ReadWrite;
    let builder = guest::builder()
        .zeroed(DATA, DATA_BYTES, both)
        .data(FEW, &contents(FEW_BYTES), both)
        .data(MANY, &contents(MANY_BYTES), both)
        .data_zero_extended(READ_ONLY, &contents(100), SMALL_BYTES, Protection::Read)
        .zeroed(HIDDEN, SMALL_BYTES, Protection::None)
        .input(INPUT, SMALL_BYTES)
        .heap(HEAP, HEAP_BYTES)
        .zeroed(WIDE, WIDE_BYTES, both)
        .stack(STACK, STACK_BYTES)
        .code_window(WINDOW, WINDOW_BYTES);
    let builder = if engine.can_change_maps() {
        builder.dynamic_paging()
    } else {
        builder
    };
    builder.build(engine).expect("a module")
}

/// An engine that pages, where that can be had, and one whose maps are fixed.
pub(super) fn engines() -> Vec<Engine> {
    let fixed = Engine::new(&config().fixed_memory(true)).expect("an engine");
    let paging = engine();
    if paging.can_change_maps() {
        return vec![paging, fixed];
    }
    absence::absent("userfaultfd", "only fixed maps are looked at");
    vec![fixed]
}

/// What is there to go back to.
struct Before {
    stats: cellwall::MemoryStats,
    clean: Snapshot,
}

/// A whole tenancy. `more` changes the map.
fn live(instance: &mut Instance, engine: &Engine, amount: Amount, end: End, more: bool) -> Before {
    let before = Before {
        stats: instance.memory_stats().expect("stats"),
        clean: instance.snapshot().expect("a snapshot"),
    };
    fill_module(instance, amount);
    if more {
        fill_more(instance, engine);
    }
    fill_code(instance);
    fill_worker(instance, end);
    // What is looked for can be found: by the host in each file, and by the guest itself.
    let traces = Traces::of(instance);
    let found = traces.found(PATTERN);
    for name in ["cellwall-memory", "cellwall-shared-pages", "cellwall-code"] {
        assert!(
            found.iter().any(|(file, _)| file == name),
            "{name}: {found:x?}"
        );
    }
    before
}

/// Looks everywhere, as host and as guest.
fn look(instance: &mut Instance, engine: &Engine, what: &str) {
    // The worker itself wipes the frame of the signal that takes its thread away from a guest.
    let traces = Traces::of(instance);
    eventually(SETTLED, what, || traces.found(PATTERN).is_empty());
    assert_eq!(instance.registers(), None, "{what}");
    // What is the worker's comes first: where the guest faults, it reports the word that it looks
    // for.
    for span in WORKERS {
        assert_eq!(guest::search(instance, &span), 0, "{what}: {span:x?}");
    }
    look_at_memory(instance, engine, what);
}

/// Looks at what is the guest's own, as host and as guest.
fn look_at_memory(instance: &mut Instance, engine: &Engine, what: &str) {
    let spans = WRITABLE.iter().chain(&ONLY_READ);
    for span in spans.clone().chain([&UNREADABLE]) {
        let mut bytes = vec![0; usize::try_from(span.end - span.start).expect("a length")];
        instance
            .read_as_host(span.start, &mut bytes)
            .expect("bytes");
        assert_eq!(traces::first(&bytes, PATTERN), None, "{what}: {span:x?}");
    }
    let others = [
        map::HOST_PAGE,
        map::IMAGE.start..map::IMAGE.start + 4 * PAGE_BYTES,
        map::CODE_WINDOW.start..map::CODE_WINDOW.start + PAGE_BYTES,
        STACK..STACK + STACK_BYTES,
    ];
    for span in others.into_iter().chain(spans.cloned()) {
        assert_eq!(guest::search(instance, &span), 0, "{what}: {span:x?}");
    }
    // What the module has not is gone.
    let gone = [
        WINDOW,
        WINDOW + WINDOW_BYTES - PAGE_BYTES,
        NOWHERE,
        TOP,
        PAGED,
        HIDDEN,
    ];
    let pages = (NOWHERE..NOWHERE + NOWHERE_BYTES).step_by(0x1000);
    for address in gone.into_iter().chain(pages.step_by(13)) {
        let touched = run(instance, Program::Read, &[address]);
        let stopped = matches!(touched, Interrupt::Trap(_) | Interrupt::PageFault(_));
        assert!(stopped, "{what}: {address:#x}: {touched}");
    }
    let heap = run(instance, Program::Read, &[HEAP]);
    let is_zero = heap == Interrupt::Finished(0);
    assert_eq!(
        is_zero,
        !engine.can_change_maps(),
        "{what}: the heap: {heap}"
    );
}

/// The number of tenancies is that of the combinations, each of which has its own path through the
/// host; every end comes with every amount.
fn tenants(engine: &Engine, restores: bool, more: bool) {
    let module = module(engine);
    let mut instance = engine.instantiate(&module).expect("an instance");
    for (number, amount) in AMOUNTS.into_iter().enumerate() {
        let end = ENDS[(number + usize::from(more) + 2 * usize::from(restores)) % ENDS.len()];
        let what = format!("{amount:?}, {end:?}, restores: {restores}, more: {more}");
        let before = live(&mut instance, engine, amount, end, more);
        if restores {
            instance.restore(&before.clean).expect("a restore");
        } else {
            instance.reset().expect("a reset");
        }
        let after = instance.memory_stats().expect("stats");
        assert_eq!(
            (after.mapped, after.dirty),
            (before.stats.mapped, 0),
            "{what}"
        );
        look(&mut instance, engine, &what);
        instance.reset().expect("a reset");
    }
}

#[test]
fn a_reset_leaves_nothing() {
    for engine in engines() {
        tenants(&engine, false, false);
    }
}

#[test]
fn a_reset_leaves_nothing_of_another_map() {
    for engine in engines() {
        tenants(&engine, false, true);
    }
}

#[test]
fn a_restore_leaves_nothing() {
    for engine in engines() {
        tenants(&engine, true, false);
    }
}

#[test]
fn a_restore_leaves_nothing_of_another_map() {
    for engine in engines() {
        tenants(&engine, true, true);
    }
}
