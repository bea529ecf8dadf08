#![expect(unsafe_code, reason = "maps memory at fixed addresses")]
//! The first steps: the shared pages, a stack of our own among them, and what only a nursery has.

use core::sync::atomic::Ordering;

use linux_raw::auxv::{InitialStack, hwcap2, key};
use linux_raw::fd::{BorrowedFd, RawFd};
use linux_raw::mm::{self, Backing, MapFlags, Placement, Prot};
use linux_raw::process::exit_group;
use linux_raw::{Errno, nr};
use vmctx::{HostPage, LayerSet, Options, Step, VERSION, map, slots};

use crate::address;
use crate::last_words::{begin, die, guest_page};

/// Maps what the rest of the start needs and gives the largest signal frame in bytes, as the
/// kernel said it (`AT_MINSIGSTKSZ`, since Linux 5.14), or 0 where it does not.
///
/// # Safety
///
/// `stack` is the stack pointer that the kernel entered the process with.
pub(crate) unsafe extern "C" fn boot(stack: *const usize) -> usize {
    map_pages();
    if Options::from_bits_retain(host_page().options.load(Ordering::Relaxed))
        .contains(Options::NURSERY)
    {
        begin(Step::Stack);
        if let Err(errno) = map_nursery() {
            die(Step::Stack, nr::MMAP, errno)
        }
    }
    // SAFETY: the caller says so.
    let stack = unsafe { InitialStack::new(stack) };
    let has = stack.value(key::HWCAP2).unwrap_or(0) & hwcap2::FSGSBASE;
    guest_page()
        .segment_bases
        .store(u32::from(has != 0), Ordering::Relaxed);
    usize::try_from(stack.value(key::MINSIGSTKSZ).unwrap_or(0)).unwrap_or(usize::MAX)
}

/// Maps the pages that the process shares with the host, its stacks among them. A nursery's worker
/// does so in `entry::start_worker`.
fn map_pages() {
    let both = Prot::READ | Prot::WRITE;
    let mapped = fixed(&map::HOST_PAGE, Prot::READ, slots::HOST_PAGE, 0)
        .and_then(|()| fixed(&map::SHARED, both, slots::SHARED_PAGES, 0));
    if mapped.is_err() {
        // There is no page yet to report to: the exit status says where.
        exit_group(Step::SharedPages as i32)
    }
    check_pages();
}

/// The pages are mapped: from now on there is one to report to.
pub(crate) fn check_pages() {
    begin(Step::SharedPages);
    if host_page().version.load(Ordering::Relaxed) != VERSION {
        die(Step::SharedPages, nr::MMAP, Errno::EPROTO)
    }
}

/// The layers that the host does without, though the kernel may have them.
///
/// No word of the host's takes away a must, forged or not: a set with anything else than what a
/// kernel may lack ends the start; the steps of other layers never ask for it; and without each
/// must in the report the host lets no guest run. A guest cannot forge it at all: it is read once,
/// before there is one, from a page that a worker cannot write.
pub(crate) fn without() -> LayerSet {
    let without = LayerSet::from_raw(host_page().without.load(Ordering::Relaxed));
    if !without.is_within(LayerSet::MAY) {
        die(Step::SharedPages, nr::MMAP, Errno::EBADMSG)
    }
    without
}

/// What only a nursery has: the ring, and a stack that the host does not see.
fn map_nursery() -> Result<(), Errno> {
    let both = Prot::READ | Prot::WRITE;
    fixed(&map::RING, both, slots::nursery::RING, 0)?;
    let stack = Placement::FixedNoReplace(address::of(map::NURSERY_STACK.start));
    let bytes = address::length(&map::NURSERY_STACK);
    // SAFETY: nothing is there, or the call fails.
    unsafe { mm::mmap(stack, bytes, both, Backing::Anonymous, MapFlags::empty()) }?;
    Ok(())
}

/// The host page, once `boot` has mapped it.
pub(crate) fn host_page() -> &'static HostPage {
    // SAFETY: `boot` maps the page, shared and readable, before anything calls this, and it stays
    // mapped for the life of the process. All of its words are atomics and are only loaded.
    unsafe { &*core::ptr::with_exposed_provenance::<HostPage>(address::of(map::HOST_PAGE.start)) }
}

/// Maps `span`, where nothing is, shared from the descriptor `fd`, from the byte `offset` on.
pub(crate) fn fixed(span: &map::Span, prot: Prot, fd: RawFd, offset: u64) -> Result<(), Errno> {
    let free = Placement::FixedNoReplace(address::of(span.start));
    map_at(free, address::length(span), prot, fd, offset)
}

/// The same, in the place of what is there: guest memory.
pub(crate) fn replacing(span: &map::Span, prot: Prot, fd: RawFd, offset: u64) -> Result<(), Errno> {
    let place = Placement::Fixed(address::of(span.start));
    map_at(place, address::length(span), prot, fd, offset)
}

fn map_at(place: Placement, bytes: usize, prot: Prot, fd: RawFd, offset: u64) -> Result<(), Errno> {
    // SAFETY: the host has seen to it that the descriptor is open until the step that closes all of
    // them; this borrow ends with the call.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let backing = Backing::Shared { fd, offset };
    // SAFETY: either nothing is there, or the call fails; or it is guest memory, of which this
    // program knows no object.
    unsafe { mm::mmap(place, bytes, prot, backing, MapFlags::NORESERVE) }?;
    Ok(())
}
