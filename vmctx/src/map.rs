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
/// The stack that the worker uses between guests, never while one runs.
pub const STACK: Span = 0x1_4017_0000..0x1_4017_4000;
/// [`HostPage`](crate::HostPage), read-only in the worker.
pub const HOST_PAGE: Span = 0x1_4019_0000..0x1_4019_1000;
/// [`TurnPage`](crate::TurnPage).
pub const TURN_PAGE: Span = 0x1_4019_1000..0x1_4019_2000;
/// [`GuestPage`](crate::GuestPage).
pub const GUEST_PAGE: Span = 0x1_4019_2000..0x1_4019_3000;
/// Where signal frames are written. Three of the largest that we know (AMX: 11 KiB) fit.
pub const ALT_STACK: Span = 0x1_401a_0000..0x1_401b_0000;
/// Code that is not among the guest's own addresses.
pub const CODE_WINDOW: Span = 0x1_8000_0000..0x1_c000_0000;
/// The end of the address space of a process with four-level page tables.
pub const USER_END: u64 = 0x7fff_ffff_f000;

/// Guest code calls this address to make a hostcall.
pub const HOSTCALL: u64 = IMAGE.start;
/// Guest code jumps here to finish. A guest that returns from its entry arrives here too.
pub const FINISH: u64 = IMAGE.start + 0x100;
/// The most bytes that the zygote's image may have.
pub const IMAGE_BYTES_MAX: u64 = 32 * 1024;

/// What worker and host both write, as it lies in one memory file: each span follows the one
/// before. Nothing else is writable for a worker but its guest's memory, so that the host can wipe
/// all that a guest leaves behind.
pub const SHARED: [Span; 3] = [TURN_PAGE.start..GUEST_PAGE.end, STACK, ALT_STACK];
/// How long that file is, in bytes.
pub const SHARED_BYTES: u64 = shared_offset(SHARED.len());

/// Where the span of this number begins in the file of [`SHARED`].
#[must_use]
pub const fn shared_offset(number: usize) -> u64 {
    let mut offset = 0;
    let mut before = 0;
    while before < number {
        offset += SHARED[before].end - SHARED[before].start;
        before += 1;
    }
    offset
}

/// The one address that a worker may wait on and wake: the state word.
pub const STATE_WORD: u64 = TURN_PAGE.start;

/// Every region, in ascending order.
pub const MAP: [(&str, Span); 8] = [
    ("guest", GUEST),
    ("image", IMAGE),
    ("stack", STACK),
    ("host page", HOST_PAGE),
    ("turn page", TURN_PAGE),
    ("guest page", GUEST_PAGE),
    ("alternate stack", ALT_STACK),
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
const_assert!(holds(&WORKER, &IMAGE) && holds(&WORKER, &ALT_STACK));
// One page-table page maps all that is the worker's own: exactly one 2 MiB region.
const_assert!(WORKER.start.is_multiple_of(0x20_0000) && WORKER.end - WORKER.start == 0x20_0000);
const_assert!(IMAGE.start + IMAGE_BYTES_MAX <= IMAGE.end);
const_assert!(CODE_WINDOW.end < USER_END);
