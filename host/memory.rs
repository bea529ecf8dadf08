//! Guest memory as the host sees it: copies, checked against what the guest itself may do.

use std::sync::Arc;

use linux_raw::fd::OwnedFd;
use vmctx::map;

use crate::error::{Error, Misuse, Stage};
use crate::interrupt::Access;
use crate::lineage::Lineage;
use crate::mapping::{Mapping, Sharing};
use crate::memfd;
use crate::module::{MappedRegion, Module, Source};

/// An instance's memory: a sparse memfd whose file offsets are guest addresses.
pub(crate) struct Memory {
    module: Module,
    mapping: Mapping,
}

impl Memory {
    /// Makes the memory of an instance of `module`, with its initial contents, and the
    /// descriptor that the worker maps it from.
    pub(crate) fn new(module: &Module, lineage: &Arc<Lineage>) -> Result<(Self, OwnedFd), Error> {
        let stage = Stage::Start;
        let fd = memfd::writable(c"cellwall-memory", map::GUEST.end, stage)?;
        let mapping = Mapping::new(&fd, map::GUEST.end, Sharing::ReadWrite, stage, lineage)?;
        let memory = Self {
            module: module.clone(),
            mapping,
        };
        memory.fill();
        Ok((memory, fd))
    }

    fn fill(&self) {
        let image = self.module.image().mapping();
        for region in self.module.regions() {
            if let Source::Memory { offset, initial } = region.source {
                self.mapping
                    .copy_from(region.span.start, image, offset, initial);
            }
        }
    }

    /// Copies guest memory out.
    pub(crate) fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        let length = into.len() as u64;
        let mut rest = into;
        let fits = |region: &MappedRegion| region.allows(Access::Read);
        self.each_piece(
            address,
            length,
            fits,
            Access::Read,
            |source, offset, bytes| {
                let (piece, after) = std::mem::take(&mut rest).split_at_mut(bytes);
                match source {
                    Source::Module { .. } => self.module.image().mapping().read(offset, piece),
                    Source::Memory { .. } => self.mapping.read(offset, piece),
                }
                rest = after;
            },
        )
    }

    /// Copies into guest memory.
    pub(crate) fn write(&self, address: u64, from: &[u8]) -> Result<(), Error> {
        self.copy_in(address, from, |region| region.allows(Access::Write))
    }

    /// Writes where the guest may only read: what the host puts there before the guest runs.
    pub(crate) fn write_as_host(&self, address: u64, from: &[u8]) -> Result<(), Error> {
        self.copy_in(address, from, |region| {
            matches!(region.source, Source::Memory { .. })
        })
    }

    fn copy_in(
        &self,
        address: u64,
        from: &[u8],
        fits: impl Fn(&MappedRegion) -> bool,
    ) -> Result<(), Error> {
        let mut rest = from;
        self.each_piece(
            address,
            from.len() as u64,
            fits,
            Access::Write,
            |_, offset, bytes| {
                let (piece, after) = rest.split_at(bytes);
                self.mapping.write(offset, piece);
                rest = after;
            },
        )
    }

    /// Whether the guest itself could do this to all of the range. Nothing is touched.
    pub(crate) fn allows(&self, address: u64, length: u64, access: Access) -> bool {
        let fits = |region: &MappedRegion| region.allows(access);
        self.touched(address, length, fits).is_some()
    }

    /// Checks that `fits` holds for the whole range first, then calls `act` with what is behind
    /// each piece of it, where the piece begins there, and how long it is.
    fn each_piece(
        &self,
        address: u64,
        length: u64,
        fits: impl Fn(&MappedRegion) -> bool,
        access: Access,
        mut act: impl FnMut(Source, u64, usize),
    ) -> Result<(), Error> {
        let Some(regions) = self.touched(address, length, fits) else {
            let misuse = Misuse::OutOfBounds {
                address,
                length,
                access,
            };
            return Err(Error::misuse(Stage::Memory, misuse));
        };
        let end = address.saturating_add(length);
        for region in regions {
            let from = region.span.start.max(address);
            let bytes = region.span.end.min(end) - from;
            let offset = from - region.span.start + region.worker_offset();
            act(
                region.source,
                offset,
                usize::try_from(bytes).unwrap_or(usize::MAX),
            );
        }
        Ok(())
    }

    /// The regions that a range touches, if they fill all of it and `fits` holds for each.
    fn touched(
        &self,
        address: u64,
        length: u64,
        fits: impl Fn(&MappedRegion) -> bool,
    ) -> Option<&[MappedRegion]> {
        if length == 0 {
            return Some(&[]); // nothing of nothing is out of bounds, wherever it is
        }
        let end = address.checked_add(length)?;
        let regions = self.module.regions();
        let first = regions.partition_point(|region| region.span.end <= address);
        let last = regions.partition_point(|region| region.span.start < end);
        let touched = regions.get(first..last)?;
        let mut reached = address;
        for region in touched {
            if region.span.start > reached || !fits(region) {
                return None;
            }
            reached = region.span.end.min(end);
        }
        (reached >= end).then_some(touched)
    }
}
