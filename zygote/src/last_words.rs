#![expect(unsafe_code, reason = "the shared page is at a fixed address")]
//! Dying with a reason: the step, the call and the errno for the host, and a few words.

use core::panic::PanicInfo;
use core::sync::atomic::Ordering;

use linux_raw::Errno;
use linux_raw::nr::Nr;
use linux_raw::process::exit_group;
use vmctx::{GuestPage, LayerSet, Step, map};

use crate::address;

/// The guest page, once `boot` has mapped it.
pub(crate) fn guest_page() -> &'static GuestPage {
    // SAFETY: `boot` maps the page, shared and writable, before anything calls this, and it stays
    // mapped for the life of the process. All of its words are atomics.
    unsafe { &*core::ptr::with_exposed_provenance::<GuestPage>(address::of(map::GUEST_PAGE.start)) }
}

/// Notes the step that is about to be taken.
pub(crate) fn begin(step: Step) {
    // Release pairs with the Acquire of `Watch::look` (host/profile.rs) and of `stage`
    // (host/start.rs).
    guest_page().step.store(step as u32, Ordering::Release);
}

/// Reports the layers that are up, and why the kernel or the CPU lacks others. No guest has run
/// yet.
pub(crate) fn report_layers(layers: LayerSet, absences: &[Option<Errno>]) {
    let page = guest_page();
    for (word, absence) in page.absences.iter().zip(absences) {
        word.store(absence.map_or(0, Errno::raw), Ordering::Relaxed);
    }
    // Release pairs with the host's Acquire in `Layers::read`: who sees them also sees absences.
    page.layers.store(layers.raw(), Ordering::Release);
}

/// Ends the process: the exit status is the step, the call and the errno are in the guest page.
pub(crate) fn die(step: Step, call: Nr, errno: Errno) -> ! {
    let page = guest_page();
    page.call.store(call.raw(), Ordering::Relaxed);
    page.errno.store(u32::from(errno.raw()), Ordering::Relaxed);
    // Release pairs with the Acquire of `stage` (host/start.rs): who sees the step also sees the
    // rest.
    page.step.store(step as u32, Ordering::Release);
    exit_group(step as i32)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let words = &guest_page().last_words;
    words.push(b"panic at ");
    if let Some(place) = info.location() {
        words.push(place.file().as_bytes());
        words.push(b":");
        push_number(place.line());
    }
    exit_group(i32::from(u8::MAX))
}

fn push_number(number: u32) {
    if number > 9 {
        push_number(number / 10);
    }
    let digit = u8::try_from(number % 10).unwrap_or(0);
    guest_page().last_words.push(&[b'0' + digit]);
}
