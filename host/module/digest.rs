//! What tells a module from any other.

use sha2::{Digest as _, Sha256};

use super::{Module, Source};
use crate::memory::PAGE_LENGTH;

/// A SHA-256 of all that a guest finds when it starts.
pub(crate) type Digest = [u8; 32];

/// The digest of a module's map, code and data.
pub(super) fn of(module: &Module) -> Digest {
    let mut hash = Sha256::new();
    let mut word = |value: u64| hash.update(value.to_le_bytes());
    word(module.entry());
    word(module.stack_top());
    let extras = &module.inner.extras;
    word(extras.dynamic_paging.into());
    for span in [
        &extras.heap,
        &extras.input,
        &extras.code_window,
        &extras.entropy,
    ] {
        let span = span.clone().unwrap_or_default();
        word(span.start);
        word(span.end);
    }
    for region in module.regions() {
        word(region.span.start);
        word(region.span.end);
        word(region.flags.bits().into());
        let (kind, offset, initial) = match region.source {
            Source::Module { offset } => (0, offset, 0),
            Source::Memory { offset, initial } => (1, offset, initial),
            Source::Code => (2, 0, 0),
            Source::Heap => (3, 0, 0),
            Source::Nothing => (4, 0, 0),
        };
        word(kind);
        word(offset);
        word(initial);
    }
    let image = module.image().mapping();
    let mut page = [0; PAGE_LENGTH];
    for offset in (0..image.bytes()).step_by(page.len()) {
        image.read(offset, &mut page);
        hash.update(page);
    }
    hash.finalize().into()
}
