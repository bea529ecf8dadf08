#![expect(unsafe_code, reason = "borrows the descriptor in a slot")]
//! The descriptor by which the host decides what is in guest memory.

use core::sync::atomic::Ordering::Release;

use linux_raw::called::{Called as _, Failed};
use linux_raw::fd::{BorrowedFd, OwnedFd};
use linux_raw::{AsFd as _, Errno, nr, socket, uffd};
use vmctx::{Options, slots};

use super::{Wall, Who};
use crate::last_words::guest_page;

/// Makes a userfaultfd and gives it to the host. Only the process whose memory it is about can make
/// it; this one is left without, or a guest could page for itself.
pub(super) fn hand_over(wall: &mut Wall) -> Result<(), Failed> {
    if !wall.has(Options::PAGED) {
        return Ok(());
    }
    let faults = uffd::userfaultfd().called(nr::USERFAULTFD)?;
    if wall.who == Who::Nursed {
        leave_in_nursery(faults);
        return Ok(());
    }
    // SAFETY: the host puts a socket there if it asks for paging, and it is open until the step
    // that closes every descriptor.
    let host = unsafe { BorrowedFd::borrow_raw(slots::PAGING) };
    match socket::send_fd(host, &[0], Some(faults.as_fd())).called(nr::SENDMSG)? {
        1 => Ok(()),
        _ => Err(Failed(nr::SENDMSG, Errno::EIO)),
    }
}

/// Leaves it open in the table that we still share with the nursery, where the host fetches it.
fn leave_in_nursery(faults: OwnedFd) {
    let number = faults.into_raw().cast_unsigned();
    // Release pairs with the Acquire of the host's `Life::paging`: who sees the number finds it.
    guest_page().paging.store(number + 1, Release);
}
