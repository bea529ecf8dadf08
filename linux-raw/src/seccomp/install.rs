#![expect(unsafe_code, reason = "makes the seccomp call")]
//! Putting a filter in force.

use bitflags::bitflags;
use linux_raw_sys::ptrace as sys;

use super::SET_MODE_FILTER;
use super::bpf::Instruction;
use crate::arch;
use crate::arg::Ret;
use crate::errno::Errno;
use crate::fd::OwnedFd;
use crate::nr;

bitflags! {
    /// How a filter is installed.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct InstallFlags: u32 {
        /// Logs what is not allowed. Since Linux 4.14.
        const LOG = sys::SECCOMP_FILTER_FLAG_LOG;
    }
}

/// The flag that answers with a listener (`SECCOMP_FILTER_FLAG_NEW_LISTENER`); no member of
/// [`InstallFlags`], since it changes what the call answers.
pub const NEW_LISTENER: u32 = sys::SECCOMP_FILTER_FLAG_NEW_LISTENER;

/// The call itself.
fn set_filter(program: &[Instruction], flags: u32) -> Result<Ret, Errno> {
    let header = sys::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the kernel reads the header and as many instructions as it says, which there are.
    let answer = unsafe {
        arch::syscall3(
            nr::SECCOMP,
            SET_MODE_FILTER.into(),
            flags.into(),
            (&raw const header).into(),
        )
    };
    Ok(answer)
}

/// Filters every later system call of this thread and what it makes, for good. A filter that is
/// there already stays in force too.
///
/// Since Linux 3.17.
///
/// # Errors
///
/// `EINVAL` for a program that the kernel does not take, an empty one, one of more than 4096
/// instructions, or an unknown flag; `EACCES` without
/// [`set_no_new_privs`](crate::prctl::set_no_new_privs) or `CAP_SYS_ADMIN`; `ENOMEM`.
pub fn install(program: &[Instruction], flags: InstallFlags) -> Result<(), Errno> {
    set_filter(program, flags.bits())?.done()
}

/// As [`install`], and answers with a descriptor that hears of the calls for which the filter says
/// [`USER_NOTIF`](super::USER_NOTIF): see [`notify`](super::notify). Close-on-exec.
///
/// Since Linux 5.0.
///
/// # Errors
///
/// As [`install`]; `EBUSY` if a filter of this thread has a listener already, `EMFILE`, `EINVAL`
/// on an older kernel.
pub fn install_with_listener(
    program: &[Instruction],
    flags: InstallFlags,
) -> Result<OwnedFd, Errno> {
    let answer = set_filter(program, flags.bits() | NEW_LISTENER)?;
    // SAFETY: with this flag the call answers with a descriptor it has just opened.
    unsafe { answer.fd() }
}
