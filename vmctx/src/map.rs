//! Where everything lies in a worker's address space.
//!
//! Guest addresses end at 4 GiB, so that a 32-bit guest pointer is a native pointer. All that is
//! ours lies within one 2 MiB region above them, so that one page-table page maps it. The window
//! for the code of code generators follows.

use core::ops::Range;

use static_assertions::const_assert;

/// A half-open range of addresses.
pub type Span = Range<u64>;

/// Addresses that a guest's data may have, and its code too.
pub const GUEST: Span = 0x1_0000..0x1_0000_0000;
/// All that is the worker's own.
pub const WORKER: Span = 0x1_4000_0000..0x1_4020_0000;
/// The zygote's image: trampolines, text, constants. `link.ld` places it here.
pub const IMAGE: Span = 0x1_4000_0000..0x1_4010_0000;
/// Where signal frames are written. Three of the largest that we know (AMX: 11 KiB) fit. Nothing is
/// mapped below: what does not fit faults, and the kernel kills the process.
pub const ALT_STACK: Span = 0x1_4018_0000..0x1_4019_0000;
/// The stack that the worker uses between guests, never while one runs.
pub const STACK: Span = 0x1_4019_0000..0x1_4019_4000;
/// [`TurnPage`](crate::TurnPage).
pub const TURN_PAGE: Span = 0x1_4019_4000..0x1_4019_5000;
/// [`GuestPage`](crate::GuestPage).
pub const GUEST_PAGE: Span = 0x1_4019_5000..0x1_4019_6000;
/// [`HostPage`](crate::HostPage), read-only in the worker.
pub const HOST_PAGE: Span = 0x1_4019_6000..0x1_4019_7000;
/// What only the nursery has, which no guest runs in: its clones get nothing of it.
pub const NURSERY: Span = 0x1_401c_0000..0x1_4020_0000;
/// Where host and nursery talk: [`Ring`](crate::Ring).
pub const RING: Span = NURSERY.start..NURSERY.start + 0x1000;
/// The nursery's stack, memory of its own.
pub const NURSERY_STACK: Span = NURSERY.start + 0x1_0000..NURSERY.start + 0x1_4000;
/// Code that is not among the guest's own addresses.
pub const CODE_WINDOW: Span = 0x1_8000_0000..0x1_c000_0000;
/// The end of the address space of a process with four-level page tables.
pub const USER_END: u64 = 0x7fff_ffff_f000;

/// Guest code calls this address to make a hostcall.
pub const HOSTCALL: u64 = IMAGE.start;
/// Guest code jumps here to finish. A guest that returns from its entry arrives here too.
pub const FINISH: u64 = IMAGE.start + 0x100;
/// Guest code calls this address once its gas is used up.
pub const OUT_OF_GAS: u64 = IMAGE.start + 0x200;
/// The counter that guest code decrements: 8 bytes, signed.
pub const GAS: u64 = GUEST_PAGE.start + 0x400;
/// The most bytes that the zygote's image may have.
pub const IMAGE_BYTES_MAX: u64 = 32 * 1024;

/// What worker and host both write: one mapping of one memory file. Nothing else is writable for a
/// worker but its guest's memory, so that the host can wipe all that a guest leaves behind.
pub const SHARED: Span = ALT_STACK.start..GUEST_PAGE.end;
/// How long that is, in bytes.
pub const SHARED_BYTES: u64 = SHARED.end - SHARED.start;

/// Where an address of [`SHARED`] is in its file, in bytes from where that begins.
#[must_use]
pub const fn shared_offset(address: u64) -> u64 {
    address - SHARED.start
}

/// The one address that a worker may wait on and wake: the state word.
pub const STATE_WORD: u64 = TURN_PAGE.start;

/// Every region of a worker, in ascending order. What a nursery has beside these is [`NURSERY`].
pub const MAP: [(&str, Span); 8] = [
    ("guest", GUEST),
    ("image", IMAGE),
    ("alternate stack", ALT_STACK),
    ("stack", STACK),
    ("turn page", TURN_PAGE),
    ("guest page", GUEST_PAGE),
    ("host page", HOST_PAGE),
    ("code window", CODE_WINDOW),
];

/// Whether `outer` holds every address of `inner`, which must not run backwards.
#[must_use]
pub const fn holds(outer: &Span, inner: &Span) -> bool {
    inner.start <= inner.end && outer.start <= inner.start && inner.end <= outer.end
}

const fn ascending_and_disjoint(map: &[(&str, Span)]) -> bool {
    let mut index = 0;
    while index < map.len() {
        let span = &map[index].1;
        let whole_pages = span.start.is_multiple_of(crate::PAGE_BYTES)
            && span.end.is_multiple_of(crate::PAGE_BYTES);
        let follows = index == 0 || map[index - 1].1.end <= span.start;
        if !whole_pages || !follows || span.start >= span.end {
            return false;
        }
        index += 1;
    }
    true
}

// A region that overlaps its neighbour or is no whole number of pages: move it in MAP above.
const_assert!(ascending_and_disjoint(&MAP));
const_assert!(holds(&WORKER, &IMAGE) && holds(&WORKER, &SHARED) && holds(&WORKER, &HOST_PAGE));
// What is shared adjoins, so that it is one mapping; the host page follows, so that one call seals
// both.
const_assert!(ALT_STACK.end == STACK.start && STACK.end == TURN_PAGE.start);
const_assert!(TURN_PAGE.end == GUEST_PAGE.start && GUEST_PAGE.end == HOST_PAGE.start);
const_assert!(holds(&WORKER, &NURSERY) && HOST_PAGE.end < NURSERY.start);
const_assert!(holds(&NURSERY, &RING) && holds(&NURSERY, &NURSERY_STACK));
// One page-table page maps all that is the worker's own: exactly one 2 MiB region.
const_assert!(WORKER.start.is_multiple_of(0x20_0000) && WORKER.end - WORKER.start == 0x20_0000);
const_assert!(IMAGE.start + IMAGE_BYTES_MAX <= IMAGE.end);
const_assert!(CODE_WINDOW.end < USER_END);
