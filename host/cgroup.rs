//! Where the kernel counts what workers take: a control group, and its limits.

use std::ffi::CString;
use std::fs;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linux_raw::Errno;
use linux_raw::fd::OwnedFd;
use linux_raw::io::{self, OpenFlags};

use crate::error::{Error, KernelResult as _, Stage, errno_of};

/// A control group of cgroup v2 in which all processes of an engine are born: its workers, and its
/// nursery.
///
/// The group is there already, made by whoever manages the machine's. Its limits are that one's
/// too, or those given here, which are written into it when the engine is made.
///
/// ```no_run
/// use cellwall::{Cgroup, Config, Engine};
///
/// let tenants = Cgroup::at("/sys/fs/cgroup/machine.slice/tenants")
///     .memory_max(512 << 20)
///     .pids_max(100);
/// let engine = Engine::new(&Config::default().cgroup(tenants))?;
/// # Ok::<(), cellwall::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Cgroup {
    place: Place,
    limits: Vec<(&'static str, String)>,
}

#[derive(Debug, Clone)]
enum Place {
    Path(PathBuf),
    Descriptor(Arc<std::os::fd::OwnedFd>),
}

impl Cgroup {
    /// The group of this directory.
    pub fn at(directory: impl AsRef<Path>) -> Self {
        Self::new(Place::Path(directory.as_ref().to_owned()))
    }

    /// The group of a descriptor of its directory, `O_PATH` or `O_RDONLY`.
    pub fn of(directory: std::os::fd::OwnedFd) -> Self {
        Self::new(Place::Descriptor(Arc::new(directory)))
    }

    /// The folders in which this process might make a group, most wanted first: the root of all
    /// that it sees, the one around its own group, and its own group. Whether it may depends on
    /// what was delegated to it (cgroups(7), "Delegation"): try.
    ///
    /// Reads `/proc`. Empty without cgroups of version 2, or if they are not mounted.
    ///
    /// ```no_run
    /// let group = cellwall::Cgroup::places().into_iter().find_map(|place| {
    ///     let group = place.join("tenants");
    ///     std::fs::create_dir(&group).ok()?;
    ///     Some(group)
    /// });
    /// println!("{group:?}");
    /// ```
    #[must_use]
    pub fn places() -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        places(&mounts, &groups)
    }

    fn new(place: Place) -> Self {
        let limits = Vec::new();
        Self { place, limits }
    }

    /// The most bytes that it may have (`memory.max`). Beyond, the kernel kills one of its
    /// processes: a worker, or the nursery, which takes all of its workers along. What a worker had
    /// counts until its instance is dropped. A [`Config::engine_memory_limit`] well below this one
    /// is met first, and nobody is killed.
    ///
    /// What the host writes into a guest's memory counts for the host.
    ///
    /// [`Config::engine_memory_limit`]: crate::Config::engine_memory_limit
    pub fn memory_max(self, bytes: u64) -> Self {
        self.limit("memory.max", bytes.to_string())
    }

    /// The most processes that it may have (`pids.max`): one for each worker, and one for the
    /// nursery. One more is an error of its start: `EAGAIN` of `clone3`.
    pub fn pids_max(self, processes: u64) -> Self {
        self.limit("pids.max", processes.to_string())
    }

    /// How many microseconds of CPU time all together may take in each period of so many
    /// (`cpu.max`): at least 1,000 in a period of at most 1,000,000.
    ///
    /// A guest that waits for the next period does not stop before: a
    /// [`Config::stop_timeout`](crate::Config::stop_timeout) of less than some periods kills it.
    pub fn cpu_max(self, microseconds: u64, period: u64) -> Self {
        self.limit("cpu.max", format!("{microseconds} {period}"))
    }

    fn limit(mut self, file: &'static str, value: String) -> Self {
        self.limits.push((file, value));
        self
    }

    /// Opens the directory and writes the limits.
    pub(crate) fn settle(&self) -> Result<OwnedFd, Error> {
        let path = match &self.place {
            Place::Path(path) => path.clone(),
            Place::Descriptor(directory) => {
                format!("/proc/self/fd/{}", directory.as_raw_fd()).into()
            }
        };
        for (file, value) in &self.limits {
            // Not `fs::write`, which would make a file where there is none.
            let limit = fs::File::options().write(true).open(path.join(file));
            limit
                .and_then(|mut limit| limit.write_all(value.as_bytes()))
                .map_err(|error| Error::kernel(Stage::Engine, LIMIT, errno_of(&error)))?;
        }
        let path = CString::new(path.into_os_string().into_vec());
        let path = path.map_err(|_| Errno::EINVAL).at(Stage::Engine, OPEN)?;
        let flags = OpenFlags::RDONLY | OpenFlags::CLOEXEC;
        io::open(&path, flags).at(Stage::Engine, OPEN)
    }
}

/// What [`Cgroup::settle`] calls its calls in errors.
pub(crate) const OPEN: &str = "open the cgroup";
pub(crate) const LIMIT: &str = "write a limit of the cgroup";

/// The places by what `/proc/self/mountinfo` and `/proc/self/cgroup` say.
fn places(mounts: &str, groups: &str) -> Vec<PathBuf> {
    // The type comes first after the dash, the fifth field is the place (proc_pid_mountinfo(5)).
    let mut mounts = mounts.lines().filter(|line| line.contains(" - cgroup2 "));
    let Some(root) = mounts.find_map(|line| line.split(' ').nth(4)) else {
        return Vec::new();
    };
    let root = Path::new(root);
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    // Above the root of a namespace nothing is within reach.
    let own = own.filter(|own| !own.is_empty() && !own.starts_with(".."));
    let own = own.map(|own| root.join(own));
    let around = own.as_deref().and_then(Path::parent);
    let around = around.filter(|around| *around != root);
    let all = [Some(root), around, own.as_deref()];
    all.into_iter().flatten().map(Path::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::places;

    #[test]
    fn places_are_at_the_root_beside_and_inside() {
        let mounts = "24 1 0:22 / /proc rw - proc proc rw\n\
                      30 1 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        let all = |mounts, groups| -> Vec<String> {
            let text = |place: PathBuf| place.display().to_string();
            places(mounts, groups).into_iter().map(text).collect()
        };
        let root = "/sys/fs/cgroup";
        assert_eq!(all(mounts, "0::/\n"), [root]);
        assert_eq!(all(mounts, "4:memory:/a\n"), [root]);
        assert_eq!(all(mounts, "0::/../b\n"), [root]);
        assert_eq!(all(mounts, "0::/a\n"), [root, "/sys/fs/cgroup/a"]);
        assert_eq!(
            all(mounts, "9:name=systemd:/x\n0::/u/s\n"),
            [root, "/sys/fs/cgroup/u", "/sys/fs/cgroup/u/s"]
        );
        assert!(all("", "0::/a\n").is_empty());
    }
}
