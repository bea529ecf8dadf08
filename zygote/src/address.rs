//! From the addresses of `vmctx` to those of this machine.

use vmctx::map::Span;

/// An address as this machine's pointers have it.
#[expect(
    clippy::cast_possible_truncation,
    reason = "linux-raw refuses 32-bit machines"
)]
pub(crate) const fn of(address: u64) -> usize {
    address as usize
}

/// How many bytes a span has.
pub(crate) const fn length(span: &Span) -> usize {
    of(span.end - span.start)
}
