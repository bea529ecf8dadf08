#![expect(unsafe_code, reason = "maps memory and writes to it")]
//! Mappings, memory files, seals.

use core::ptr::NonNull;

use linux_raw::io::{pwrite, read, write};
use linux_raw::memfd::{MemfdFlags, Seals, add_seals, ftruncate, memfd_create, reopen_read_only};
use linux_raw::mm::{
    Advice, Backing, MapFlags, Placement, Prot, madvise, mmap, mprotect, mseal, munmap,
};
use linux_raw::pidfd::WaitStatus;
use linux_raw::signal::Signal;
use linux_raw::{AsFd, Errno, OwnedFd};

use crate::child::{holds, in_child, must};

const PAGE: usize = 4096;

fn map(placement: Placement, prot: Prot, backing: Backing<'_>) -> Result<NonNull<u8>, Errno> {
    assert!(!matches!(placement, Placement::Fixed(_)));
    // SAFETY: without `Fixed`, a new mapping replaces nothing.
    unsafe { mmap(placement, PAGE, prot, backing, MapFlags::empty()) }
}

fn anonymous() -> NonNull<u8> {
    map(
        Placement::Anywhere,
        Prot::READ | Prot::WRITE,
        Backing::Anonymous,
    )
    .unwrap()
}

fn unmap(page: NonNull<u8>) -> Result<(), Errno> {
    // SAFETY: the tests use no page after this.
    unsafe { munmap(page.addr().get(), PAGE) }
}

fn peek(page: NonNull<u8>) -> u8 {
    // SAFETY: the page is mapped readable and no other thread writes to it.
    unsafe { page.read_volatile() }
}

fn poke(page: NonNull<u8>, value: u8) {
    // SAFETY: the page is mapped writable and nobody refers to it.
    unsafe { page.write_volatile(value) }
}

fn memfd() -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create(c"cellwall-test", flags).unwrap();
    ftruncate(&file, PAGE as u64).unwrap();
    file
}

#[test]
fn a_mapping_is_zeroed_written_advised_and_unmapped() {
    let page = anonymous();
    assert_eq!(peek(page), 0);
    poke(page, 7);
    assert_eq!(peek(page), 7);
    for advice in [Advice::WipeOnFork, Advice::DontDump] {
        // SAFETY: nobody relies on the page's contents.
        unsafe { madvise(page.addr().get(), PAGE, advice) }.unwrap();
    }
    let status = in_child(|| {
        holds!(peek(page) == 0);
        Ok(())
    });
    assert_eq!(status, WaitStatus::Exited(0));
    assert_eq!(peek(page), 7);
    // SAFETY: this advice drops no contents.
    unsafe { madvise(page.addr().get(), PAGE, Advice::DontFork) }.unwrap();
    unmap(page).unwrap();
    // SAFETY: nothing is mapped there, unless by another thread, and nothing is changed.
    let gone = unsafe { madvise(page.addr().get(), 0x7fff_0000_0000, Advice::DontDump) };
    assert_eq!(gone, Err(Errno::ENOMEM));
}

#[test]
fn a_place_that_is_taken_is_not_replaced() {
    let page = anonymous();
    poke(page, 3);
    let address = page.addr().get();
    let again = map(
        Placement::FixedNoReplace(address),
        Prot::READ,
        Backing::Anonymous,
    );
    assert_eq!(again, Err(Errno::EEXIST));
    assert_eq!(peek(page), 3);
    // SAFETY: the page is ours, and nobody refers to it.
    let over = unsafe {
        mmap(
            Placement::Fixed(address),
            PAGE,
            Prot::READ,
            Backing::Anonymous,
            MapFlags::NORESERVE | MapFlags::POPULATE,
        )
    };
    assert_eq!(over, Ok(page));
    assert_eq!(peek(page), 0);
    unmap(page).unwrap();
    let unaligned = map(
        Placement::FixedNoReplace(address + 1),
        Prot::READ,
        Backing::Anonymous,
    );
    assert_eq!(unaligned, Err(Errno::EINVAL));
}

#[test]
fn a_write_to_a_protected_page_kills() {
    let status = in_child(|| {
        let page = must!(map(
            Placement::Anywhere,
            Prot::READ | Prot::WRITE,
            Backing::Anonymous
        ));
        poke(page, 1);
        // SAFETY: nothing lives in the page.
        must!(unsafe { mprotect(page.addr().get(), PAGE, Prot::READ) });
        holds!(peek(page) == 1);
        must!(linux_raw::prctl::set_dumpable(false)); // no core file
        // The test binary has a handler of its own for this signal.
        // SAFETY: the default action runs no code.
        must!(unsafe {
            linux_raw::signal::sigaction(Signal::SEGV, &linux_raw::signal::SigAction::DEFAULT)
        });
        poke(page, 2);
        Ok(())
    });
    let killed = WaitStatus::Killed {
        signal: Signal::SEGV,
        core: false,
    };
    assert_eq!(status, killed);
}

#[test]
fn a_sealed_mapping_is_final() {
    let page = anonymous();
    match mseal(page.addr().get(), PAGE) {
        Ok(()) => {
            assert_eq!(unmap(page), Err(Errno::EPERM));
            // SAFETY: nothing lives in the page.
            let changed = unsafe { mprotect(page.addr().get(), PAGE, Prot::NONE) };
            assert_eq!(changed, Err(Errno::EPERM));
        }
        Err(Errno::ENOSYS) => absence::absent("mseal", "ENOSYS"),
        Err(errno) => panic!("mseal: {errno}"),
    }
}

#[test]
fn seals_hold() {
    let file = memfd();
    assert_eq!(pwrite(&file, b"cell", 0), Ok(4));
    let seals = Seals::WRITE | Seals::SHRINK | Seals::GROW | Seals::SEAL;
    add_seals(&file, seals).unwrap();
    assert_eq!(write(&file, b"x"), Err(Errno::EPERM));
    assert_eq!(ftruncate(&file, 0), Err(Errno::EPERM));
    assert_eq!(ftruncate(&file, 1 << 20), Err(Errno::EPERM));
    assert_eq!(add_seals(&file, Seals::FUTURE_WRITE), Err(Errno::EPERM));
    let mut bytes = [0; 8];
    assert_eq!(read(&file, &mut bytes), Ok(8));
    assert_eq!(&bytes, b"cell\0\0\0\0");
}

#[test]
fn a_future_write_seal_spares_mappings_that_exist() {
    let file = memfd();
    let backing = Backing::Shared {
        fd: file.as_fd(),
        offset: 0,
    };
    let both = Prot::READ | Prot::WRITE;
    let before = map(Placement::Anywhere, both, backing).unwrap();
    assert_eq!(add_seals(&file, Seals::WRITE), Err(Errno::EBUSY));
    add_seals(&file, Seals::FUTURE_WRITE).unwrap();
    assert_eq!(map(Placement::Anywhere, both, backing), Err(Errno::EPERM));
    poke(before, 9);
    let after = map(Placement::Anywhere, Prot::READ, backing).unwrap();
    assert_eq!(peek(after), 9);
    // SAFETY: nothing lives in the page.
    let raised = unsafe { mprotect(after.addr().get(), PAGE, both) };
    assert_eq!(raised, Err(Errno::EACCES));
    unmap(before).unwrap();
    unmap(after).unwrap();
}

#[test]
fn what_was_reopened_read_only_cannot_be_written() {
    let file = memfd();
    let reader = reopen_read_only(&file).unwrap();
    let backing = Backing::Shared {
        fd: reader.as_fd(),
        offset: 0,
    };
    assert_eq!(
        map(Placement::Anywhere, Prot::WRITE, backing),
        Err(Errno::EACCES)
    );
    let code = map(Placement::Anywhere, Prot::READ | Prot::EXEC, backing).unwrap();
    // SAFETY: nothing lives in the page.
    let raised = unsafe { mprotect(code.addr().get(), PAGE, Prot::READ | Prot::WRITE) };
    assert_eq!(raised, Err(Errno::EACCES));
    assert_eq!(pwrite(&reader, b"x", 0), Err(Errno::EBADF));
    assert_eq!(pwrite(&file, b"\xc3", 0), Ok(1));
    assert_eq!(peek(code), 0xc3);
    unmap(code).unwrap();
}
