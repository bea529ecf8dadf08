//! What only some kernels have is asked for twice: a filter around us could answer once for the
//! kernel.

use linux_raw::Errno;

/// Whether the kernel has what a call asked of it, and what a look at it then found to be so. One
/// that lacks it says `lacking` both times. Anything else is a refusal, and of two answers the one
/// that is not `lacking` tells why.
pub(super) fn has(
    asked: Result<(), Errno>,
    is_so: Result<bool, Errno>,
    lacking: Errno,
) -> Result<bool, Errno> {
    match (asked, is_so) {
        (Ok(()), Ok(true)) => Ok(true),
        (Ok(()), Ok(false)) => Err(Errno::EPROTO),
        (Err(one), Err(other)) if one == lacking && other == lacking => Ok(false),
        (Err(one), Err(other)) if one == lacking => Err(other),
        (Err(errno), _) | (_, Err(errno)) => Err(errno),
    }
}
