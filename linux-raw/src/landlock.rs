#![expect(unsafe_code, reason = "makes the Landlock calls")]
//! Landlock: giving up files, ports and other processes, for good and without privileges.
//!
//! A kernel says which version of the interface it has ([`abi`]), [`Rights::known`] which rights
//! that version has. A ruleset made of them denies each right it names, since no rules that allow
//! something can be added here.
//!
//! Versions, and the bits that no generated name has yet, are those of the kernel's
//! `include/uapi/linux/landlock.h` and `Documentation/userspace-api/landlock.rst`. Linux 7.3
//! has version 11, which adds no right.

use core::mem::offset_of;

use bitflags::bitflags;
use linux_raw_sys::landlock as sys;

use crate::arch;
use crate::arg::Arg;
use crate::errno::Errno;
use crate::fd::{AsFd, OwnedFd};
use crate::nr;

bitflags! {
    /// What can be done with files. Descriptors that are open already stay usable.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct AccessFs: u64 {
        /// Executing a file.
        const EXECUTE = sys::LANDLOCK_ACCESS_FS_EXECUTE as u64;
        /// Opening a file for writing.
        const WRITE_FILE = sys::LANDLOCK_ACCESS_FS_WRITE_FILE as u64;
        /// Opening a file for reading.
        const READ_FILE = sys::LANDLOCK_ACCESS_FS_READ_FILE as u64;
        /// Opening or listing a directory.
        const READ_DIR = sys::LANDLOCK_ACCESS_FS_READ_DIR as u64;
        /// Removing or renaming an empty directory.
        const REMOVE_DIR = sys::LANDLOCK_ACCESS_FS_REMOVE_DIR as u64;
        /// Removing or renaming a file.
        const REMOVE_FILE = sys::LANDLOCK_ACCESS_FS_REMOVE_FILE as u64;
        /// Making a character device.
        const MAKE_CHAR = sys::LANDLOCK_ACCESS_FS_MAKE_CHAR as u64;
        /// Making a directory.
        const MAKE_DIR = sys::LANDLOCK_ACCESS_FS_MAKE_DIR as u64;
        /// Making a regular file.
        const MAKE_REG = sys::LANDLOCK_ACCESS_FS_MAKE_REG as u64;
        /// Making a UNIX socket.
        const MAKE_SOCK = sys::LANDLOCK_ACCESS_FS_MAKE_SOCK as u64;
        /// Making a named pipe.
        const MAKE_FIFO = sys::LANDLOCK_ACCESS_FS_MAKE_FIFO as u64;
        /// Making a block device.
        const MAKE_BLOCK = sys::LANDLOCK_ACCESS_FS_MAKE_BLOCK as u64;
        /// Making a symbolic link.
        const MAKE_SYM = sys::LANDLOCK_ACCESS_FS_MAKE_SYM as u64;
        /// Linking or renaming between directories; denied by every ruleset. Version 2.
        const REFER = sys::LANDLOCK_ACCESS_FS_REFER as u64;
        /// Truncating a file. Version 3.
        const TRUNCATE = sys::LANDLOCK_ACCESS_FS_TRUNCATE as u64;
        /// `ioctl` on a device that is opened from here on. Version 5.
        const IOCTL_DEV = sys::LANDLOCK_ACCESS_FS_IOCTL_DEV as u64;
        /// Reaching a UNIX socket by its path. Version 9.
        const RESOLVE_UNIX = 1 << 16;
    }
}

bitflags! {
    /// What can be done with ports.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct AccessNet: u64 {
        /// Binding a TCP socket. Version 4.
        const BIND_TCP = sys::LANDLOCK_ACCESS_NET_BIND_TCP as u64;
        /// Connecting a TCP socket. Version 4.
        const CONNECT_TCP = sys::LANDLOCK_ACCESS_NET_CONNECT_TCP as u64;
        /// Binding a UDP socket, as a first datagram does by itself. Version 10.
        const BIND_UDP = 1 << 2;
        /// Connecting a UDP socket, or sending a datagram to an address. Version 10.
        const CONNECT_SEND_UDP = 1 << 3;
    }
}

bitflags! {
    /// What stays within the processes that the same ruleset restricts.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Scope: u64 {
        /// Connecting to an abstract UNIX socket. Version 6.
        const ABSTRACT_UNIX_SOCKET = sys::LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET as u64;
        /// Sending a signal. Version 6.
        const SIGNAL = sys::LANDLOCK_SCOPE_SIGNAL as u64;
    }
}

bitflags! {
    /// How [`restrict_self`] restricts.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct RestrictFlags: u32 {
        /// Does not log what this program is denied. Version 7.
        const LOG_SAME_EXEC_OFF = sys::LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF;
        /// Logs what a program that is exec'd is denied. Version 7.
        const LOG_NEW_EXEC_ON = sys::LANDLOCK_RESTRICT_SELF_LOG_NEW_EXEC_ON;
        /// Does not log what later rulesets deny. Version 7.
        const LOG_SUBDOMAINS_OFF = sys::LANDLOCK_RESTRICT_SELF_LOG_SUBDOMAINS_OFF;
        /// All threads of the process, not the calling one alone. Version 8.
        const TSYNC = 1 << 3;
    }
}

/// Rights that a ruleset denies (`struct landlock_ruleset_attr`, as of version 6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Rights {
    /// On files.
    pub fs: AccessFs,
    /// On ports. Kernels have it since version 4.
    pub net: AccessNet,
    /// Beyond the restricted processes. Kernels have it since version 6.
    pub scoped: Scope,
}

same_layout!(Rights, sys::landlock_ruleset_attr:
    fs = handled_access_fs,
    net = handled_access_net,
    scoped = scoped,
);

impl Rights {
    /// The newest version whose rights are known here.
    pub const NEWEST_ABI: u32 = 11;

    /// All rights of a version. A version that is newer than [`Self::NEWEST_ABI`] has those of
    /// that one, version 0 has none.
    #[must_use]
    pub const fn known(abi: u32) -> Self {
        let (fs, net, scoped) = match abi {
            0 => (0, 0, 0),
            1 => (13, 0, 0), // Linux 5.13
            2 => (14, 0, 0), // 5.19
            3 => (15, 0, 0), // 6.2
            4 => (15, 2, 0), // 6.7
            5 => (16, 2, 0), // 6.10
            // 6.12; version 7 (6.15) adds flags of logs, version 8 (7.0) that of threads.
            6..=8 => (16, 2, 2),
            9 => (17, 2, 2), // 7.1
            // 7.2; version 11 (7.3) adds a flag and what is not logged.
            _ => (17, 4, 2),
        };
        // Each version's new rights have the next bits.
        Self {
            fs: AccessFs::from_bits_retain(first_bits(fs)),
            net: AccessNet::from_bits_retain(first_bits(net)),
            scoped: Scope::from_bits_retain(first_bits(scoped)),
        }
    }

    /// How much of the struct a kernel must know for these rights.
    const fn bytes(&self) -> usize {
        if !self.scoped.is_empty() {
            size_of::<Self>()
        } else if !self.net.is_empty() {
            offset_of!(Self, scoped)
        } else {
            offset_of!(Self, net)
        }
    }
}

/// So many bits from the lowest one on, at most 63.
const fn first_bits(count: u32) -> u64 {
    (1 << count) - 1
}

/// The operation that answers the version (`LANDLOCK_CREATE_RULESET_VERSION`).
pub const CREATE_RULESET_VERSION: u32 = sys::LANDLOCK_CREATE_RULESET_VERSION;

/// The version of Landlock that the kernel has, 1 at least.
///
/// Since Linux 5.13.
///
/// # Errors
///
/// `ENOSYS` on a kernel that is older or built without, `EOPNOTSUPP` if it was not turned on at
/// boot.
pub fn abi() -> Result<u32, Errno> {
    // SAFETY: with this flag the kernel wants no struct and answers a number.
    let answer = unsafe {
        arch::syscall3(
            nr::LANDLOCK_CREATE_RULESET,
            Arg::NULL,
            Arg::NULL,
            CREATE_RULESET_VERSION.into(),
        )
    };
    answer.word()
}

/// Makes a ruleset that denies these rights, to be put in force by [`restrict_self`].
/// Close-on-exec.
///
/// Since Linux 5.13. The kernel is told about as little as these rights need, so an older one
/// takes them if it has them all.
///
/// # Errors
///
/// `EINVAL` for a right that the kernel does not have, `E2BIG` for one of a kind that it does not
/// have, `ENOMSG` if there is none at all; `ENOSYS` and `EOPNOTSUPP` as with [`abi`]; `EMFILE`,
/// `ENOMEM`.
pub fn create_ruleset(rights: &Rights) -> Result<OwnedFd, Errno> {
    // SAFETY: the kernel reads at most as many bytes of the struct, which has them.
    let answer = unsafe {
        arch::syscall3(
            nr::LANDLOCK_CREATE_RULESET,
            (&raw const *rights).into(),
            rights.bytes().into(),
            Arg::NULL,
        )
    };
    // SAFETY: without flags the call answers with a descriptor it has just opened.
    unsafe { answer.fd() }
}

/// Restricts this thread and what it makes by a ruleset, for good. Rulesets in force before stay
/// so.
///
/// Since Linux 5.13.
///
/// # Errors
///
/// `EPERM` without [`set_no_new_privs`](crate::prctl::set_no_new_privs) or `CAP_SYS_ADMIN`,
/// `E2BIG` if 16 rulesets are in force already (64 before Linux 5.19), `EINVAL` for a flag that
/// the kernel does not have, `EBADF` and `EBADFD` for what is not a ruleset, `ENOSYS` and
/// `EOPNOTSUPP` as with [`abi`], `ENOMEM`.
pub fn restrict_self(ruleset: impl AsFd, flags: RestrictFlags) -> Result<(), Errno> {
    // SAFETY: nothing is passed but numbers; abilities are taken away, memory stays as it is.
    let answer = unsafe {
        arch::syscall2(
            nr::LANDLOCK_RESTRICT_SELF,
            ruleset.as_fd().into(),
            flags.bits().into(),
        )
    };
    answer.done()
}

#[cfg(test)]
mod tests {
    use super::{AccessFs, AccessNet, Rights, Scope};

    #[test]
    fn every_version_keeps_the_rights_of_the_one_before() {
        assert_eq!(Rights::known(0), Rights::default());
        for abi in 0..20 {
            let (older, newer) = (Rights::known(abi), Rights::known(abi + 1));
            assert!(newer.fs.contains(older.fs));
            assert!(newer.net.contains(older.net));
            assert!(newer.scoped.contains(older.scoped));
        }
        let first = Rights::known(1).fs;
        assert_eq!(
            first,
            AccessFs::all().difference(
                AccessFs::REFER | AccessFs::TRUNCATE | AccessFs::IOCTL_DEV | AccessFs::RESOLVE_UNIX
            )
        );
        let all = Rights {
            fs: AccessFs::all(),
            net: AccessNet::all(),
            scoped: Scope::all(),
        };
        assert_eq!(Rights::known(Rights::NEWEST_ABI), all);
        assert_eq!(Rights::known(u32::MAX), all);
        assert_ne!(Rights::known(9), all);
    }

    #[test]
    fn each_right_is_of_its_version() {
        let fs = |abi| Rights::known(abi).fs;
        assert_eq!(fs(2).difference(fs(1)), AccessFs::REFER);
        assert_eq!(fs(3).difference(fs(2)), AccessFs::TRUNCATE);
        assert_eq!(fs(5).difference(fs(4)), AccessFs::IOCTL_DEV);
        assert_eq!(fs(9).difference(fs(8)), AccessFs::RESOLVE_UNIX);
        let tcp = AccessNet::BIND_TCP | AccessNet::CONNECT_TCP;
        assert_eq!(Rights::known(3).net, AccessNet::empty());
        assert_eq!(Rights::known(4).net, tcp);
        assert_eq!(Rights::known(9).net, tcp);
        assert_eq!(Rights::known(10).net, AccessNet::all());
        assert_eq!(Rights::known(5).scoped, Scope::empty());
        assert_eq!(Rights::known(6).scoped, Scope::all());
        let bytes = [1, 3, 4, 5, 6, 10].map(|abi| Rights::known(abi).bytes());
        assert_eq!(bytes, [8, 8, 16, 16, 24, 24]);
    }
}
