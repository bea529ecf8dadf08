#![expect(
    unsafe_code,
    reason = "makes system calls that have no wrapper of their own yet"
)]
//! Calls that only the probe makes.

use std::ffi::CStr;
use std::mem::size_of;
use std::sync::atomic::{AtomicU32, Ordering};

use linux_raw::Errno;
use linux_raw::arch;
use linux_raw::arg::Arg;
use linux_raw::fd::{AsFd, OwnedFd};
use linux_raw::io::{self, OpenFlags};
use linux_raw::nr::{self, Nr};
use linux_raw::process::Pid;
use linux_raw::seccomp;
use linux_raw::sys::{general, net, ptrace};
use linux_raw::{mm, uffd};

/// What `clone3` answers when it is given nothing: never a process. Since Linux 5.3.
pub(super) fn clone3_without_arguments() -> Errno {
    // SAFETY: arguments of no bytes are refused before the kernel looks at them.
    let answer = unsafe { arch::syscall2(nr::CLONE3, Arg::NULL, Arg::NULL) };
    // A kernel that says that this worked is out of its mind.
    answer.done().err().unwrap_or(Errno::EPROTO)
}

/// Whether this process could send that one a signal (`kill` with none).
pub(super) fn ask_for(process: Pid) -> Result<(), Errno> {
    let kill = Nr::from_raw(general::__NR_kill);
    // SAFETY: nothing is passed but numbers.
    unsafe { arch::syscall2(kill, process.raw().into(), Arg::NULL) }.done()
}

/// A TCP socket, close-on-exec.
fn tcp_socket() -> Result<OwnedFd, Errno> {
    let socket = Nr::from_raw(general::__NR_socket);
    let kind = net::SOCK_STREAM | general::O_CLOEXEC;
    // SAFETY: nothing is passed but numbers.
    let answer = unsafe { arch::syscall3(socket, net::AF_INET.into(), kind.into(), Arg::NULL) };
    // SAFETY: socket answers with a descriptor it has just opened.
    unsafe { answer.fd() }
}

/// Takes any free port of the loopback device, for a moment.
pub(super) fn bind_to_loopback() -> Result<(), Errno> {
    let socket = tcp_socket()?;
    // A struct sockaddr_in: family, port 0, address, padding.
    let [low, high, ..] = net::AF_INET.to_le_bytes();
    let address = [low, high, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let bind = Nr::from_raw(general::__NR_bind);
    // SAFETY: the kernel reads an address of the length that is given.
    let answer = unsafe {
        arch::syscall3(
            bind,
            socket.as_fd().into(),
            (&raw const address).into(),
            address.len().into(),
        )
    };
    answer.done()
}

pub(super) fn make_folder(path: &CStr) -> Result<(), Errno> {
    let mkdir = Nr::from_raw(general::__NR_mkdir);
    // SAFETY: the kernel reads the path up to its NUL, which `CStr` guarantees.
    unsafe { arch::syscall2(mkdir, path.as_ptr().into(), 0o700_u32.into()) }.done()
}

pub(super) fn remove_folder(path: &CStr) -> Result<(), Errno> {
    let rmdir = Nr::from_raw(general::__NR_rmdir);
    // SAFETY: as above.
    unsafe { arch::syscall1(rmdir, path.as_ptr().into()) }.done()
}

/// `futex_waitv` for a word that is another than expected: `EAGAIN` where the call is known. Since
/// Linux 5.16.
pub(super) fn wait_for_changed_word() -> Result<(), Errno> {
    let word = AtomicU32::new(0);
    let waiter = general::futex_waitv {
        val: 1,
        uaddr: word.as_ptr().expose_provenance() as u64,
        flags: general::FUTEX_32,
        __reserved: 0,
    };
    let waitv = Nr::from_raw(general::__NR_futex_waitv);
    // SAFETY: the kernel reads one waiter, and the word that it names; without a timeout it does
    // not read a clock either.
    let answer = unsafe {
        arch::syscall5(
            waitv,
            (&raw const waiter).into(),
            1_u32.into(),
            Arg::NULL,
            Arg::NULL,
            Arg::NULL,
        )
    };
    answer.done()
}

/// Whether a scan of the page of a local variable finds that it is there. Since Linux 6.7.
pub(super) fn scan_finds_a_page() -> Result<bool, Errno> {
    const PAGE_BYTES: u64 = 4096;
    let written = AtomicU32::new(0);
    written.store(1, Ordering::Relaxed); // there is no other thread
    let page = written.as_ptr().addr() as u64 & !(PAGE_BYTES - 1);
    let mut found = general::page_region {
        start: 0,
        end: 0,
        categories: 0,
    };
    let mut asked = general::pm_scan_arg {
        size: size_of::<general::pm_scan_arg>() as u64,
        flags: 0,
        start: page,
        end: page + PAGE_BYTES,
        walk_end: 0,
        vec: (&raw mut found).expose_provenance() as u64,
        vec_len: 1,
        max_pages: 0,
        category_inverted: 0,
        category_mask: general::PAGE_IS_PRESENT.into(),
        category_anyof_mask: 0,
        return_mask: general::PAGE_IS_PRESENT.into(),
    };
    let map = io::open(
        c"/proc/self/pagemap",
        OpenFlags::RDONLY | OpenFlags::CLOEXEC,
    )?;
    // SAFETY: the struct is the operation's, and it names one place for a region, which there is.
    let answer = unsafe {
        arch::syscall3(
            nr::IOCTL,
            map.as_fd().into(),
            mm::PAGEMAP_SCAN.into(),
            (&raw mut asked).into(),
        )
    };
    Ok(answer.word()? == 1 && found.start == page)
}

/// Traces a process from here on, without stopping it (`PTRACE_SEIZE`). Since Linux 3.4.
pub(super) fn seize(tracee: Pid) -> Result<(), Errno> {
    // SAFETY: nothing is passed but numbers, and no options.
    let answer = unsafe {
        arch::syscall4(
            nr::PTRACE,
            ptrace::PTRACE_SEIZE.into(),
            tracee.raw().into(),
            Arg::NULL,
            Arg::NULL,
        )
    };
    answer.done()
}

/// A descriptor of page faults, those of the kernel included. Since Linux 4.3.
pub(super) fn userfaultfd_of_kernel() -> Result<(), Errno> {
    // SAFETY: nothing is passed but flags.
    let answer = unsafe { arch::syscall1(nr::USERFAULTFD, general::O_CLOEXEC.into()) };
    // SAFETY: userfaultfd answers with a descriptor it has just opened.
    unsafe { answer.fd() }.map(drop)
}

/// The same by the device. Since Linux 6.1.
pub(super) fn userfaultfd_device() -> Result<(), Errno> {
    let device = io::open(c"/dev/userfaultfd", OpenFlags::RDONLY | OpenFlags::CLOEXEC)?;
    // SAFETY: nothing is passed but flags.
    let answer = unsafe {
        arch::syscall3(
            nr::IOCTL,
            device.as_fd().into(),
            uffd::USERFAULTFD_IOC_NEW.into(),
            general::O_CLOEXEC.into(),
        )
    };
    // SAFETY: the operation answers with a descriptor it has just opened.
    unsafe { answer.fd() }.map(drop)
}

/// Whether `seccomp` knows these flags: the kernel looks at them before it looks for the filter,
/// of which there is none. Since Linux 3.17.
pub(super) fn seccomp_knows_flags(flags: u64) -> bool {
    // SAFETY: without a filter the call fails in any case.
    let answer = unsafe {
        arch::syscall3(
            nr::SECCOMP,
            seccomp::SET_MODE_FILTER.into(),
            flags.into(),
            Arg::NULL,
        )
    };
    answer.done() == Err(Errno::EFAULT)
}

/// Whether a filter can give this answer (`SECCOMP_GET_ACTION_AVAIL`). Since Linux 4.14.
pub(super) fn seccomp_knows_action(action: u32) -> bool {
    // SAFETY: the kernel reads one word.
    let answer = unsafe {
        arch::syscall3(
            nr::SECCOMP,
            ptrace::SECCOMP_GET_ACTION_AVAIL.into(),
            Arg::NULL,
            (&raw const action).into(),
        )
    };
    answer.done().is_ok()
}

/// Whether `close_range` knows a flag, tried where no descriptor can be. Since Linux 5.9.
pub(super) fn close_range_knows_flag(flag: u64) -> bool {
    let (first, last) = (u32::MAX.into(), u32::MAX.into());
    // SAFETY: descriptors are smaller numbers, so nobody owns one there.
    unsafe { arch::syscall3(nr::CLOSE_RANGE, first, last, flag.into()) }
        .done()
        .is_ok()
}

/// Whether `memfd_create` knows a flag; a sysctl may refuse what it knows, by `EACCES`. Since Linux
/// 3.17.
pub(super) fn memfd_create_knows_flag(flag: u64) -> bool {
    let flags = flag | u64::from(general::MFD_CLOEXEC);
    // SAFETY: the kernel reads the name up to its NUL.
    let answer = unsafe {
        arch::syscall2(
            nr::MEMFD_CREATE,
            c"cellwall-probe".as_ptr().into(),
            flags.into(),
        )
    };
    // SAFETY: memfd_create answers with a descriptor it has just opened.
    unsafe { answer.fd() }.map_or_else(|errno| errno != Errno::EINVAL, |_| true)
}
