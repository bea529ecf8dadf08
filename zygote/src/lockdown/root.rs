//! The root: an empty, read-only file system that nothing is mounted in.

use linux_raw::mount::{self, MountAttrs};
use linux_raw::nr;
use vmctx::{Layer, Options};

use super::Wall;
use super::failed::{Called as _, Failed};

/// Empties the root, where we have a mount namespace.
pub(super) fn leave(wall: &mut Wall) -> Result<(), Failed> {
    if wall.has(Options::WITHOUT_NAMESPACES) {
        return Ok(());
    }
    empty()?;
    wall.up(Layer::EmptyRoot);
    Ok(())
}

/// Mounts a tmpfs without an inode to spare over the root, makes it the root, and lets go of the
/// old one.
///
/// The mount is made inside because an unprivileged host may not make one (`fsopen` needs
/// CAP_SYS_ADMIN in the user namespace of the mount namespace). It follows the exec: an
/// `execveat` of a memfd after `pivot_root` fails with ENOENT on some kernels.
fn empty() -> Result<(), Failed> {
    let context = mount::fsopen(c"tmpfs").called(nr::FSOPEN)?;
    mount::fsconfig_string(&context, c"size", c"4096").called(nr::FSCONFIG)?;
    mount::fsconfig_string(&context, c"nr_inodes", c"1").called(nr::FSCONFIG)?;
    mount::fsconfig_flag(&context, c"ro").called(nr::FSCONFIG)?;
    mount::fsconfig_create(&context).called(nr::FSCONFIG)?;
    let attributes =
        MountAttrs::RDONLY | MountAttrs::NOSUID | MountAttrs::NODEV | MountAttrs::NOEXEC;
    let root = mount::fsmount(&context, attributes).called(nr::FSMOUNT)?;
    mount::move_mount(&root, c"/").called(nr::MOVE_MOUNT)?;
    mount::fchdir(&root).called(nr::FCHDIR)?;
    // The idiom of pivot_root(2): the old root is stacked on the new one, then detached.
    mount::pivot_root(c".", c".").called(nr::PIVOT_ROOT)?;
    mount::umount_detach(c".").called(nr::UMOUNT2)
}
