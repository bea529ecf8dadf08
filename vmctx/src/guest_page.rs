//! The guest page: what the worker reports. A guest can write all of it; the host believes
//! nothing here unchecked.

use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use static_assertions::const_assert;

use crate::{LINE_BYTES, PAGE_BYTES, map};

/// The most bytes of last words.
pub const LAST_WORDS_BYTES_MAX: usize = 512;

/// How many layers can be reported as absent.
pub const ABSENCES_MAX: usize = 64;

/// How many general registers a fault report holds.
pub const REGISTERS: usize = 18;

/// The order of [`Fault::registers`]: the kernel's order in a signal frame on x86-64.
pub const REGISTER_NAMES: [&str; REGISTERS] = [
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rdi", "rsi", "rbp", "rbx", "rdx", "rax",
    "rcx", "rsp", "rip", "rflags",
];

/// Words that the worker writes, and so may the guest.
#[repr(C, align(4096))]
pub struct GuestPage {
    /// The lock-down step that is being taken: a [`Step`](crate::Step).
    pub step: AtomicU32,
    /// Why that step failed: an errno, or 0.
    pub errno: AtomicU32,
    /// The number of the system call that failed.
    pub call: AtomicU32,
    /// 1 if the kernel lets programs set the bases of `fs` and `gs`: written before any guest runs,
    /// and read by the host then; worth nothing later.
    pub segment_bases: AtomicU32,
    /// Where the worker last found itself to run, as the CPU bits of a
    /// [`StateWord`](crate::StateWord). The worker alone reads it.
    pub cpu: AtomicU32,
    /// How long the worker lets pass before it first looks for an order, in eighths of a `pause`;
    /// the low byte alone. The worker alone reads it.
    pub pace: AtomicU32,
    /// One more than the number of the worker's userfaultfd in the nursery's table, once it is
    /// there: read by the host before any guest runs; worth nothing later.
    pub paging: AtomicU32,
    reserved: AtomicU32,
    /// The layers that the worker has put up: a [`LayerSet`](crate::LayerSet). Written before any
    /// guest runs, and read by the host then; worth nothing later.
    pub layers: AtomicU64,
    reserved_too: [AtomicU32; 6],
    /// The last fault or interruption.
    pub fault: Fault,
    /// What a dying zygote still had to say.
    pub last_words: LastWords,
    /// Why the kernel lacks a layer: an errno at the layer's number, or 0. As `layers`, it is worth
    /// nothing once a guest has run.
    pub absences: [AtomicU16; ABSENCES_MAX],
    /// What the guest may still use up.
    pub gas: Gas,
}

/// A counter that generated code decrements, at [`map::GAS`]: alone on its line,
/// so that the host can look at it without disturbing anything else.
#[repr(C, align(64))]
pub struct Gas {
    /// What is left, a signed number. Below zero the guest is to be stopped.
    pub left: AtomicU64,
}

/// A fault as the kernel reported it to the worker.
#[repr(C, align(64))]
pub struct Fault {
    /// The signal's number.
    pub signal: AtomicU32,
    /// `si_code`, as the kernel gave it.
    pub code: AtomicU32,
    /// `si_addr`: the faulting address.
    pub address: AtomicU64,
    /// The CPU's error code of a page fault: bit 0 present, 1 write, 4 instruction fetch.
    pub error: AtomicU64,
    /// The CPU's exception number.
    pub vector: AtomicU64,
    reserved: [AtomicU64; 4],
    /// The registers at the fault, in the order of [`REGISTER_NAMES`].
    pub registers: [AtomicU64; REGISTERS],
}

/// A bounded message, written byte by byte.
#[repr(C, align(64))]
pub struct LastWords {
    length: AtomicU32,
    bytes: [AtomicU8; LAST_WORDS_BYTES_MAX],
}

impl LastWords {
    /// Appends what still fits.
    pub fn push(&self, text: &[u8]) {
        let start = self.length();
        let mut length = start;
        for (slot, byte) in self.bytes.iter().skip(start).zip(text) {
            slot.store(*byte, Ordering::Relaxed);
            length += 1;
        }
        self.length
            .store(u32::try_from(length).unwrap_or(0), Ordering::Release);
    }

    /// How many bytes there are, never more than [`LAST_WORDS_BYTES_MAX`] whatever the word says.
    #[must_use]
    pub fn length(&self) -> usize {
        let alleged = self.length.load(Ordering::Acquire);
        usize::try_from(alleged)
            .unwrap_or(usize::MAX)
            .min(LAST_WORDS_BYTES_MAX)
    }

    /// The bytes, each read once.
    pub fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        self.bytes
            .iter()
            .take(self.length())
            .map(|byte| byte.load(Ordering::Relaxed))
    }
}

const_assert!(offset_of!(GuestPage, step) == 0);
const_assert!(offset_of!(GuestPage, errno) == 4);
const_assert!(offset_of!(GuestPage, call) == 8);
const_assert!(offset_of!(GuestPage, cpu) == 16);
const_assert!(offset_of!(GuestPage, layers) == 32);
const_assert!(offset_of!(GuestPage, fault) == LINE_BYTES);
const_assert!(offset_of!(Fault, signal) == 0);
const_assert!(offset_of!(Fault, code) == 4);
const_assert!(offset_of!(Fault, address) == 8);
const_assert!(offset_of!(Fault, error) == 16);
const_assert!(offset_of!(Fault, vector) == 24);
const_assert!(offset_of!(Fault, registers) == LINE_BYTES);
const_assert!(offset_of!(LastWords, length) == 0);
const_assert!(offset_of!(LastWords, bytes) == 4);
const_assert!(offset_of!(GuestPage, last_words).is_multiple_of(LINE_BYTES));
// Generated code relies on it.
const_assert!(map::GUEST_PAGE.start + offset_of!(GuestPage, gas) as u64 == map::GAS);
const_assert!(size_of::<Gas>() == LINE_BYTES);
const_assert!(size_of::<GuestPage>() as u64 == PAGE_BYTES);

#[cfg(test)]
mod tests {
    extern crate std;
    use super::{LAST_WORDS_BYTES_MAX, LastWords};
    use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};
    use std::vec::Vec;

    fn words() -> LastWords {
        LastWords {
            length: AtomicU32::new(0),
            bytes: [const { AtomicU8::new(0) }; LAST_WORDS_BYTES_MAX],
        }
    }

    #[test]
    fn words_are_cut_at_the_limit() {
        let words = words();
        words.push(b"abc");
        assert_eq!(words.bytes().collect::<Vec<_>>(), b"abc");
        words.push(&[b'x'; LAST_WORDS_BYTES_MAX]);
        assert_eq!(words.bytes().count(), LAST_WORDS_BYTES_MAX);
    }

    #[test]
    fn a_forged_length_reads_nothing_outside() {
        let words = words();
        words.length.store(u32::MAX, Ordering::Relaxed);
        assert_eq!(words.bytes().count(), LAST_WORDS_BYTES_MAX);
        words.push(b"more");
    }
}
