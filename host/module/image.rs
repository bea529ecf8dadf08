//! The module's sealed memfd: what its instances share.

use std::sync::Arc;

use linux_raw::fd::OwnedFd;
use linux_raw::io;
use vmctx::PAGE_BYTES;

use super::Part;
use super::layout::{Kind, Layout};
use crate::error::{Error, KernelResult, Stage};
use crate::lineage::Lineage;
use crate::mapping::{Mapping, Sharing};
use crate::memfd;

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
            write_all(&writable, &part.contents, offset)?;
            if part.protection == Kind::Code {
                let end = part.contents.len() as u64;
                let hole = end.next_multiple_of(PAGE_BYTES) - end;
                write_all(
                    &writable,
                    &HOLES[..usize::try_from(hole).unwrap_or(0)],
                    offset + end,
                )?;
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

static HOLES: [u8; 4096] = [HOLE; 4096];

fn write_all(fd: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Error> {
    while !bytes.is_empty() {
        let written = io::pwrite(fd, bytes, offset).at(Stage::Module, "pwrite")?;
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}
