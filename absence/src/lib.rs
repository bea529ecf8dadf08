//! What a machine may lack, for tests: listed, checked against what is there, and counted; and the
//! tier that they are run for.
//!
//! ```no_run
//! # fn uring() -> Result<(), &'static str> { Ok(()) }
//! if let Err(why) = uring() {
//!     return absence::absent("io_uring", why);
//! }
//! ```

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use cellwall::{Cgroup, Feature, Kernel, Tier};
use linux_raw::cred::Capability;
use linux_raw::{landlock, process};

/// The list: the only absences that a test may meet.
const LIST: &str = include_str!("../absences.txt");

/// Names a file that every absence is appended to, so that a run can count them: the output of a
/// test that passes is not shown.
pub const RECORD: &str = "CELLWALL_ABSENCES";

/// Names the tier that the tests are run for.
pub const TIER: &str = "CELLWALL_TEST_TIER";

/// Reports that a test cannot look at `key` on this machine, because of what it `found`.
///
/// # Panics
///
/// Fails the test if the key is not listed in `absence/absences.txt`, and if the feature is there
/// after all: then the test should have run.
pub fn absent(key: &str, found: impl Display) {
    assert!(
        is_listed(key),
        "\"{key}\" is not listed in absence/absences.txt: {found}"
    );
    assert!(
        !is_present(key),
        "\"{key}\" is there, so nothing may be skipped for it: {found}"
    );
    // One line each: whoever reads them counts lines.
    let found = found.to_string().trim_end().replace('\n', "; ");
    let line = format!("ABSENT {key}: {found}\n");
    print!("{line}");
    if let Some(path) = std::env::var_os(RECORD) {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let recorded = file.and_then(|mut file| file.write_all(line.as_bytes()));
        recorded.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// The tier that the tests are run for: `cargo xtask suite --container` asks for the weaker one,
/// where a container's profile forbids the full one.
///
/// # Panics
///
/// For a name that is no tier's.
#[must_use]
pub fn tier() -> Tier {
    match std::env::var(TIER) {
        Err(_) => Tier::Full,
        Ok(name) if name == Tier::WithoutNamespaces.name() => Tier::WithoutNamespaces,
        Ok(name) => panic!("{TIER}={name}: no such tier"),
    }
}

fn is_listed(key: &str) -> bool {
    LIST.lines()
        .filter(|line| !line.starts_with('#'))
        .any(|line| line.split_whitespace().next() == Some(key))
}

/// Whether what is behind a key is there: a kernel's feature by the probe or, where that knows only
/// the whole of which this is a part, by asking the kernel; a tool by starting it.
fn is_present(key: &str) -> bool {
    match key {
        "c-compiler" => starts("cc"),
        "own-cgroup" => own_cgroup("absence").is_some_and(|made| std::fs::remove_dir(made).is_ok()),
        "cgroup-controllers" => {
            limited_cgroup("absence").is_some_and(|made| std::fs::remove_dir(made).is_ok())
        }
        "terminal" => std::fs::exists("/dev/ptmx").unwrap_or(false),
        "ksm" => linux_raw::prctl::get_memory_merge().is_ok(),
        "ports" => linux_raw::ports::give_up_level().is_ok(),
        "root" => process::geteuid() == 0,
        "two-cpus" => std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1),
        "full-tier" => tier() == Tier::Full,
        "cap-setgid" => has(Capability::SETGID),
        "cap-sys-nice" => has(Capability::from_raw(23)),
        "cap-sys-resource" => has(Capability::from_raw(24)),
        "cap-sys-rawio" => has(Capability::from_raw(17)),
        "cap-sys-ptrace" => has(SYS_PTRACE),
        "workers-in-proc" => hidden_workers().is_none(),
        "avx2" => is_x86_feature_detected!("avx2"),
        "avx512f" => is_x86_feature_detected!("avx512f"),
        "cmpxchg16b" => is_x86_feature_detected!("cmpxchg16b"),
        "mptcp" => std::fs::exists("/proc/sys/net/mptcp").unwrap_or(false),
        "vsock" => std::fs::exists("/dev/vsock").unwrap_or(false),
        "private-mounts" => !mounts_are_shared(),
        // A test has just tried to make it so.
        "swap" => std::fs::read_to_string("/proc/swaps").is_ok_and(|list| list.lines().count() > 1),
        feature => {
            if let Some(version) = feature.strip_prefix("landlock-") {
                let version: u32 = version.parse().expect("a version of Landlock");
                return landlock::abi().is_ok_and(|abi| abi >= version);
            }
            let known = Feature::named(feature);
            let known = known.unwrap_or_else(|| panic!("the probe knows no \"{feature}\""));
            Kernel::probe().has(known)
        }
    }
}

const SYS_PTRACE: Capability = Capability::from_raw(19);

/// What keeps this process from seeing its workers in `/proc`, if anything does: they are not
/// dumpable, and so hidden from whoever may not trace them (proc(5), `hidepid`).
///
/// # Panics
///
/// Without `/proc`.
#[must_use]
pub fn hidden_workers() -> Option<String> {
    if has(SYS_PTRACE) {
        return None;
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("/proc");
    // What was mounted last is seen.
    let mut proc = mounts.lines().rev().map(|line| line.split(' '));
    let mut proc = proc.find(|words| words.clone().nth(1) == Some("/proc"))?;
    let option = proc
        .nth(3)?
        .split(',')
        .find(|option| option.starts_with("hidepid="))?;
    (!["hidepid=0", "hidepid=off"].contains(&option)).then(|| format!("/proc has {option}"))
}

/// Whether this thread has a capability.
fn has(capability: Capability) -> bool {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("/proc");
    let mut lines = status.lines();
    let effective = lines.find_map(|line| line.strip_prefix("CapEff:"));
    let effective = u64::from_str_radix(effective.expect("CapEff").trim(), 16);
    effective.expect("a hexadecimal number") & capability.bit() != 0
}

/// Makes an empty cgroup of version 2, whose folder is the caller's to remove, if this process may:
/// in the root of all, or beside or in its own group, where a part of the tree is its user's.
#[must_use]
pub fn own_cgroup(name: &str) -> Option<PathBuf> {
    Cgroup::places().into_iter().find_map(|place| {
        let folder = place.join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).ok()?;
        Some(folder)
    })
}

/// The same with limits on memory, processes and CPU time, if such groups are made here.
#[must_use]
pub fn limited_cgroup(name: &str) -> Option<PathBuf> {
    let folder = own_cgroup(name)?;
    let has = std::fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    let has: Vec<&str> = has.split_whitespace().collect();
    if ["cpu", "memory", "pids"]
        .iter()
        .all(|wanted| has.contains(wanted))
    {
        return Some(folder);
    }
    // It is empty, and ours.
    let _ = std::fs::remove_dir(folder);
    None
}

/// Whether a mount that is made in the temporary folder is passed on to other namespaces.
#[must_use]
pub fn mounts_are_shared() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let folder = std::env::temp_dir();
    // The fifth field is where it is mounted, the optional ones say how (proc_pid_mountinfo(5)).
    let point = |line: &&str| line.split(' ').nth(4).unwrap_or_default().to_owned();
    mounts
        .lines()
        .filter(|line| folder.starts_with(point(line)))
        .max_by_key(|line| point(line).len())
        .is_some_and(|line| line.contains(" shared:"))
}

fn starts(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
