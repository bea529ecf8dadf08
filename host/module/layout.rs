//! Where a module's parts lie: a decision about values, nothing is mapped here.

use std::ops::Range;

use vmctx::host_page::REGIONS_MAX;
use vmctx::map::{self, Span};
use vmctx::{PAGE_BYTES, RegionFlags};

use super::Part;
use crate::error::{Misuse, RegionFault};
use crate::interrupt::Access;
use crate::memory::{Page, Table};

/// Up to how many bytes of a region's contents are in an instance's memory from the start. Where
/// there are more, each page is copied when the guest first touches it.
const EAGER_BYTES: u64 = 64 * 1024;

/// What a guest may do with its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protection {
    /// Nothing: a touch is a trap. The contents are kept.
    None,
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
}

/// What a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Code,
    /// Room for code that the host writes later.
    CodeWindow,
    Data(Protection),
    /// A touch is a trap.
    Guard,
    /// Room for a heap.
    Heap,
}

/// What is behind a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The module's sealed memfd, from this byte on; all instances share it.
    Module { offset: u64 },
    /// The instance's own memory, whose file offsets are guest addresses. It begins as a copy of
    /// `initial` bytes of the module's memfd from `offset` on, and zeros.
    Memory { offset: u64, initial: u64 },
    /// The instance's own code.
    Code,
    /// The instance's own memory, once the heap has grown so far.
    Heap,
    /// Nothing at all.
    Nothing,
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
            Source::Code => self.flags | RegionFlags::CODE,
            Source::Memory { .. } | Source::Heap | Source::Nothing => self.flags,
        }
    }

    /// Where it begins in the descriptor behind it.
    pub(crate) fn worker_offset(&self) -> u64 {
        match self.source {
            Source::Module { offset } => offset,
            Source::Code => 0,
            Source::Memory { .. } | Source::Heap | Source::Nothing => self.span.start,
        }
    }

    /// Whether the worker maps it when it starts, and for good. Where the host pages, guest memory
    /// is the host's affair.
    pub(crate) fn is_workers(&self, paged: bool) -> bool {
        match self.source {
            Source::Module { .. } | Source::Code => true,
            Source::Memory { .. } | Source::Heap => !paged,
            Source::Nothing => false,
        }
    }
}

/// Every region of a module, in ascending order.
pub(super) struct Layout {
    regions: Vec<MappedRegion>,
    file_bytes: u64,
    /// Whether the host decides what is in guest memory, or the worker maps it once.
    paged: bool,
}

impl Layout {
    /// Checks the parts and gives each its place in the module's memfd.
    pub(super) fn new(parts: &[Part], memory_limit: u64, paged: bool) -> Result<Self, Misuse> {
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
            paged,
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

    /// What an instance has from the start, or could have for good.
    pub(super) fn bytes(&self) -> u64 {
        self.regions
            .iter()
            .filter(|region| match region.source {
                Source::Heap => !self.paged,
                Source::Nothing => false,
                Source::Module { .. } | Source::Memory { .. } | Source::Code => true,
            })
            .map(|region| region.span.end - region.span.start)
            .sum()
    }

    pub(super) fn is_paged(&self) -> bool {
        self.paged
    }

    /// The map that an instance begins with.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new();
        for region in &self.regions {
            let Some(pages) = guest_pages(&region.span) else {
                continue; // the code window is not among the guest's pages
            };
            let rights = rights(region);
            let native = !self.paged || rights.contains(Page::WRITE);
            let how = match region.source {
                Source::Module { .. } => Page::FIXED,
                Source::Memory { .. } if native => Page::NATIVE,
                Source::Memory { .. } => Page::empty(),
                Source::Heap if !self.paged => Page::NATIVE,
                Source::Code => continue,
                // Nothing else gets in the way of a heap that has yet to grow.
                Source::Heap | Source::Nothing => {
                    table.set(pages, Page::GUARD);
                    continue;
                }
            };
            table.set(pages.clone(), rights | how);
            if let Source::Memory { initial, .. } = region.source
                && self.paged
                && initial > EAGER_BYTES
            {
                let initial = u32::try_from(initial / PAGE_BYTES).unwrap_or(u32::MAX);
                let lazy = pages.start..pages.start.saturating_add(initial).min(pages.end);
                table.set(lazy, rights | Page::LAZY);
            }
        }
        table
    }

    /// The length of the module's memfd.
    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Each region with contents: its part's number and where they go in the memfd.
    pub(super) fn placements(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.regions
            .iter()
            .filter_map(|region| match region.source {
                Source::Module { offset } | Source::Memory { offset, .. } => {
                    Some((region.part, offset))
                }
                Source::Code | Source::Heap | Source::Nothing => None,
            })
    }
}

fn region(part: &Part, index: usize, span: Span, offset: u64, initial: u64) -> MappedRegion {
    let read = RegionFlags::READ;
    let whole = initial == span.end - span.start;
    let memory = Source::Memory { offset, initial };
    let (flags, source) = match part.protection {
        Kind::Code => (read | RegionFlags::EXECUTE, Source::Module { offset }),
        Kind::CodeWindow => (read | RegionFlags::EXECUTE, Source::Code),
        Kind::Data(Protection::None) => (RegionFlags::empty(), memory),
        Kind::Data(Protection::Read) if whole => (read, Source::Module { offset }),
        Kind::Data(Protection::Read) => (read, memory),
        Kind::Data(Protection::ReadWrite) => (read | RegionFlags::WRITE, memory),
        Kind::Heap => (read | RegionFlags::WRITE, Source::Heap),
        Kind::Guard => (RegionFlags::empty(), Source::Nothing),
    };
    MappedRegion {
        span,
        flags,
        source,
        part: index,
    }
}

/// The pages of a region, if it is among the guest's own addresses.
fn guest_pages(span: &Span) -> Option<Range<u32>> {
    let page = |address: u64| u32::try_from(address / PAGE_BYTES).ok();
    map::holds(&map::GUEST, span).then_some(page(span.start)?..page(span.end)?)
}

fn rights(region: &MappedRegion) -> Page {
    let mut rights = Page::empty();
    rights.set(Page::READ, region.allows(Access::Read));
    rights.set(Page::WRITE, region.allows(Access::Write));
    rights.set(Page::EXECUTE, region.allows(Access::Execute));
    let hidden = rights.is_empty() && region.source != Source::Nothing;
    rights.set(Page::HIDDEN, hidden);
    rights
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
    let among_data = part.protection != Kind::CodeWindow && map::holds(&map::GUEST, &span);
    let is_code = matches!(part.protection, Kind::Code | Kind::CodeWindow);
    let inside = among_data || (is_code && map::holds(&map::CODE_WINDOW, &span));
    match part.protection {
        _ if inside => Ok(span),
        Kind::CodeWindow => refuse(RegionFault::OutsideCodeWindow),
        _ => refuse(RegionFault::Outside),
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
        let layout = Layout::new(&parts, u64::MAX, true).unwrap();
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
        let refused = |part: Part| match Layout::new(&[part], u64::MAX, true) {
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
            Layout::new(&pair, u64::MAX, true),
            Err(Misuse::Overlap(0x1_1000))
        ));
        let large = [data(0x1_0000, 0x1_0000)];
        assert!(matches!(
            Layout::new(&large, 0xffff, true),
            Err(Misuse::MemoryLimit { .. })
        ));
        let many: Vec<_> = (0..65).map(|at| data(0x1_0000 + at * 0x1000, 1)).collect();
        assert!(matches!(
            Layout::new(&many, u64::MAX, true),
            Err(Misuse::TooManyRegions(65))
        ));
    }
}
