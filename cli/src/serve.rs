//! The hostcalls of a native guest (`vmctx::native`): reading, writing, logging, giving up.
//!
//! Everything in a hostcall is the guest's claim. Addresses and lengths are checked by the
//! library, which copies in or out of guest memory only what the guest itself could touch.

use std::time::Duration;

use cellwall::{Access, Errno, Hostcall, Instance};
use linux_raw::time::monotonic;
use linux_raw::uring::Transfer;
use vmctx::native::{LOG, MESSAGE_BYTES_MAX, PANIC, READ, TRANSFER_BYTES_MAX, WRITE};

use crate::stdio;
use crate::text::escape;

const TRANSFER_BYTES: usize = 2 << 20;
const _: () = assert!(
    TRANSFER_BYTES as u64 == TRANSFER_BYTES_MAX,
    "the longest transfer"
);
const _: () = assert!(
    MESSAGE_BYTES_MAX <= TRANSFER_BYTES_MAX,
    "messages use the same buffer"
);

/// How long a guest's read waits between two looks at whether its worker lives.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What follows a hostcall.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// The guest goes on with this answer.
    Answer(u64),
    /// The deadline passed while it waited.
    Deadline,
    /// The guest gave up, with this message, which is safe to show.
    Panicked(String),
}

/// Serves one guest's hostcalls.
pub(crate) struct Server {
    transfer: Transfer,
    /// What is on its way between a descriptor and the guest.
    buffer: Box<[u8]>,
    /// A time of the monotonic clock.
    deadline: Option<Duration>,
}

/// Why a hostcall has no answer.
enum Stop {
    Errno(Errno),
    Deadline,
}

impl Server {
    pub(crate) fn new(deadline: Option<Duration>) -> Self {
        let buffer = vec![0; TRANSFER_BYTES].into();
        Self {
            // By a ring or plainly: `cellwall probe` tells which, and the guest cannot.
            transfer: Transfer::new(),
            buffer,
            deadline,
        }
    }

    pub(crate) fn serve(&mut self, call: &Hostcall, instance: &mut Instance) -> Served {
        let [first, second, third, ..] = call.args;
        let answer = match call.number {
            READ => self.read(instance, first, second, third),
            WRITE => self.write(instance, first, second, third),
            LOG => self.log(instance, first, second),
            PANIC => return Served::Panicked(self.last_words(instance, first, second)),
            _ => Err(Stop::Errno(Errno::ENOSYS)),
        };
        match answer {
            Ok(value) => Served::Answer(value),
            Err(Stop::Errno(errno)) => Served::Answer(u64::from(errno.raw()).wrapping_neg()),
            Err(Stop::Deadline) => Served::Deadline,
        }
    }

    fn read(
        &mut self,
        instance: &mut Instance,
        handle: u64,
        address: u64,
        length: u64,
    ) -> Result<u64, Stop> {
        let from = stdio::readable(handle).ok_or(Stop::Errno(Errno::EBADF))?;
        let into = self
            .buffer
            .get_mut(..cut(length, TRANSFER_BYTES_MAX))
            .unwrap_or_default();
        // Before anything is read, which could not be given back.
        if !instance.is_accessible(address, into.len() as u64, Access::Write) {
            return Err(Stop::Errno(Errno::EFAULT));
        }
        let read = loop {
            let look = monotonic().saturating_add(LOOK_INTERVAL);
            let until = self.deadline.map_or(look, |deadline| deadline.min(look));
            match self.transfer.read(from, into, Some(until)) {
                // Nobody waits for this input any more: the next run says why.
                Err(Errno::ETIME) if !instance.is_alive() => return Err(Stop::Errno(Errno::EIO)),
                Err(Errno::ETIME) if Some(until) != self.deadline => {}
                result => break result.map_err(stop)?,
            }
        };
        let bytes = into.get(..read).unwrap_or_default();
        instance
            .write(address, bytes)
            .map_err(|_| Stop::Errno(Errno::EFAULT))?;
        Ok(bytes.len() as u64)
    }

    fn write(
        &mut self,
        instance: &mut Instance,
        handle: u64,
        address: u64,
        length: u64,
    ) -> Result<u64, Stop> {
        let to = stdio::writable(handle).ok_or(Stop::Errno(Errno::EBADF))?;
        let bytes = fetch(
            &mut self.buffer,
            instance,
            address,
            length,
            TRANSFER_BYTES_MAX,
        )?;
        let written = self
            .transfer
            .write(to, bytes, self.deadline)
            .map_err(stop)?;
        Ok(written as u64)
    }

    fn log(&mut self, instance: &mut Instance, address: u64, length: u64) -> Result<u64, Stop> {
        let text = fetch(
            &mut self.buffer,
            instance,
            address,
            length,
            MESSAGE_BYTES_MAX,
        )?;
        let line = format!("guest: {}\n", escape(text));
        let stderr = stdio::stderr();
        stdio::write_all(&mut self.transfer, stderr, line.as_bytes(), self.deadline)
            .map_err(stop)?;
        Ok(0)
    }

    fn last_words(&mut self, instance: &mut Instance, address: u64, length: u64) -> String {
        match fetch(
            &mut self.buffer,
            instance,
            address,
            length,
            MESSAGE_BYTES_MAX,
        ) {
            Ok(text) => escape(text),
            Err(_) => "(the message is outside its memory)".into(),
        }
    }
}

fn stop(errno: Errno) -> Stop {
    match errno {
        // The descriptors never say this themselves: it is `Transfer`'s word for the deadline.
        Errno::ETIME => Stop::Deadline,
        errno => Stop::Errno(errno),
    }
}

fn cut(length: u64, limit: u64) -> usize {
    usize::try_from(length.min(limit)).unwrap_or(TRANSFER_BYTES)
}

/// Copies guest memory into the buffer, at most `limit` bytes.
fn fetch<'buffer>(
    buffer: &'buffer mut [u8],
    instance: &mut Instance,
    address: u64,
    length: u64,
    limit: u64,
) -> Result<&'buffer [u8], Stop> {
    let into = buffer.get_mut(..cut(length, limit)).unwrap_or_default();
    instance
        .read_into(address, into)
        .map_err(|_| Stop::Errno(Errno::EFAULT))?;
    Ok(into)
}

#[cfg(test)]
mod tests {
    use cellwall::{Config, Engine, Errno, Hostcall, Instance, Module, Protection};
    use vmctx::native::{LOG, READ, STDERR, STDIN, STDOUT, TRANSFER_BYTES_MAX, WRITE};

    use super::{Served, Server, cut};

    const DATA: u64 = 0x2_0000;
    const CONSTANTS: u64 = 0x3_0000;

    fn instance() -> Instance {
        let engine = Engine::new(&Config::default()).unwrap();
        let module = Module::builder()
            .code(&[0xc3])
            .zeroed(DATA, 0x3000, Protection::ReadWrite)
            .data(CONSTANTS, b"constant", Protection::Read)
            .stack(0x4_0000, 0x1000)
            .build(&engine)
            .unwrap();
        engine.instantiate(&module).unwrap()
    }

    fn errno(number: u32, args: [u64; 3]) -> Option<Errno> {
        let [first, second, third] = args;
        let call = Hostcall {
            number,
            args: [first, second, third, 0, 0, 0],
        };
        match Server::new(None).serve(&call, &mut instance()) {
            Served::Answer(answer) => {
                Errno::from_raw(u16::try_from(answer.wrapping_neg()).unwrap_or(0))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pointers_outside_are_refused_before_anything_is_done() {
        for address in [
            0,
            DATA - 1,
            DATA + 0x3000,
            CONSTANTS,
            0x1_4000_0000,
            u64::MAX - 3,
        ] {
            assert_eq!(
                errno(READ, [STDIN, address, 16]),
                Some(Errno::EFAULT),
                "{address:#x}"
            );
        }
        for address in [0, DATA - 1, DATA + 0x2fff, 0x1_4000_0000, u64::MAX - 3] {
            assert_eq!(
                errno(WRITE, [STDOUT, address, 16]),
                Some(Errno::EFAULT),
                "{address:#x}"
            );
            assert_eq!(
                errno(LOG, [address, 16, 0]),
                Some(Errno::EFAULT),
                "{address:#x}"
            );
        }
    }

    #[test]
    fn handles_have_a_direction() {
        for handle in [STDOUT, STDERR, 3, u64::MAX] {
            assert_eq!(errno(READ, [handle, DATA, 16]), Some(Errno::EBADF));
        }
        for handle in [STDIN, 3, u64::MAX] {
            assert_eq!(errno(WRITE, [handle, DATA, 16]), Some(Errno::EBADF));
        }
    }

    #[test]
    fn unknown_hostcalls_say_so() {
        for number in [0, 5, u32::MAX] {
            assert_eq!(errno(number, [0, 0, 0]), Some(Errno::ENOSYS));
        }
    }

    #[test]
    fn long_transfers_are_cut() {
        assert_eq!(cut(u64::MAX, TRANSFER_BYTES_MAX), super::TRANSFER_BYTES);
        assert_eq!(cut(5, TRANSFER_BYTES_MAX), 5);
    }
}
