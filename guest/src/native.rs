//! The same calls as an ordinary Linux program: handles are descriptors 0, 1 and 2.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::OnceLock;
use std::vec::Vec;
use std::{env, eprintln, process};

use vmctx::native::TRANSFER_BYTES_MAX;

use crate::{Args, Errno, Handle};

/// What `entry!` calls in an ordinary build.
pub fn run(main: fn(Args) -> u8) -> ! {
    use std::os::unix::ffi::OsStringExt as _;

    let mut block = Vec::new();
    for arg in env::args_os().skip(1) {
        block.extend_from_slice(&arg.into_vec());
        block.push(0);
    }
    process::exit(i32::from(main(Args::new(block.leak()))))
}

pub(crate) fn read(handle: Handle, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut file = file(handle)?;
    let length = transfer(buffer.len());
    retried(|| file.read(&mut buffer[..length]))
}

pub(crate) fn write(handle: Handle, bytes: &[u8]) -> Result<usize, Errno> {
    let mut file = file(handle)?;
    let length = transfer(bytes.len());
    retried(|| file.write(&bytes[..length]))
}

pub(crate) fn log(line: &str) {
    eprintln!("{line}");
}

pub(crate) fn exit(status: u8) -> ! {
    process::exit(i32::from(status))
}

/// The descriptor as a file: the standard library's own handles buffer, a guest's do not.
fn file(handle: Handle) -> Result<&'static File, Errno> {
    static STDIN: OnceLock<Option<File>> = OnceLock::new();
    static STDOUT: OnceLock<Option<File>> = OnceLock::new();
    static STDERR: OnceLock<Option<File>> = OnceLock::new();
    let own = |copy: io::Result<OwnedFd>| copy.ok().map(File::from);
    let file = match handle {
        Handle::STDIN => STDIN.get_or_init(|| own(io::stdin().as_fd().try_clone_to_owned())),
        Handle::STDOUT => STDOUT.get_or_init(|| own(io::stdout().as_fd().try_clone_to_owned())),
        Handle::STDERR => STDERR.get_or_init(|| own(io::stderr().as_fd().try_clone_to_owned())),
        _ => return Err(Errno::BADF),
    };
    file.as_ref().ok_or(Errno::BADF)
}

/// How much of so many bytes is moved at once, as behind the wall.
fn transfer(bytes: usize) -> usize {
    bytes.min(usize::try_from(TRANSFER_BYTES_MAX).unwrap_or(usize::MAX))
}

fn retried(mut transfer: impl FnMut() -> io::Result<usize>) -> Result<usize, Errno> {
    loop {
        match transfer() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => {
                return result.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_handles_are_refused() {
        assert_eq!(write(Handle::from_raw(77), b"x"), Err(Errno::BADF));
        assert_eq!(read(Handle::from_raw(77), &mut [0]), Err(Errno::BADF));
    }
}
