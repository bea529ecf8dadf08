//! Where the worker's own mappings are, and the module's.

use core::sync::atomic::Ordering::Relaxed;

use linux_raw::called::Failed;
use linux_raw::{Errno, nr};
use vmctx::map::{self, Span};
use vmctx::{Region, RegionFlags};

use crate::boot::host_page;

/// The regions that the host page lists.
pub(super) fn regions() -> Result<&'static [Region], Failed> {
    let page = host_page();
    let count = usize::try_from(page.region_count.load(Relaxed)).unwrap_or(usize::MAX);
    page.regions
        .get(..count)
        .ok_or(Failed(nr::MMAP, Errno::EOVERFLOW))
}

/// Where a region is.
///
/// The host has checked all this; a worker that trusts nobody checks what would open a hole.
pub(super) fn span(region: &Region) -> Result<Span, Failed> {
    let start = region.address.load(Relaxed);
    let end = start
        .checked_add(region.length.load(Relaxed))
        .ok_or(Failed(nr::MMAP, Errno::EOVERFLOW))?;
    let span = start..end;
    if !map::holds(&map::GUEST, &span) && !map::holds(&map::CODE_WINDOW, &span) {
        return Err(Failed(nr::MMAP, Errno::EFAULT));
    }
    let flags = RegionFlags::from_bits_retain(region.flags.load(Relaxed));
    if flags.contains(RegionFlags::WRITE | RegionFlags::EXECUTE) {
        return Err(Failed(nr::MMAP, Errno::EACCES));
    }
    Ok(span)
}
