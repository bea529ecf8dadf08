#![expect(
    unsafe_code,
    reason = "asks the kernel to drop pages of this and another process"
)]
//! Pages that a guest has only read are in the memory file, and the kernel drops them again when
//! memory is short: a host that counts pages must not take others for them.

use std::fs;

use cellwall::{Instance, Protection};
use linux_raw::nr::{self, Nr};
use linux_raw::pidfd::{PidfdFlags, pidfd_open};
use linux_raw::process::Pid;
use linux_raw::sys::general;
use linux_raw::{AsFd as _, Errno, arch};
use vmctx::map::Span;

use super::tenants::{engines, guest};
use crate::harness::{STACK, STACK_BYTES, alone, eventually};

const PAGE: u64 = 0x1000;
/// Where the guest reads, and where it writes later.
const READ: Span = 0x1000_0000..0x1010_0000;
const WRITTEN: u64 = 0x1020_0000;
const BYTES: u64 = 0x40_0000;

#[test]
fn what_the_kernel_drops_is_not_taken_for_what_it_fills() {
    let test = "memory::dropped::what_the_kernel_drops_is_not_taken_for_what_it_fills";
    alone(test, || {
        for engine in engines() {
            let parts = guest::builder()
                .zeroed(READ.start, BYTES, Protection::ReadWrite)
                .stack(STACK, STACK_BYTES);
            let module = parts.build(&engine).expect("a module");
            let mut instance = engine.instantiate(&module).expect("an instance");
            assert_eq!(guest::search(&mut instance, &READ), 0);
            // The host looks which pages there are, and has them in its own page table then.
            instance.snapshot().expect("a snapshot");
            let before = resident(&mut instance);
            if let Err(errno) = drop_pages(&mut instance, before) {
                assert_eq!(errno, Errno::EPERM);
                return absence::absent("root", "others do not manage a worker's memory");
            }
            let dropped = before - resident(&mut instance);
            guest::fill(&mut instance, &(WRITTEN..WRITTEN + dropped));
            assert_eq!(resident(&mut instance), before, "as many as there were");
            instance.reset().expect("a reset");
            let all = READ.start..READ.start + BYTES;
            assert_eq!(
                guest::search(&mut instance, &all),
                0,
                "{dropped:#x} bytes were dropped"
            );
        }
    });
}

fn resident(instance: &mut Instance) -> u64 {
    instance.memory_stats().expect("stats").resident
}

/// Has the kernel drop the pages that were only read. Those that another CPU has just put there
/// may take it some attempts.
fn drop_pages(instance: &mut Instance, before: u64) -> Result<(), Errno> {
    let bound = std::time::Duration::from_secs(10);
    let mut done = Ok(());
    eventually(bound, "pages are dropped", || {
        forget_own_mapping();
        done = page_out(instance);
        done.is_err() || resident(instance) <= before - PAGE
    });
    done
}

/// Takes them out of this process' page table: what two map is not paged out.
fn forget_own_mapping() {
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    let line = maps.lines().find(|line| line.contains("cellwall-memory"));
    let start = line
        .and_then(|line| line.split('-').next())
        .expect("guest memory");
    let start = u64::from_str_radix(start, 16).expect("an address");
    // SAFETY: the mapping is a file's and shared: it only comes anew from there.
    let advised = unsafe {
        arch::syscall3(
            nr::MADVISE,
            (start + READ.start).into(),
            (READ.end - READ.start).into(),
            general::MADV_DONTNEED.into(),
        )
    };
    advised.done().expect("madvise");
}

/// process_madvise(2), since Linux 5.10.
fn page_out(instance: &Instance) -> Result<(), Errno> {
    let worker = Pid::from_raw(instance.process_id()).expect("a process");
    let worker = pidfd_open(worker, PidfdFlags::empty()).expect("a pidfd");
    let pieces = [READ.start, READ.end - READ.start];
    // SAFETY: the kernel reads one iovec, which has the layout of two words; the advice changes no
    // contents.
    let advised = unsafe {
        arch::syscall5(
            Nr::from_raw(general::__NR_process_madvise),
            worker.as_fd().into(),
            pieces.as_ptr().into(),
            1u32.into(),
            general::MADV_PAGEOUT.into(),
            0u32.into(),
        )
    };
    advised.done()
}
