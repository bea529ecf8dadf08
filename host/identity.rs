//! Who the workers of an engine are: a user and a group, and never the kernel's user 0.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use linux_raw::process::{getegid, geteuid};

use crate::config::Config;
use crate::error::{Error, Misuse, Stage, errno_of};

/// The user and group of a root host's workers: `nobody`, as every distribution has it. It is also
/// what the kernel shows for a user that a namespace does not have (`kernel.overflowuid`).
const NOBODY: u32 = 65534;

/// Stands for "no change" in system calls, and is nobody's number.
const NO_ID: u32 = u32::MAX;

/// Who a worker is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    /// The user, in the host's user namespace.
    pub(crate) uid: u32,
    /// The group.
    pub(crate) gid: u32,
    /// Whether that is somebody else than the host: then it takes the host's powers to become so.
    pub(crate) is_another: bool,
}

impl Identity {
    /// Whom the configuration names; otherwise the host, or `nobody` if the host is root and its
    /// user namespace has that user.
    pub(crate) fn of(config: &Config) -> Result<Self, Error> {
        let (own_uid, own_gid) = (geteuid(), getegid());
        #[cfg(cellwall_layer_switch)]
        if config.left_out.has(vmctx::Layer::UserId) {
            return Ok(Self {
                uid: own_uid,
                gid: own_gid,
                is_another: false,
            });
        }
        let becomes_nobody = own_uid == 0 && outside("uid_map", NOBODY)?.is_some();
        let default = |own| if becomes_nobody { NOBODY } else { own };
        let uid = config.uid.unwrap_or(default(own_uid));
        let gid = config.gid.unwrap_or(default(own_gid));
        let refuse = |misuse| Err(Error::misuse(Stage::Engine, misuse));
        let asked = [config.uid, config.gid];
        if asked.contains(&Some(NO_ID)) {
            return refuse(Misuse::NoSuchUser);
        }
        if asked.contains(&Some(0)) || is_kernel_root(uid)? {
            return refuse(Misuse::RootWorker);
        }
        Ok(Self {
            uid,
            gid,
            is_another: (uid, gid) != (own_uid, own_gid),
        })
    }
}

/// Whether this user of the host's user namespace is the kernel's user 0.
///
/// The files of `/proc/sys` belong to that user in every namespace, and the kernel shows their
/// owner as the namespace names it (fs/proc/proc_sysctl.c); as 65534 if it does not have it.
fn is_kernel_root(uid: u32) -> Result<bool, Error> {
    let path = "/proc/sys/kernel/overflowuid";
    let owner = fs::metadata(path)
        .map_err(|error| Error::kernel(Stage::Engine, "stat /proc/sys", errno_of(&error)))?
        .uid();
    Ok(owner == uid && (uid != NOBODY || outside("uid_map", uid)? == Some(0)))
}

/// Whom the parent user namespace knows a user or group of the host's as, by a map of
/// `/proc/self`: the first id here, the first id there, how many (user_namespaces(7)).
fn outside(map: &str, id: u32) -> Result<Option<u32>, Error> {
    let text = fs::read_to_string(format!("/proc/self/{map}")).map_err(|error| {
        Error::kernel(Stage::Engine, "read /proc/self/uid_map", errno_of(&error))
    })?;
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map_while(|word| word.parse().ok());
        let [first, there, count]: [u32; 3] = [numbers.next()?, numbers.next()?, numbers.next()?];
        let at = id.checked_sub(first).filter(|at| *at < count)?;
        there.checked_add(at)
    };
    Ok(text.lines().find_map(line))
}
