#![expect(unsafe_code, reason = "hands a buffer to the kernel")]
//! Bytes that nobody can guess.

use crate::arch;
use crate::errno::Errno;
use crate::nr;

/// Fills `bytes` from the kernel's generator, waiting only while it is not seeded yet, early in a
/// boot (`getrandom`).
///
/// Since Linux 3.17. It calls again after a signal, and until everything is filled.
///
/// # Errors
///
/// `ENOSYS` on an older kernel, or what a filter says.
pub fn fill(mut bytes: &mut [u8]) -> Result<(), Errno> {
    const NO_FLAGS: u32 = 0;
    while !bytes.is_empty() {
        // SAFETY: the buffer is ours alone and initialised, and the length is its own.
        let answer = unsafe {
            arch::syscall3(
                nr::GETRANDOM,
                bytes.as_mut_ptr().into(),
                bytes.len().into(),
                NO_FLAGS.into(),
            )
        };
        match answer.value() {
            Ok(filled) => bytes = bytes.get_mut(filled..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
