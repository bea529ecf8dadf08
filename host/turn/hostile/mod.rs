#![expect(unsafe_code, reason = "maps the shared pages a second time")]
//! The other side of the shared pages, in the host's own process: for tests and fuzzing.
//!
//! It maps what a worker maps, at addresses of its own, and writes there what it likes.

mod script;

use std::hint::black_box;
use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

use vmctx::guest_page::LAST_WORDS_BYTES_MAX;
use vmctx::map::{SHARED_BYTES, TURN_PAGE, shared_offset};
use vmctx::{Fault, Forged, GuestPage, HOSTCALL_ARGS, HostPage, PAGE_BYTES, State, Step};

use super::{Pages, Patience, Slab, Turn};
use crate::error::Stage;
use crate::interrupt::{Trap, TrapKind};
use crate::lineage::Lineage;
use crate::mapping::{Mapping, Sharing};

pub(crate) use self::script::conversation;

/// How many words a page has.
pub(super) const PAGE_WORDS: usize = 1024;
/// The words of both pages that a worker writes: the turn page, then the guest page.
pub(super) type Words = [AtomicU32; 2 * PAGE_WORDS];

/// The words of the host page, two of its own in each.
type HostWords = [AtomicU64; PAGE_WORDS / 2];
/// The first word of the fault report, the signal, among [`Words`].
pub(super) const SIGNAL: usize = PAGE_WORDS + offset_of!(GuestPage, fault) / size_of::<u32>();
/// The first word of the registers that a report holds, likewise.
pub(super) const REPORTED: usize = SIGNAL + offset_of!(Fault, registers) / size_of::<u32>();
/// The lower word of the gas counter, likewise.
pub(super) const GAS: usize = PAGE_WORDS + offset_of!(GuestPage, gas) / size_of::<u32>();

/// What every order of these tests says.
pub(super) const ENTRY: u64 = 0x1_8000_0000;
pub(super) const STACK: u64 = 0x11_0000;
pub(super) const ARGS: [u64; HOSTCALL_ARGS] = [1, 2, 3, 4, 5, 6];

/// A worker's mappings.
pub(super) struct Hostile {
    host: Mapping,
    shared: Mapping,
}

/// The host's pages, and what a worker would have of them.
pub(super) fn pages() -> (Pages, Hostile) {
    let lineage = Arc::new(Lineage::new().expect("a page"));
    let (slab, ends) = Slab::new(&lineage, 1, Stage::Start).expect("the shared pages");
    let pages = slab.pages(0);
    let host = Mapping::new(
        &ends.host_page,
        PAGE_BYTES,
        Sharing::ReadOnly,
        Stage::Start,
        &lineage,
    );
    let shared = Mapping::new(
        &ends.shared_pages,
        SHARED_BYTES,
        Sharing::ReadWrite,
        Stage::Start,
        &lineage,
    );
    let hostile = Hostile {
        host: host.expect("the host page"),
        shared: shared.expect("the shared pages"),
    };
    (pages, hostile)
}

impl Hostile {
    /// The words of the turn page and the guest page. The first is the state.
    pub(super) fn words(&self) -> &Words {
        let turn_page = usize::try_from(shared_offset(TURN_PAGE.start)).expect("an offset");
        // SAFETY: the mapping is as long as all that is shared.
        let words = unsafe { self.shared.start().add(turn_page) };
        // SAFETY: two pages that are mapped while `self` lives, of which any bits are a value.
        unsafe { words.cast::<Words>().as_ref() }
    }

    /// The host page holds the orders of these tests, how long to wait, and nothing else.
    pub(super) fn assert_host_page(&self, told: Patience) {
        // SAFETY: one page that is mapped while `self` lives; its words are only loaded.
        let page = unsafe { self.host.start().cast::<HostWords>().as_ref() };
        let found: Vec<u64> = page.iter().map(|word| word.load(Relaxed)).collect();
        let mut expected = vec![0; found.len()];
        expected[offset_of!(HostPage, version) / size_of::<u64>()] =
            u64::from(told.spin_iterations) << 32;
        expected[offset_of!(HostPage, spin_yields) / size_of::<u64>()] = told.yields.into();
        expected[offset_of!(HostPage, entry) / size_of::<u64>()] = ENTRY;
        expected[offset_of!(HostPage, stack) / size_of::<u64>()] = STACK;
        assert_eq!(found, expected, "the host page");
    }
}

/// Whether `state` may come after the host's `order`, written down a second time: the tests do not
/// ask the code that they test.
pub(super) fn is_legal(state: u8, order: State) -> bool {
    match order {
        State::Boot => state == 1,
        State::Enter | State::Resume => [4, 5, 6, 7, 8].contains(&state),
        _ => false,
    }
}

/// Reads all that an instance reads of the pages once it has the turn, and asserts what holds
/// whatever is written meanwhile. Gives the trap.
pub(super) fn read_report(turn: &Turn, reports_calls: bool) -> Result<Trap, Forged> {
    black_box((turn.hostcall(), turn.value(), turn.registers()));
    let page = turn.pages().guest();
    let step = page.step.load(Relaxed);
    let step = u8::try_from(step).ok().and_then(Step::from_number);
    black_box((step, page.errno.load(Relaxed)));
    let trap = turn.trap(reports_calls);
    match &trap {
        Ok(trap) => {
            let is_memory = matches!(trap.kind, TrapKind::Memory | TrapKind::Bus);
            let is_call = trap.kind == TrapKind::ForbiddenCall;
            assert!(reports_calls || !is_call, "{trap:?}");
            assert_eq!(trap.call.is_some(), is_call);
            assert_eq!(trap.address.is_some(), trap.access.is_some());
            assert!(trap.address.is_none() || is_memory, "{trap:?}");
        }
        // SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV are legal, and sometimes SIGSYS.
        Err(forged) => {
            assert!(![4, 5, 7, 8, 11].contains(&forged.value), "{forged}");
            assert!(!reports_calls || forged.value != 31, "{forged}");
        }
    }
    trap
}

/// Reads the last words, however long they say they are.
pub(super) fn read_last_words(turn: &Turn) {
    let words: Vec<u8> = turn.pages().guest().last_words.bytes().collect();
    assert!(words.len() <= LAST_WORDS_BYTES_MAX);
}
