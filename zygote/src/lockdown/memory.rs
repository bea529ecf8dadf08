#![expect(unsafe_code, reason = "maps and unmaps at fixed addresses")]
//! The worker's address space: the module's regions, the alternate stack, and nothing else; and
//! that for good.

use core::sync::atomic::Ordering::Relaxed;

use linux_raw::called::{Called as _, Failed};
use linux_raw::mm::{self, Prot};
use linux_raw::{Errno, nr, prctl};
use vmctx::map::Span;
use vmctx::{Layer, Options, Region, RegionFlags, map};

use super::lacking::has;
use super::mapped::{regions, span};
use super::{Files, Wall, Who};
use crate::address;
use crate::boot::{fixed, replacing};

/// Memory that is not executable never becomes so.
pub(super) fn deny_write_execute(wall: &mut Wall) -> Result<(), Failed> {
    if wall.does_without(Layer::DenyWriteExecute) {
        return Ok(());
    }
    let (set, is_set) = (prctl::set_mdwe(), prctl::get_mdwe());
    if has(set, is_set, Errno::EINVAL).called(nr::PRCTL)? {
        wall.up(Layer::DenyWriteExecute);
    } else {
        wall.absent(Layer::DenyWriteExecute, Errno::EINVAL);
    }
    Ok(())
}

/// Maps every region of the host page.
pub(super) fn map_regions(wall: &mut Wall) -> Result<(), Failed> {
    let paged = wall.has(Options::PAGED);
    if paged {
        let both = Prot::READ | Prot::WRITE;
        fixed(&map::GUEST, both, wall.files.memory, map::GUEST.start).called(nr::MMAP)?;
    }
    for region in regions()? {
        map_region(region, &wall.files, paged)?;
    }
    Ok(())
}

fn map_region(region: &Region, files: &Files, paged: bool) -> Result<(), Failed> {
    let flags = RegionFlags::from_bits_retain(region.flags.load(Relaxed));
    let fd = if flags.contains(RegionFlags::MODULE) {
        files.module
    } else if flags.contains(RegionFlags::CODE) {
        files.code
    } else {
        files.memory
    };
    let span = span(region)?;
    let offset = region.offset.load(Relaxed);
    let in_the_way = paged && map::holds(&map::GUEST, &span);
    let put = if in_the_way { replacing } else { fixed };
    put(&span, protection(flags), fd, offset).called(nr::MMAP)
}

fn protection(flags: RegionFlags) -> Prot {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, flags.contains(RegionFlags::READ));
    prot.set(Prot::WRITE, flags.contains(RegionFlags::WRITE));
    prot.set(Prot::EXEC, flags.contains(RegionFlags::EXECUTE));
    prot
}

/// Unmaps what the kernel mapped for a new process: its stack, the vdso and the vdso's data, all
/// above the last of our regions, whatever the randomisation; and the first page, which a host with
/// the personality `MMAP_PAGE_ZERO` hands down. A nursery's workers get nothing of it that way, nor
/// what is the nursery's own.
pub(super) fn unmap_the_rest() -> Result<(), Failed> {
    unmap(&(0..map::GUEST.start))?;
    unmap(&(map::CODE_WINDOW.end..map::USER_END))
}

fn unmap(span: &Span) -> Result<(), Failed> {
    // SAFETY: nothing of ours lies there: we run on our own stack, and have read what we need of
    // the initial one, or of the nursery's.
    unsafe { mm::munmap(address::of(span.start), address::length(span)) }.called(nr::MUNMAP)
}

/// Seals every mapping: none can be unmapped, moved or protected anew. A nursery's workers inherit
/// the image with its seal, and seal the rest.
pub(super) fn seal(wall: &mut Wall) -> Result<(), Failed> {
    if wall.who != Who::Nursed {
        seal_image(wall)?;
    }
    if wall.who == Who::Nursery || !wall.layers.has(Layer::Mseal) {
        return Ok(());
    }
    seal_span(&(map::SHARED.start..map::HOST_PAGE.end)).called(nr::MSEAL)?;
    if wall.has(Options::PAGED) {
        seal_span(&map::GUEST).called(nr::MSEAL)?;
    }
    for region in regions()? {
        seal_span(&span(region)?).called(nr::MSEAL)?;
    }
    Ok(())
}

/// Seals the image, and notes whether the kernel can.
fn seal_image(wall: &mut Wall) -> Result<(), Failed> {
    if wall.does_without(Layer::Mseal) {
        return Ok(());
    }
    let (first, second) = (seal_span(&image()), seal_span(&image()));
    if has(first, second.map(|()| true), Errno::ENOSYS).called(nr::MSEAL)? {
        wall.up(Layer::Mseal);
    } else {
        wall.absent(Layer::Mseal, Errno::ENOSYS);
    }
    Ok(())
}

fn seal_span(span: &Span) -> Result<(), Errno> {
    mm::mseal(address::of(span.start), address::length(span))
}

/// The image as the kernel mapped it: whole pages from its start to the end that `link.ld` names.
fn image() -> Span {
    unsafe extern "C" {
        static __image_end: u8;
    }
    let end = (&raw const __image_end).addr() as u64;
    map::IMAGE.start..end.next_multiple_of(vmctx::PAGE_BYTES)
}
