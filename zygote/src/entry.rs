#![expect(unsafe_code, reason = "the first instructions of the process")]
//! `_start`: from the kernel's stack to one of our own.

use core::arch::naked_asm;
use core::ffi::c_void;

use linux_raw::nr;
use linux_raw::sys::general;
use vmctx::{Step, map, slots};

use crate::lockdown::Wall;
use crate::{boot, lockdown, nursery};

/// Where the kernel enters the image, with the initial stack in `rsp`.
///
/// # Safety
///
/// Only the kernel may jump there.
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.entry")]
unsafe extern "C" fn _start() -> ! {
    naked_asm!(
        "xor ebp, ebp",
        "mov rdi, rsp",
        "and rsp, -16",
        "call {boot}",
        // `boot` has mapped a stack of our own: the kernel's is about to be unmapped.
        "movabs rsp, {stack}",
        "mov rdi, rax",
        "call {lockdown}",
        "ud2",
        boot = sym boot::boot,
        lockdown = sym lockdown::lockdown,
        stack = const map::STACK.end,
    )
}

/// Leaves the stack that the host sees too, for one of the nursery's own.
///
/// # Safety
///
/// `boot` has mapped that stack. `wall` is read before anything else is written to the old one.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn on_nursery_stack(wall: *const Wall) -> ! {
    naked_asm!(
        "movabs rsp, {stack}",
        "xor ebp, ebp",
        "call {serve}",
        "ud2",
        stack = const map::NURSERY_STACK.end,
        serve = sym nursery::serve,
    )
}

/// Where a worker finds the wall that the nursery leaves it: at the top of its stack, which grows
/// down from there.
pub(crate) const WALL: u64 = map::STACK.end - WALL_ROOM;
const WALL_ROOM: u64 = 512;
const _: () = assert!(
    size_of::<Wall>() as u64 <= WALL_ROOM && WALL.is_multiple_of(align_of::<Wall>() as u64),
    "the wall outgrew its room on the stack: widen WALL_ROOM"
);
const _: () = assert!(WALL.is_multiple_of(16), "the ABI's alignment of a stack");

/// Where a worker begins, without a stack: it has nothing of the nursery's but the image. Maps the
/// worker's pages, its stack among them, of the files at its place.
///
/// The calls are those of `boot::fixed`. There is no page yet to report to: where one fails, the
/// exit status says so.
#[unsafe(naked)]
pub(crate) extern "C" fn start_worker(place: *mut c_void) -> ! {
    naked_asm!(
        "mov r12, rdi",
        "movabs rdi, {host_page}",
        "mov esi, {page_bytes}",
        "mov edx, {read}",
        "mov r10d, {flags}",
        "mov r8d, {host_pages}",
        "imul r9, r12, {page_bytes}",
        "mov eax, {mmap}",
        "syscall",
        "cmp rax, rdi",
        "jne 2f",
        "movabs rdi, {shared}",
        "mov esi, {shared_bytes}",
        "mov edx, {read_write}",
        "mov r8d, {shared_pages}",
        "imul r9, r12, {shared_bytes}",
        "mov eax, {mmap}",
        "syscall",
        "cmp rax, rdi",
        "jne 2f",
        "movabs rsp, {wall}",
        "mov rdi, rsp",
        "call {lockdown}",
        "ud2",
        "2:",
        "mov edi, {failed}",
        "mov eax, {exit_group}",
        "syscall",
        "ud2",
        host_page = const map::HOST_PAGE.start,
        page_bytes = const vmctx::PAGE_BYTES,
        read = const general::PROT_READ,
        read_write = const general::PROT_READ | general::PROT_WRITE,
        flags = const general::MAP_SHARED
            | general::MAP_NORESERVE
            | general::MAP_FIXED_NOREPLACE,
        host_pages = const slots::nursery::HOST_PAGES,
        shared = const map::SHARED.start,
        shared_bytes = const map::SHARED_BYTES,
        shared_pages = const slots::nursery::SHARED_PAGES,
        mmap = const nr::MMAP.raw(),
        wall = const WALL,
        lockdown = sym lockdown::of_worker,
        failed = const Step::SharedPages as i32,
        exit_group = const nr::EXIT_GROUP.raw(),
    )
}
