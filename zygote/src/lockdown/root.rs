//! The root: an empty, read-only file system that nothing is mounted in.

use linux_raw::Errno;
use linux_raw::mount::{self, MountAttrs};

/// Mounts a tmpfs without an inode to spare over the root, makes it the root, and lets go of the
/// old one.
///
/// The mount is made inside because an unprivileged host may not make one (`fsopen` needs
/// CAP_SYS_ADMIN in the user namespace of the mount namespace). It follows the exec: an
/// `execveat` of a memfd after `pivot_root` fails with ENOENT on some kernels.
pub(crate) fn empty() -> Result<(), Errno> {
    let context = mount::fsopen(c"tmpfs")?;
    mount::fsconfig_string(&context, c"size", c"4096")?;
    mount::fsconfig_string(&context, c"nr_inodes", c"1")?;
    mount::fsconfig_flag(&context, c"ro")?;
    mount::fsconfig_create(&context)?;
    let attributes =
        MountAttrs::RDONLY | MountAttrs::NOSUID | MountAttrs::NODEV | MountAttrs::NOEXEC;
    let root = mount::fsmount(&context, attributes)?;
    mount::move_mount(&root, c"/")?;
    mount::fchdir(&root)?;
    // The idiom of pivot_root(2): the old root is stacked on the new one, then detached.
    mount::pivot_root(c".", c".")?;
    mount::umount_detach(c".")
}
