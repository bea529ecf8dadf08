#![expect(
    unsafe_code,
    reason = "makes system calls that have no wrapper of their own yet"
)]
//! Calls that only the probe makes.

use linux_raw::Errno;
use linux_raw::arch;
use linux_raw::arg::Arg;
use linux_raw::nr::{self, Nr};
use linux_raw::sys::general;

/// Bytes in each of the six fields of `struct new_utsname`, and which of them is the release.
const UTS_FIELD_BYTES: usize = 65;
const UTS_FIELDS: usize = 6;
const UTS_RELEASE: usize = 2;

/// The kernel's release; empty under a filter that forbids to ask.
pub(super) fn release() -> String {
    let mut names = [[0_u8; UTS_FIELD_BYTES]; UTS_FIELDS];
    let uname = Nr::from_raw(general::__NR_uname);
    // SAFETY: the kernel writes six fields of 65 bytes there, which there is room for.
    let answer = unsafe { arch::syscall1(uname, (&raw mut names).into()) };
    let release = &names[UTS_RELEASE];
    match (answer.done(), release.iter().position(|&byte| byte == 0)) {
        (Ok(()), Some(end)) => String::from_utf8_lossy(&release[..end]).into_owned(),
        _ => String::new(),
    }
}

/// What `clone3` answers when it is given nothing: never a process. Since Linux 5.3.
pub(super) fn clone3_without_arguments() -> Errno {
    // SAFETY: arguments of no bytes are refused before the kernel looks at them.
    let answer = unsafe { arch::syscall2(nr::CLONE3, Arg::NULL, Arg::NULL) };
    // A kernel that says that this worked is out of its mind.
    answer.done().err().unwrap_or(Errno::EPROTO)
}
