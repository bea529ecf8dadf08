#![expect(unsafe_code, reason = "maps and unmaps at fixed addresses")]
//! The worker's address space: the module's regions, the alternate stack, and nothing else.

use core::sync::atomic::Ordering::Relaxed;

use linux_raw::Errno;
use linux_raw::mm::{self, Backing, MapFlags, Placement, Prot};
use vmctx::{Region, RegionFlags, map, slots};

use crate::address;
use crate::boot::{fixed, host_page};

/// Maps every region of the host page, and the stack for signal frames.
pub(crate) fn map_regions() -> Result<(), Errno> {
    let page = host_page();
    let count = usize::try_from(page.region_count.load(Relaxed)).unwrap_or(usize::MAX);
    for region in page.regions.get(..count).ok_or(Errno::EOVERFLOW)? {
        map_region(region)?;
    }
    // SAFETY: nothing is mapped there, or the call fails.
    unsafe {
        mm::mmap(
            Placement::FixedNoReplace(address::of(map::ALT_STACK.start)),
            address::length(&map::ALT_STACK),
            Prot::READ | Prot::WRITE,
            Backing::Anonymous,
            MapFlags::empty(),
        )
    }?;
    Ok(())
}

fn map_region(region: &Region) -> Result<(), Errno> {
    let start = region.address.load(Relaxed);
    let end = start
        .checked_add(region.length.load(Relaxed))
        .ok_or(Errno::EOVERFLOW)?;
    let span = start..end;
    let flags = RegionFlags::from_raw(region.flags.load(Relaxed));
    // The host has checked all this; a worker that trusts nobody checks what would open a hole.
    if !map::holds(&map::GUEST, &span) && !map::holds(&map::CODE_WINDOW, &span) {
        return Err(Errno::EFAULT);
    }
    if flags.has(RegionFlags::WRITE) && flags.has(RegionFlags::EXECUTE) {
        return Err(Errno::EACCES);
    }
    let slot = if flags.has(RegionFlags::MODULE) {
        slots::MODULE
    } else {
        slots::MEMORY
    };
    fixed(&span, protection(flags), slot, region.offset.load(Relaxed))
}

fn protection(flags: RegionFlags) -> Prot {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, flags.has(RegionFlags::READ));
    prot.set(Prot::WRITE, flags.has(RegionFlags::WRITE));
    prot.set(Prot::EXEC, flags.has(RegionFlags::EXECUTE));
    prot
}

/// Unmaps what the kernel mapped for a new process: its stack, the vdso and the vdso's data, all
/// above the last of our regions, whatever the randomisation; and the first page, which a host with
/// the personality `MMAP_PAGE_ZERO` hands down.
pub(crate) fn unmap_the_rest() -> Result<(), Errno> {
    // SAFETY: nothing of ours lies below the guest's addresses.
    unsafe { mm::munmap(0, address::of(map::GUEST.start)) }?;
    let start = map::CODE_WINDOW.end;
    // SAFETY: we run on our own stack below that range and have read what we need of the
    // initial one.
    unsafe { mm::munmap(address::of(start), address::of(map::USER_END - start)) }
}
