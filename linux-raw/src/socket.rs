#![expect(unsafe_code, reason = "passes descriptors over sockets")]
//! Local sockets, and descriptors sent over them.

use core::mem::offset_of;

use linux_raw_sys::net as sys;

use crate::arch;
use crate::errno::Errno;
use crate::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use crate::nr;

/// `SOCK_CLOEXEC`, which the generated names lack: `O_CLOEXEC`.
const SOCK_CLOEXEC: u32 = linux_raw_sys::general::O_CLOEXEC;

/// A piece of a message (`struct iovec`).
#[repr(C)]
struct Part {
    base: *mut u8,
    length: usize,
}

same_layout!(Part, linux_raw_sys::general::iovec: base = iov_base, length = iov_len);

/// A control message with room for exactly one descriptor.
#[repr(C)]
struct Control {
    header: sys::cmsghdr,
    fd: RawFd,
}

/// What such a message says its length is: without the padding at its end. Given to the kernel as
/// the room there is, it also keeps a second descriptor from squeezing into that padding.
const CONTROL_BYTES: usize = offset_of!(Control, fd) + size_of::<RawFd>();

const _: () = assert!(offset_of!(Control, fd) == 16 && CONTROL_BYTES == 20);

impl Control {
    /// A message that carries `fd`.
    const fn new(fd: RawFd) -> Self {
        Self {
            header: sys::cmsghdr {
                cmsg_len: CONTROL_BYTES,
                cmsg_level: sys::SOL_SOCKET.cast_signed(),
                cmsg_type: sys::SCM_RIGHTS.cast_signed(),
            },
            fd,
        }
    }

    /// The descriptor it carries, if it is one at all.
    const fn fd(&self) -> Option<RawFd> {
        let sent = self.header.cmsg_len == CONTROL_BYTES
            && self.header.cmsg_level == sys::SOL_SOCKET.cast_signed()
            && self.header.cmsg_type == sys::SCM_RIGHTS.cast_signed();
        if sent { Some(self.fd) } else { None }
    }
}

/// Two sockets that are connected to each other, close-on-exec, and keep messages apart.
///
/// Since Linux 2.6.27.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`, `ENOMEM`.
pub fn socketpair_seqpacket() -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut pair: [RawFd; 2] = [-1; 2];
    // SAFETY: the kernel writes two descriptors there.
    let answer = unsafe {
        arch::syscall4(
            nr::SOCKETPAIR,
            sys::AF_UNIX.into(),
            (sys::SOCK_SEQPACKET | SOCK_CLOEXEC).into(),
            0u32.into(),
            pair.as_mut_ptr().into(),
        )
    };
    answer.done()?;
    let [one, other] = pair;
    // SAFETY: the call succeeded, so this descriptor is new and ours.
    let one = unsafe { OwnedFd::from_raw(one) };
    // SAFETY: the same for the second.
    let other = unsafe { OwnedFd::from_raw(other) };
    Ok((one, other))
}

/// Sends one message, and a descriptor with it if there is one. Raises no `SIGPIPE`.
///
/// A descriptor needs at least one byte to travel with.
///
/// Since Linux 2.2.
///
/// # Errors
///
/// `EAGAIN`, `EINTR`, `EPIPE` and `ECONNRESET` if the other end is gone, `EMSGSIZE`,
/// `ETOOMANYREFS` with too many descriptors on their way.
pub fn send_fd(
    socket: impl AsFd,
    payload: &[u8],
    fd: Option<BorrowedFd<'_>>,
) -> Result<usize, Errno> {
    let mut control = Control::new(fd.map_or(-1, BorrowedFd::as_raw));
    let mut part = Part {
        base: payload.as_ptr().cast_mut(),
        length: payload.len(),
    };
    let mut message = message(&mut part);
    if fd.is_some() {
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = CONTROL_BYTES;
    }
    // SAFETY: message, part and control are locals that outlive the call; the kernel only reads
    // them and the payload, whose length is its own.
    let answer = unsafe {
        arch::syscall3(
            nr::SENDMSG,
            socket.as_fd().into(),
            (&raw const message).into(),
            sys::MSG_NOSIGNAL.into(),
        )
    };
    answer.value()
}

/// A message that has come.
#[derive(Debug)]
pub struct Received {
    /// How many bytes of the buffer it filled; 0 without a descriptor is the end.
    pub bytes: usize,
    /// The descriptor that came with it, close-on-exec.
    pub fd: Option<OwnedFd>,
}

/// Receives one message, and the descriptor with it if there is one.
///
/// Since Linux 2.6.23, for the close-on-exec of what comes.
///
/// # Errors
///
/// `EAGAIN`, `EINTR`, `ECONNRESET`; `EMSGSIZE` if the message or its descriptors were more than
/// there is room for, in which case it is lost and its descriptors are closed.
pub fn recv_fd(socket: impl AsFd, buffer: &mut [u8]) -> Result<Received, Errno> {
    receive(socket, buffer, 0)
}

/// As [`recv_fd`], but does not wait for a message to come.
///
/// Since Linux 2.6.23.
///
/// # Errors
///
/// As [`recv_fd`]; `EAGAIN` if there is none.
pub fn try_recv_fd(socket: impl AsFd, buffer: &mut [u8]) -> Result<Received, Errno> {
    receive(socket, buffer, sys::MSG_DONTWAIT)
}

/// Receives one message, with `flags` beside those that are always set.
fn receive(socket: impl AsFd, buffer: &mut [u8], flags: u32) -> Result<Received, Errno> {
    let mut control = Control::new(-1);
    control.header.cmsg_len = 0;
    let mut part = Part {
        base: buffer.as_mut_ptr(),
        length: buffer.len(),
    };
    let mut message = message(&mut part);
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = CONTROL_BYTES;
    // SAFETY: message, part and control are locals that outlive the call; the kernel writes at
    // most the lengths they give, which are their own and the buffer's.
    let answer = unsafe {
        arch::syscall3(
            nr::RECVMSG,
            socket.as_fd().into(),
            (&raw mut message).into(),
            (sys::MSG_CMSG_CLOEXEC | flags).into(),
        )
    };
    let bytes = answer.value()?;
    // SAFETY: the kernel filled the control message in, so the descriptor is new and ours.
    let fd = control.fd().map(|fd| unsafe { OwnedFd::from_raw(fd) });
    if message.msg_flags & (sys::MSG_TRUNC | sys::MSG_CTRUNC) != 0 {
        return Err(Errno::EMSGSIZE); // dropping `fd` closes it
    }
    Ok(Received { bytes, fd })
}

/// A message of one part, to nobody in particular, with no control message.
fn message(part: &mut Part) -> sys::msghdr {
    sys::msghdr {
        msg_name: core::ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: core::ptr::from_mut(part).cast(),
        msg_iovlen: 1,
        msg_control: core::ptr::null_mut(),
        msg_controllen: 0,
        msg_flags: 0,
    }
}
