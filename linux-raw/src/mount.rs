#![expect(unsafe_code, reason = "makes the calls on mounts")]
//! File systems: making one, putting it in place, and leaving the old root.

use core::ffi::CStr;

use bitflags::bitflags;
use linux_raw_sys::general as sys;

use crate::arch;
use crate::arg::Arg;
use crate::called::{Called as _, Failed};
use crate::errno::Errno;
use crate::fd::{AsFd, OwnedFd};
use crate::nr;

/// What one `fsconfig` call does.
type Command = sys::fsconfig_command;

/// An optional path or name as an argument.
fn pointer(text: Option<&CStr>) -> Arg {
    text.map_or(Arg::NULL, |text| text.as_ptr().into())
}

/// Begins to make a file system of a type, such as `tmpfs`. Close-on-exec.
///
/// Since Linux 5.2.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN` in the mount namespace, `ENODEV` for an unknown type.
pub fn fsopen(kind: &CStr) -> Result<OwnedFd, Errno> {
    // SAFETY: the kernel reads the name up to its NUL, which `CStr` guarantees.
    let answer =
        unsafe { arch::syscall2(nr::FSOPEN, kind.as_ptr().into(), sys::FSOPEN_CLOEXEC.into()) };
    // SAFETY: fsopen answers with a descriptor it has just opened.
    unsafe { answer.fd() }
}

/// One `fsconfig` call.
fn fsconfig(
    context: impl AsFd,
    command: Command,
    key: Option<&CStr>,
    value: Option<&CStr>,
) -> Result<(), Errno> {
    // SAFETY: both texts are null or end with a NUL, and the kernel only reads them.
    let answer = unsafe {
        arch::syscall5(
            nr::FSCONFIG,
            context.as_fd().into(),
            (command as u32).into(),
            pointer(key),
            pointer(value),
            Arg::NULL,
        )
    };
    answer.done()
}

/// Sets a flag, such as `ro`, on a file system to be made. Since Linux 5.2.
///
/// # Errors
///
/// `EINVAL` if the type does not know it.
pub fn fsconfig_flag(context: impl AsFd, key: &CStr) -> Result<(), Errno> {
    fsconfig(context, Command::FSCONFIG_SET_FLAG, Some(key), None)
}

/// Sets a parameter, such as `size`, of a file system to be made. Since Linux 5.2.
///
/// # Errors
///
/// `EINVAL` if the type does not know it or the value.
pub fn fsconfig_string(context: impl AsFd, key: &CStr, value: &CStr) -> Result<(), Errno> {
    fsconfig(
        context,
        Command::FSCONFIG_SET_STRING,
        Some(key),
        Some(value),
    )
}

/// Makes the file system. Since Linux 5.2.
///
/// # Errors
///
/// `EPERM` if this type may not be made in this namespace, `EINVAL` for parameters that do not go
/// together.
pub fn fsconfig_create(context: impl AsFd) -> Result<(), Errno> {
    fsconfig(context, Command::FSCONFIG_CMD_CREATE, None, None)
}

bitflags! {
    /// What a mount forbids.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct MountAttrs: u32 {
        /// Writing.
        const RDONLY = sys::MOUNT_ATTR_RDONLY;
        /// Privileges from executables.
        const NOSUID = sys::MOUNT_ATTR_NOSUID;
        /// Devices.
        const NODEV = sys::MOUNT_ATTR_NODEV;
        /// Executing.
        const NOEXEC = sys::MOUNT_ATTR_NOEXEC;
    }
}

/// A detached mount of the file system that was made, close-on-exec. Since Linux 5.2.
///
/// # Errors
///
/// `EPERM` without the privilege, `EBUSY` if the file system was not made yet.
pub fn fsmount(context: impl AsFd, attrs: MountAttrs) -> Result<OwnedFd, Errno> {
    // SAFETY: nothing is passed but numbers.
    let answer = unsafe {
        arch::syscall3(
            nr::FSMOUNT,
            context.as_fd().into(),
            sys::FSMOUNT_CLOEXEC.into(),
            attrs.bits().into(),
        )
    };
    // SAFETY: fsmount answers with a descriptor it has just opened.
    unsafe { answer.fd() }
}

/// Puts a detached mount at a path. Since Linux 5.2.
///
/// # Errors
///
/// `EPERM` without the privilege, `ENOENT`, `EINVAL` if the place is in no mount of this
/// namespace, `ENOTDIR`.
pub fn move_mount(mount: impl AsFd, to: &CStr) -> Result<(), Errno> {
    // SAFETY: both paths end with a NUL, and the kernel only reads them.
    let answer = unsafe {
        arch::syscall5(
            nr::MOVE_MOUNT,
            mount.as_fd().into(),
            c"".as_ptr().into(),
            sys::AT_FDCWD.into(),
            to.as_ptr().into(),
            sys::MOVE_MOUNT_F_EMPTY_PATH.into(),
        )
    };
    answer.done()
}

bitflags! {
    /// How [`mount`] mounts.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct MountFlags: u32 {
        /// No writing.
        const RDONLY = sys::MS_RDONLY;
        /// No privileges from executables.
        const NOSUID = sys::MS_NOSUID;
        /// No devices.
        const NODEV = sys::MS_NODEV;
        /// No executing.
        const NOEXEC = sys::MS_NOEXEC;
        /// Changes the flags of a mount.
        const REMOUNT = sys::MS_REMOUNT;
        /// Shows a directory in a second place.
        const BIND = sys::MS_BIND;
        /// With everything below.
        const REC = sys::MS_REC;
        /// Takes no part in what is mounted elsewhere.
        const PRIVATE = sys::MS_PRIVATE;
    }
}

/// Mounts, remounts, binds, or sets propagation, as the flags say.
///
/// Since Linux 1.0.
///
/// # Errors
///
/// `EPERM` without the privilege, `ENOENT`, `ENODEV` for an unknown type, `EINVAL`, `EBUSY`.
pub fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: MountFlags,
    data: Option<&CStr>,
) -> Result<(), Errno> {
    // SAFETY: all texts are null or end with a NUL, and the kernel only reads them.
    let answer = unsafe {
        arch::syscall5(
            nr::MOUNT,
            pointer(source),
            target.as_ptr().into(),
            pointer(kind),
            flags.bits().into(),
            pointer(data),
        )
    };
    answer.done()
}

/// Makes `new` the root and puts the old one at `old`; both `.` stacks it on top of itself.
///
/// Since Linux 2.4.
///
/// # Errors
///
/// `EINVAL` if `new` is no mount, `old` is not below it, or a parent is shared; `EBUSY`, `EPERM`.
pub fn pivot_root(new: &CStr, old: &CStr) -> Result<(), Errno> {
    // SAFETY: both paths end with a NUL, and the kernel only reads them.
    let answer =
        unsafe { arch::syscall2(nr::PIVOT_ROOT, new.as_ptr().into(), old.as_ptr().into()) };
    answer.done()
}

/// Takes a mount and everything below it out of sight; it goes when nobody uses it any more.
///
/// Since Linux 2.4.11.
///
/// # Errors
///
/// `EINVAL` if it is no mount or one that came locked with its namespace, `EPERM`, `ENOENT`.
pub fn umount_detach(target: &CStr) -> Result<(), Errno> {
    // SAFETY: the path ends with a NUL, and the kernel only reads it.
    let answer =
        unsafe { arch::syscall2(nr::UMOUNT2, target.as_ptr().into(), sys::MNT_DETACH.into()) };
    answer.done()
}

/// Changes the working directory to one that is open.
///
/// Since Linux 1.0.
///
/// # Errors
///
/// `ENOTDIR`, `EACCES`.
pub fn fchdir(directory: impl AsFd) -> Result<(), Errno> {
    // SAFETY: nothing is passed but a descriptor.
    let answer = unsafe { arch::syscall1(nr::FCHDIR, directory.as_fd().into()) };
    answer.done()
}

/// Mounts a read-only tmpfs without an inode to spare over the root, makes it the root, and lets
/// go of the old one. The working directory is the new root.
///
/// Ten calls, none of which is undone if a later one fails. They need a mount namespace of one's
/// own, and `CAP_SYS_ADMIN` in the user namespace that it belongs to. Since Linux 5.2.
///
/// # Errors
///
/// The call that failed, and what it answered: `EPERM` of the first without the privilege, and
/// whatever else the calls are documented with above.
pub fn empty_root() -> Result<(), Failed> {
    let context = fsopen(c"tmpfs").called(nr::FSOPEN)?;
    fsconfig_string(&context, c"size", c"4096").called(nr::FSCONFIG)?;
    fsconfig_string(&context, c"nr_inodes", c"1").called(nr::FSCONFIG)?;
    fsconfig_flag(&context, c"ro").called(nr::FSCONFIG)?;
    fsconfig_create(&context).called(nr::FSCONFIG)?;
    let attributes =
        MountAttrs::RDONLY | MountAttrs::NOSUID | MountAttrs::NODEV | MountAttrs::NOEXEC;
    let root = fsmount(&context, attributes).called(nr::FSMOUNT)?;
    move_mount(&root, c"/").called(nr::MOVE_MOUNT)?;
    fchdir(&root).called(nr::FCHDIR)?;
    // The idiom of pivot_root(2): the old root is stacked on the new one, then detached.
    pivot_root(c".", c".").called(nr::PIVOT_ROOT)?;
    umount_detach(c".").called(nr::UMOUNT2)
}
