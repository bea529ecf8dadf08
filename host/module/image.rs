//! The module's sealed memfd: what its instances share.

use std::sync::Arc;

use linux_raw::fd::OwnedFd;
use vmctx::PAGE_BYTES;

use super::Part;
use super::layout::{Kind, Layout};
use crate::error::{Error, Stage};
use crate::lineage::Lineage;
use crate::mapping::{Mapping, Sharing};
use crate::memfd;
use crate::memory::PAGE_LENGTH;

/// The byte that fills the rest of a page of code: `int3`, a trap.
const HOLE: u8 = 0xcc;

/// The contents of a module, read-only for everybody, the host included.
pub(crate) struct Image {
    fd: OwnedFd,
    mapping: Mapping,
}

impl Image {
    pub(super) fn new(
        layout: &Layout,
        parts: &[Part],
        lineage: &Arc<Lineage>,
    ) -> Result<Self, Error> {
        // A module always has code, so the file is never empty.
        let bytes = layout.file_bytes();
        let writable = memfd::unsealed(c"cellwall-module", bytes, Stage::Module)?;
        for (part, offset) in layout.placements() {
            let Some(part) = parts.get(part) else {
                continue;
            };
            memfd::write_all(&writable, &part.contents, offset, Stage::Module)?;
            if part.protection == Kind::Code {
                let end = part.contents.len() as u64;
                let hole = end.next_multiple_of(PAGE_BYTES) - end;
                let holes = &HOLES[..usize::try_from(hole).unwrap_or(0)];
                memfd::write_all(&writable, holes, offset + end, Stage::Module)?;
            }
        }
        let fd = memfd::freeze(&writable, Stage::Module)?;
        let mapping = Mapping::new(&fd, bytes, Sharing::ReadOnly, Stage::Module, lineage)?;
        Ok(Self { fd, mapping })
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }
}

static HOLES: [u8; PAGE_LENGTH] = [HOLE; PAGE_LENGTH];
