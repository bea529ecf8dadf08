//! What this crate believes about the kernel, against the system's C headers.
//!
//! A C program prints what the headers say; each line must be one that we would print. Headers may
//! be older than the kernel numbers here: what they lack must be known as newer (`since`), and is
//! listed. And no number that is written by hand may be without a line (`by_hand`).
//!
//! `cargo xtask headers` runs this with the newest headers, which [`HEADERS`] names the folder of.

mod by_hand;
mod constants;
mod layouts;
mod probe;
mod rings;
mod since;
mod source;

use std::path::PathBuf;

use probe::{Fact, Findings, Unit, compare};

/// Names a folder such as `/usr/include` with headers of the kernel to be compared with, instead of
/// the system's. Then a compiler must be there.
const HEADERS: &str = "CELLWALL_KERNEL_HEADERS";

/// The kernel's own headers. libc's are apart, since both define some of the same types.
const KERNEL: &[&str] = &[
    "linux/types.h",
    "linux/audit.h",
    "linux/auxvec.h",
    "linux/capability.h",
    "linux/close_range.h",
    "linux/errno.h",
    "linux/falloc.h",
    "linux/fcntl.h",
    "linux/filter.h",
    "linux/fs.h",
    "linux/futex.h",
    "linux/io_uring.h",
    "linux/ioctl.h",
    "linux/landlock.h",
    "linux/memfd.h",
    "linux/mman.h",
    "linux/mount.h",
    "linux/pidfd.h",
    "linux/poll.h",
    "linux/prctl.h",
    "linux/resource.h",
    "linux/sched.h",
    "linux/seccomp.h",
    "linux/securebits.h",
    "linux/signal.h",
    "linux/time.h",
    "linux/time_types.h",
    "linux/uio.h",
    "linux/unistd.h",
    "linux/userfaultfd.h",
    "linux/utsname.h",
    "linux/version.h",
    "linux/wait.h",
    "asm/hwcap2.h",
    "asm/siginfo.h",
    "asm/sigcontext.h",
    "asm/stat.h",
    "asm/ucontext.h",
];

/// What only libc's headers have, which include the kernel's.
const LIBC: &[&str] = &[
    "linux/version.h",
    "sys/eventfd.h",
    "sys/mount.h",
    "sys/socket.h",
    "sys/uio.h",
];

fn unit(name: &str, kernel_only: bool) -> Unit<'_> {
    Unit {
        name,
        headers: if kernel_only { KERNEL } else { LIBC },
        include: std::env::var_os(HEADERS).map(PathBuf::from),
        kernel_only,
    }
}

/// Compares, or says that it could not.
fn check(name: &str, kernel_only: bool, facts: Vec<Fact>) {
    let count = facts.len();
    let unit = unit(name, kernel_only);
    match compare(&unit, facts) {
        Findings::NoCompiler(why) => {
            assert!(unit.include.is_none(), "{name} not compared: {why}");
            absence::absent("c-compiler", format!("{name} not compared: {why}"));
        }
        Findings::Compared {
            version,
            same,
            lacking,
            different,
        } => {
            let (major, minor) = version;
            println!("{name}: {same} of {count} agree with the headers of Linux {major}.{minor}");
            for name in &lacking {
                println!("not compared: {name}{}", since::told(name));
            }
            assert!(different.is_empty(), "differs from C: {different:#?}");
            let missing = since::missing(lacking, version);
            assert!(missing.is_empty(), "no header has {missing:#?}");
            // Headers that lack most of it are not the ones this test means to look at.
            assert!(
                same * 10 >= count * 9,
                "{name}: only {same} of {count} compared"
            );
        }
    }
}

#[test]
fn constants_are_the_kernels() {
    check("constants", true, constants::kernel());
}

#[test]
fn layouts_are_the_kernels() {
    check("layouts", true, layouts::kernel());
}

#[test]
fn what_only_libc_has_agrees() {
    let mut facts = constants::libc();
    facts.extend(layouts::libc());
    check("libc", false, facts);
}

#[test]
fn a_difference_is_found() {
    let facts = vec![Fact::constant("EPERM", 2)];
    match compare(&unit("difference", true), facts) {
        Findings::NoCompiler(why) => absence::absent("c-compiler", why),
        Findings::Compared {
            same, different, ..
        } => assert_eq!((same, different.len()), (0, 1)),
    }
}
