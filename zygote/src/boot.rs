#![expect(unsafe_code, reason = "maps memory at fixed addresses")]
//! The first steps, on the kernel's stack: the shared pages and a stack of our own.

use core::sync::atomic::Ordering;

use linux_raw::auxv::{InitialStack, key};
use linux_raw::fd::BorrowedFd;
use linux_raw::mm::{self, Backing, MapFlags, Placement, Prot};
use linux_raw::process::exit_group;
use linux_raw::{Errno, nr};
use vmctx::{HostPage, Step, VERSION, map, slots};

use crate::address;
use crate::last_words::{begin, die, guest_page};

/// `HWCAP2_FSGSBASE` (arch/x86/include/uapi/asm/hwcap2.h).
const HWCAP2_FSGSBASE: u64 = 1 << 1;

/// Maps what the rest of the start needs and gives the largest signal frame in bytes, as the
/// kernel said it (`AT_MINSIGSTKSZ`, since Linux 5.14), or 0 where it does not.
///
/// # Safety
///
/// `stack` is the stack pointer that the kernel entered the process with.
pub(crate) unsafe extern "C" fn boot(stack: *const usize) -> usize {
    if map_shared_pages().is_err() {
        // There is no page yet to report to: the exit status says where.
        exit_group(Step::SharedPages as i32)
    }
    begin(Step::SharedPages);
    if host_page().version.load(Ordering::Relaxed) != VERSION {
        die(Step::SharedPages, nr::MMAP, Errno::EPROTO)
    }
    begin(Step::Stack);
    if let Err(errno) = map_shared(STACK) {
        die(Step::Stack, nr::MMAP, errno)
    }
    // SAFETY: the caller says so.
    let stack = unsafe { InitialStack::new(stack) };
    let has = stack.value(key::HWCAP2).unwrap_or(0) & HWCAP2_FSGSBASE;
    guest_page()
        .segment_bases
        .store(u32::from(has != 0), Ordering::Relaxed);
    usize::try_from(stack.value(key::MINSIGSTKSZ).unwrap_or(0)).unwrap_or(usize::MAX)
}

/// The host page, once `boot` has mapped it.
pub(crate) fn host_page() -> &'static HostPage {
    // SAFETY: `boot` maps the page, shared and readable, before anything calls this, and it stays
    // mapped for the life of the process. All of its words are atomics and are only loaded.
    unsafe { &*core::ptr::with_exposed_provenance::<HostPage>(address::of(map::HOST_PAGE.start)) }
}

fn map_shared_pages() -> Result<(), Errno> {
    fixed(&map::HOST_PAGE, Prot::READ, slots::HOST_PAGE, 0)?;
    map_shared(PAGES)
}

/// Which spans of [`map::SHARED`] are mapped when.
const PAGES: usize = 0;
const STACK: usize = 1;
pub(crate) const ALT_STACK: usize = 2;

/// Maps one span of [`map::SHARED`], by its number.
pub(crate) fn map_shared(number: usize) -> Result<(), Errno> {
    let span = map::SHARED.get(number).ok_or(Errno::EINVAL)?;
    let both = Prot::READ | Prot::WRITE;
    fixed(span, both, slots::SHARED_PAGES, map::shared_offset(number))
}

/// Maps `span`, where nothing is, shared from the descriptor in `slot`, from the byte `offset` on.
pub(crate) fn fixed(span: &map::Span, prot: Prot, slot: i32, offset: u64) -> Result<(), Errno> {
    let free = Placement::FixedNoReplace(address::of(span.start));
    map_at(free, address::length(span), prot, slot, offset)
}

/// The same, in the place of what is there: guest memory.
pub(crate) fn replacing(span: &map::Span, prot: Prot, slot: i32, offset: u64) -> Result<(), Errno> {
    let place = Placement::Fixed(address::of(span.start));
    map_at(place, address::length(span), prot, slot, offset)
}

fn map_at(place: Placement, bytes: usize, prot: Prot, slot: i32, offset: u64) -> Result<(), Errno> {
    // SAFETY: the host puts its descriptors into these slots before exec, and they are open until
    // the step that closes all of them; this borrow ends with the call.
    let fd = unsafe { BorrowedFd::borrow_raw(slot) };
    let backing = Backing::Shared { fd, offset };
    // SAFETY: either nothing is there, or the call fails; or it is guest memory, of which this
    // program knows no object.
    unsafe { mm::mmap(place, bytes, prot, backing, MapFlags::NORESERVE) }?;
    Ok(())
}
