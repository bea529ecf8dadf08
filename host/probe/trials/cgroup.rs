//! Making a control group, and a process in it.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use linux_raw::Errno;
use linux_raw::fd::{AsFd as _, OwnedFd};
use linux_raw::io::{self, OpenFlags};
use linux_raw::process::CloneFlags;
use linux_raw::time::Timespec;

use super::NO_EFFECT;
use crate::cgroup::Cgroup;
use crate::probe::attempt::{Failure, Found, attempt, in_child_of};
use crate::probe::raw;

/// Controllers that a finding's value has a bit for, from the lowest on.
pub(in crate::probe) const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Two probes of one process must not meet.
static PROBES: AtomicU32 = AtomicU32::new(0);

/// Tries wherever there might be room for a group. What is allocated is so before the trial.
pub(super) fn try_places() -> Found {
    let number = PROBES.fetch_add(1, Ordering::Relaxed); // only to be unique
    let name = format!("cellwall-probe-{}-{number}", std::process::id());
    let mut last = Err(Errno::ENOENT.into());
    for place in Cgroup::places() {
        last = Group::new(&place.join(&name))
            .map_or(Err(Errno::EINVAL.into()), |group| group.try_it());
        if last.is_ok() {
            break;
        }
    }
    last
}

/// The folder of a group that a trial makes and removes, and files in it.
struct Group {
    folder: CString,
    controllers: CString,
    processes: CString,
}

impl Group {
    fn new(folder: &Path) -> Option<Self> {
        let name = |path: &Path| CString::new(path.as_os_str().as_bytes()).ok();
        Some(Self {
            folder: name(folder)?,
            controllers: name(&folder.join("cgroup.controllers"))?,
            processes: name(&folder.join("cgroup.procs"))?,
        })
    }

    fn try_it(&self) -> Found {
        let found = attempt(&|| {
            raw::make_folder(&self.folder)?;
            let found = self.use_it();
            let removed = self.remove();
            let found = found?;
            removed?;
            Ok(found)
        });
        if matches!(found, Err(Failure::Killed(_) | Failure::TimedOut)) {
            // The trial has left it, or had none yet.
            let _ = attempt(&|| Ok(self.remove().map(|()| None)?));
        }
        found
    }

    /// The controllers, if a process can be born there.
    fn use_it(&self) -> Found {
        let folder = open(&self.folder)?;
        in_child_of(CloneFlags::empty(), Some(folder.as_fd()), &|| {
            // The one process in the group reads that there is one.
            if read(&self.processes, &mut [0; 64])?.is_empty() {
                return Err(NO_EFFECT);
            }
            Ok(())
        })?;
        let mut text = [0; 256];
        Ok(Some(mask(read(&self.controllers, &mut text)?)))
    }

    /// A process leaves its group a moment after it was reaped.
    fn remove(&self) -> Result<(), Errno> {
        const PAUSE: Timespec = Timespec::from_millis(1);
        for _ in 0..1000 {
            match raw::remove_folder(&self.folder) {
                Err(Errno::EBUSY) => io::poll(&mut [], Some(PAUSE)).map(drop)?,
                result => return result,
            }
        }
        Err(Errno::EBUSY)
    }
}

fn open(path: &CStr) -> Result<OwnedFd, Errno> {
    io::open(path, OpenFlags::RDONLY | OpenFlags::CLOEXEC)
}

/// The beginning of a file, which is all of these.
fn read<'text>(path: &CStr, text: &'text mut [u8]) -> Result<&'text [u8], Errno> {
    let length = io::read(open(path)?, text)?;
    Ok(text.get(..length).unwrap_or_default())
}

/// The bits of the controllers in a list.
fn mask(list: &[u8]) -> u64 {
    let mut mask = 0;
    for name in list.split(|byte| byte.is_ascii_whitespace()) {
        let at = CONTROLLERS
            .iter()
            .position(|known| known.as_bytes() == name);
        mask |= at.map_or(0, |at| 1 << at);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::mask;

    #[test]
    fn each_controller_has_a_bit() {
        assert_eq!(mask(b""), 0);
        assert_eq!(
            mask(b"cpuset cpu io memory hugetlb pids rdma misc\n"),
            0b11111
        );
        assert_eq!(mask(b"memory pids\n"), 0b11000);
        assert_eq!(mask(b"memory_too\n"), 0);
    }
}
