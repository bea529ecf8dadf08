//! The root: an empty, read-only file system that nothing is mounted in.

use linux_raw::called::Failed;
use linux_raw::mount;

/// Empties the root.
///
/// The mount is made inside because an unprivileged host may not make one (`fsopen` needs
/// CAP_SYS_ADMIN in the user namespace of the mount namespace). It follows the exec: an
/// `execveat` of a memfd after `pivot_root` fails with ENOENT on some kernels.
pub(super) fn empty() -> Result<(), Failed> {
    mount::empty_root()
}
