//! The turn line: the one cache line that both sides write.
//!
//! A line for each direction costs 1.4 to 2.2 times the bare ping-pong of a cache line, one line
//! for both 0.85 to 1.19 times (`docs/decisions/`). A guest can only forge its own side of the
//! conversation: the host keeps its own record of whose turn it is.

use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicU32, AtomicU64};

use static_assertions::const_assert;

use crate::{LINE_BYTES, PAGE_BYTES, map};

/// How many arguments a hostcall has.
pub const HOSTCALL_ARGS: usize = 6;

/// State, hostcall number, arguments and answer, published by an exchange of the state.
#[repr(C, align(64))]
pub struct TurnLine {
    /// A [`StateWord`](crate::StateWord); the futex of the conversation.
    pub state: AtomicU32,
    /// The number of the hostcall. The worker writes it.
    pub number: AtomicU32,
    /// The arguments: of a hostcall (the worker writes them) or of an entry (the host does).
    pub args: [AtomicU64; HOSTCALL_ARGS],
    /// The host's answer to a hostcall, or the value that the guest finished with.
    pub value: AtomicU64,
}

/// The turn line alone on its page: nothing else shares its line or can be read with it.
#[repr(C, align(4096))]
pub struct TurnPage {
    /// The line.
    pub line: TurnLine,
}

// docs/abi.md prints these; generated code relies on them.
const_assert!(offset_of!(TurnLine, state) == 0);
const_assert!(offset_of!(TurnLine, number) == 4);
const_assert!(offset_of!(TurnLine, args) == 8);
const_assert!(offset_of!(TurnLine, value) == 56);
const_assert!(size_of::<TurnLine>() == LINE_BYTES);
const_assert!(size_of::<TurnPage>() as u64 == PAGE_BYTES);
const_assert!(map::TURN_PAGE.end - map::TURN_PAGE.start == PAGE_BYTES);

#[cfg(test)]
mod tests {
    use super::{TurnLine, TurnPage};
    use crate::LINE_BYTES;
    use memoffset::span_of;

    #[test]
    fn hostcall_words_are_on_one_line() {
        let words = span_of!(TurnLine, state..=value);
        assert_eq!(words, 0..LINE_BYTES);
        let line = span_of!(TurnPage, line);
        assert_eq!(line.start / LINE_BYTES, (line.end - 1) / LINE_BYTES);
    }
}
