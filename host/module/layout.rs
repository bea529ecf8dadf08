//! Where a module's parts lie: a decision about values, nothing is mapped here.

use vmctx::host_page::REGIONS_MAX;
use vmctx::map::{self, Span};
use vmctx::{PAGE_BYTES, RegionFlags};

use super::Part;
use crate::error::{Misuse, RegionFault};
use crate::interrupt::Access;

/// What a guest may do with a data region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protection {
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
}

/// What a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Code,
    Data(Protection),
}

/// What is behind a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The module's sealed memfd, from this byte on; all instances share it.
    Module { offset: u64 },
    /// The instance's own memory, whose file offsets are guest addresses. It begins as a copy of
    /// `initial` bytes of the module's memfd from `offset` on, and zeros.
    Memory { offset: u64, initial: u64 },
}

/// One region, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MappedRegion {
    pub(crate) span: Span,
    pub(crate) flags: RegionFlags,
    pub(crate) source: Source,
    /// Which part of the builder it came from.
    part: usize,
}

impl MappedRegion {
    /// Whether the guest itself may do this here.
    pub(crate) fn allows(&self, access: Access) -> bool {
        self.flags.contains(match access {
            Access::Read => RegionFlags::READ,
            Access::Write => RegionFlags::WRITE,
            Access::Execute => RegionFlags::EXECUTE,
        })
    }

    /// The bits for the worker: protection and source.
    pub(crate) fn worker_flags(&self) -> RegionFlags {
        match self.source {
            Source::Module { .. } => self.flags | RegionFlags::MODULE,
            Source::Memory { .. } => self.flags,
        }
    }

    /// Where it begins in the descriptor behind it.
    pub(crate) fn worker_offset(&self) -> u64 {
        match self.source {
            Source::Module { offset } => offset,
            Source::Memory { .. } => self.span.start,
        }
    }
}

/// Every region of a module, in ascending order.
pub(super) struct Layout {
    regions: Vec<MappedRegion>,
    file_bytes: u64,
}

impl Layout {
    /// Checks the parts and gives each its place in the module's memfd.
    pub(super) fn new(parts: &[Part], memory_limit: u64) -> Result<Self, Misuse> {
        if parts.len() > REGIONS_MAX {
            return Err(Misuse::TooManyRegions(parts.len()));
        }
        let mut file_bytes = 0;
        let mut regions = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            let span = checked_span(part)?;
            let initial = pages(part.contents.len() as u64);
            regions.push(region(part, index, span, file_bytes, initial));
            // No part is larger than the guest's addresses and there are few of them.
            file_bytes += initial;
        }
        regions.sort_by_key(|region| region.span.start);
        for pair in regions.windows(2) {
            if let [low, high] = pair
                && high.span.start < low.span.end
            {
                return Err(Misuse::Overlap(high.span.start));
            }
        }
        let layout = Self {
            regions,
            file_bytes,
        };
        if layout.bytes() > memory_limit {
            return Err(Misuse::MemoryLimit {
                bytes: layout.bytes(),
                limit: memory_limit,
            });
        }
        Ok(layout)
    }

    pub(super) fn regions(&self) -> &[MappedRegion] {
        &self.regions
    }

    pub(super) fn code(&self) -> impl Iterator<Item = Span> + '_ {
        self.regions
            .iter()
            .filter(|region| region.flags.contains(RegionFlags::EXECUTE))
            .map(|region| region.span.clone())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.regions
            .iter()
            .map(|region| region.span.end - region.span.start)
            .sum()
    }

    /// The length of the module's memfd.
    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Each region with contents: its part's number and where they go in the memfd.
    pub(super) fn placements(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.regions.iter().map(|region| match region.source {
            Source::Module { offset } | Source::Memory { offset, .. } => (region.part, offset),
        })
    }
}

fn region(part: &Part, index: usize, span: Span, offset: u64, initial: u64) -> MappedRegion {
    let read = RegionFlags::READ;
    let whole = initial == span.end - span.start;
    let (flags, source) = match part.protection {
        Kind::Code => (read | RegionFlags::EXECUTE, Source::Module { offset }),
        Kind::Data(Protection::Read) if whole => (read, Source::Module { offset }),
        Kind::Data(Protection::Read) => (read, Source::Memory { offset, initial }),
        Kind::Data(Protection::ReadWrite) => (
            read | RegionFlags::WRITE,
            Source::Memory { offset, initial },
        ),
    };
    MappedRegion {
        span,
        flags,
        source,
        part: index,
    }
}

/// The whole pages of a part, inside the addresses that a guest may have.
fn checked_span(part: &Part) -> Result<Span, Misuse> {
    let start = part.address;
    let end = start.saturating_add(part.length);
    let refuse = |fault| Err(Misuse::Region { start, end, fault });
    if part.length == 0 {
        return refuse(RegionFault::Empty);
    }
    if !start.is_multiple_of(PAGE_BYTES) {
        return refuse(RegionFault::Unaligned);
    }
    let Some(end) = end.checked_next_multiple_of(PAGE_BYTES) else {
        return refuse(RegionFault::Wraps);
    };
    let span = start..end;
    let inside = map::holds(&map::GUEST, &span)
        || (part.protection == Kind::Code && map::holds(&map::CODE_WINDOW, &span));
    if inside {
        Ok(span)
    } else {
        refuse(RegionFault::Outside)
    }
}

/// `bytes` rounded up to whole pages. Contents are in memory: they are far from the end of u64.
fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::{Kind, Layout, Part, Protection, Source};
    use crate::error::{Misuse, RegionFault};
    use vmctx::map;

    fn part(address: u64, length: u64, protection: Kind, contents: &[u8]) -> Part {
        Part {
            address,
            length,
            protection,
            contents: contents.to_vec(),
        }
    }

    fn data(address: u64, length: u64) -> Part {
        part(address, length, Kind::Data(Protection::ReadWrite), &[])
    }

    #[test]
    fn regions_are_sorted_and_backed() {
        let parts = [
            part(map::CODE_WINDOW.start, 3, Kind::Code, &[1, 2, 3]),
            data(0x3_0000, 0x2000),
            part(0x1_0000, 2, Kind::Data(Protection::Read), b"ab"),
            part(0x5_0000, 0x3000, Kind::Data(Protection::Read), b"ab"),
        ];
        let layout = Layout::new(&parts, u64::MAX).unwrap();
        let starts: Vec<_> = layout
            .regions()
            .iter()
            .map(|region| region.span.start)
            .collect();
        assert_eq!(
            starts,
            [0x1_0000, 0x3_0000, 0x5_0000, map::CODE_WINDOW.start]
        );
        assert_eq!(
            layout.regions()[0].source,
            Source::Module { offset: 0x1000 }
        );
        assert_eq!(
            layout.regions()[1].source,
            Source::Memory {
                offset: 0x1000,
                initial: 0
            }
        );
        assert_eq!(
            layout.regions()[2].source,
            Source::Memory {
                offset: 0x2000,
                initial: 0x1000
            }
        );
        assert_eq!(layout.regions()[3].source, Source::Module { offset: 0 });
        assert_eq!(layout.bytes(), 0x1000 + 0x2000 + 0x3000 + 0x1000);
    }

    #[test]
    fn refuses_what_cannot_be_mapped() {
        let refused = |part: Part| match Layout::new(&[part], u64::MAX) {
            Err(Misuse::Region { fault, .. }) => fault,
            other => panic!("accepted or refused otherwise: {:?}", other.err()),
        };
        assert_eq!(refused(data(0x1_0000, 0)), RegionFault::Empty);
        assert_eq!(refused(data(0x1_0001, 1)), RegionFault::Unaligned);
        assert_eq!(refused(data(0xf000, 1)), RegionFault::Outside);
        assert_eq!(refused(data(0xffff_f000, 0x2000)), RegionFault::Outside);
        assert_eq!(
            refused(data(map::CODE_WINDOW.start, 1)),
            RegionFault::Outside
        );
        assert_eq!(refused(data(map::IMAGE.start, 1)), RegionFault::Outside);
        assert_eq!(refused(data(u64::MAX - 0xfff, 1)), RegionFault::Wraps);
        assert_eq!(refused(data(0x1_0000, u64::MAX)), RegionFault::Wraps);
    }

    #[test]
    fn refuses_overlap_and_excess() {
        let pair = [data(0x1_0000, 0x2000), data(0x1_1000, 0x1000)];
        assert!(matches!(
            Layout::new(&pair, u64::MAX),
            Err(Misuse::Overlap(0x1_1000))
        ));
        let large = [data(0x1_0000, 0x1_0000)];
        assert!(matches!(
            Layout::new(&large, 0xffff),
            Err(Misuse::MemoryLimit { .. })
        ));
        let many: Vec<_> = (0..65).map(|at| data(0x1_0000 + at * 0x1000, 1)).collect();
        assert!(matches!(
            Layout::new(&many, u64::MAX),
            Err(Misuse::TooManyRegions(65))
        ));
    }
}
