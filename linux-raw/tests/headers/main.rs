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
    let facts = constants::kernel();
    // The system's own may be newer than this crate.
    if let Some(include) = std::env::var_os(HEADERS) {
        let header = PathBuf::from(include).join("linux/landlock.h");
        let unknown = unknown_rights(&std::fs::read_to_string(header).unwrap(), &facts);
        assert!(unknown.is_empty(), "nobody denies {unknown:?}");
    }
    check("constants", true, facts);
}

/// What Landlock can deny and is not known here: a guest would have it.
fn unknown_rights(header: &str, facts: &[Fact]) -> Vec<String> {
    let macros = header
        .lines()
        .filter_map(|line| line.strip_prefix("#define ")?.split_whitespace().next());
    let is_right = |name: &&str| {
        ["ACCESS_", "SCOPE_"].iter().any(|kind| {
            name.strip_prefix("LANDLOCK_")
                .is_some_and(|name| name.starts_with(kind))
        })
    };
    let is_known = |name: &&str| facts.iter().any(|fact| fact.name == *name);
    let unknown = macros.filter(is_right).filter(|name| !is_known(name));
    unknown.map(str::to_owned).collect()
}

#[test]
fn a_right_that_is_not_known_is_found() {
    let header = "\
        #define LANDLOCK_ACCESS_FS_EXECUTE\t(1ULL << 0)\n\
        #define LANDLOCK_ACCESS_FS_DREAM\t(1ULL << 40)\n\
        #define LANDLOCK_SCOPE_SIGNAL (1ULL << 1)\n\
        #define LANDLOCK_SCOPE_DREAM (1ULL << 40)\n\
        #define LANDLOCK_ADD_RULE_QUIET (1U << 0)\n";
    let unknown = unknown_rights(header, &constants::kernel());
    assert_eq!(
        unknown,
        ["LANDLOCK_ACCESS_FS_DREAM", "LANDLOCK_SCOPE_DREAM"]
    );
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
