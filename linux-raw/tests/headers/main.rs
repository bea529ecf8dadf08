//! What this crate believes about the kernel, against the system's C headers.
//!
//! A C program prints what the headers say; each line must be one that we would print. Headers may
//! be older than the kernel numbers here: what they lack is listed, not failed.

mod constants;
mod layouts;
mod probe;

use probe::{Fact, Findings, Unit, compare};

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
    "linux/unistd.h",
    "linux/userfaultfd.h",
    "linux/wait.h",
    "asm/siginfo.h",
    "asm/sigcontext.h",
    "asm/stat.h",
    "asm/ucontext.h",
];

/// What only libc's headers have.
const LIBC: &[&str] = &["sys/eventfd.h", "sys/mount.h", "sys/socket.h", "sys/uio.h"];

/// Compares, or says that it could not.
fn check(name: &str, headers: &[&str], facts: Vec<Fact>) {
    let count = facts.len();
    match compare(&Unit { name, headers }, facts) {
        Findings::NoCompiler(why) => {
            absence::absent("c-compiler", format!("{name} not compared: {why}"))
        }
        Findings::Compared {
            same,
            lacking,
            different,
        } => {
            assert!(different.is_empty(), "differs from C: {different:#?}");
            println!("{name}: {same} of {count} agree");
            if !lacking.is_empty() {
                println!("the system's headers lack {}", lacking.join(", "));
            }
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
    check("constants", KERNEL, constants::kernel());
}

#[test]
fn layouts_are_the_kernels() {
    check("layouts", KERNEL, layouts::kernel());
}

#[test]
fn what_only_libc_has_agrees() {
    let mut facts = constants::libc();
    facts.extend(layouts::libc());
    check("libc", LIBC, facts);
}

#[test]
fn a_difference_is_found() {
    let facts = vec![Fact::constant("EPERM", 2)];
    let unit = Unit {
        name: "difference",
        headers: KERNEL,
    };
    match compare(&unit, facts) {
        Findings::NoCompiler(why) => absence::absent("c-compiler", why),
        Findings::Compared {
            same, different, ..
        } => assert_eq!((same, different.len()), (0, 1)),
    }
}
