//! What must not change while guests attack: the host, and another worker.

use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cellwall::{Config, Engine, Error, Instance, Interrupt};

use super::kit::{COPIES, Kit};
use super::props::Facts;

/// What ends is seen to end within this.
const SETTLES: Duration = Duration::from_secs(5);

/// The other worker's memory, and the host's, consist of these.
const PATTERN: u8 = 0xa7;
const PATTERN_BYTES: usize = 0x4000;

/// What the host's file says.
const CONTENTS: &str = "the host's own\n";

/// How many hostcalls the sibling has to make.
const HOSTCALLS: u64 = 1 << 40;

/// The host's own things, a worker that attacks nobody, and how they were before.
pub(super) struct Canary {
    sibling: Instance,
    _engine: Engine,
    /// Hostcalls that the sibling made.
    calls: u64,
    folder: Option<PathBuf>,
    buffer: Vec<u8>,
    before: Vec<(&'static str, String)>,
    processes: usize,
}

impl Canary {
    pub(super) fn new(config: &Config, kit: &Kit) -> Result<Self, Error> {
        let engine = Engine::new(config)?;
        let mut sibling = engine.instantiate(&kit.module(&engine)?)?;
        sibling.write(COPIES, &[PATTERN; PATTERN_BYTES])?;
        sibling.set_deadline(super::lane::PATIENT);
        sibling.call(kit.entry("flood"), &[HOSTCALLS])?;
        let mut canary = Self {
            sibling,
            _engine: engine,
            calls: 0,
            folder: folder(),
            buffer: black_box(vec![PATTERN; PATTERN_BYTES]),
            before: Vec::new(),
            processes: 0,
        };
        canary.sibling.run()?;
        canary.before = snapshot();
        canary.processes = descendants();
        Ok(canary)
    }

    /// What the attackers are told.
    pub(super) fn facts(&self) -> Facts {
        let folder = self.folder.as_ref().map(|path| path.to_string_lossy());
        Facts {
            host: std::process::id().into(),
            sibling: self.sibling.process_id().into(),
            host_buffer: self.buffer.as_ptr().addr() as u64,
            folder: folder.map(String::from).unwrap_or_default(),
        }
    }

    /// Everything that is not as it was.
    pub(super) fn complaints(&mut self) -> Vec<String> {
        let mut found = self.changes();
        if let Err(why) = self.look_at_sibling() {
            found.push(why);
        }
        if black_box(&self.buffer).iter().any(|byte| *byte != PATTERN) {
            found.push("the host's memory was written".into());
        }
        found.extend(self.look_at_folder());
        found
    }

    /// Why something could not be looked at.
    pub(super) fn unverified(&self) -> Option<&'static str> {
        let none = self.folder.is_none();
        none.then_some("no temporary folder could be made: nothing is known of files")
    }

    /// What of the host's state is different, once everything that ends has ended.
    fn changes(&self) -> Vec<String> {
        let start = Instant::now();
        loop {
            let now = snapshot();
            let differing = self.before.iter().zip(&now).filter(|(old, new)| old != new);
            let mut changes: Vec<String> = differing
                .map(|(old, new)| format!("{}: {} was {}", old.0, new.1, old.1))
                .collect();
            // There may be fewer: those of an earlier group that were still ending.
            let processes = descendants();
            if processes > self.processes {
                let before = self.processes;
                changes.push(format!(
                    "{processes} processes that it started; {before} before"
                ));
            }
            if changes.is_empty() || start.elapsed() > SETTLES {
                return changes;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The sibling has its memory, and goes on in its loop where it was.
    fn look_at_sibling(&mut self) -> Result<(), String> {
        let err = |error: Error| format!("the sibling: {error}");
        let mut memory = vec![0; PATTERN_BYTES];
        self.sibling.read(COPIES, &mut memory).map_err(err)?;
        if memory.iter().any(|byte| *byte != PATTERN) {
            return Err("the sibling's memory was written".into());
        }
        self.sibling.answer(0).map_err(err)?;
        self.calls += 1;
        match self.sibling.run().map_err(err)? {
            Interrupt::Hostcall(call) if call.args[0] == HOSTCALLS - self.calls => Ok(()),
            other => Err(format!("the sibling: {other}")),
        }
    }

    /// One file, as it was made.
    fn look_at_folder(&self) -> Vec<String> {
        let Some(folder) = &self.folder else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let names: Vec<_> = fs::read_dir(folder)
            .map(|entries| entries.flatten().map(|entry| entry.file_name()).collect())
            .unwrap_or_default();
        if names != ["file"] {
            found.push(format!("the host's folder holds {names:?}"));
        }
        let contents = fs::read_to_string(folder.join("file"));
        if !contents.is_ok_and(|contents| contents == CONTENTS) {
            found.push("the host's file was changed".into());
        }
        found
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            // What is left of it is a matter of the temporary folder's.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// A folder with one file, which everybody may write: what stops a guest is not its user.
fn folder() -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let name = format!("cellwall-audit-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    let file = folder.join("file");
    fs::create_dir(&folder).ok()?;
    fs::write(&file, CONTENTS).ok()?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).ok()?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).ok()?;
    Some(folder)
}

/// Lines of /proc/self/status that say who the host is and who looks into it.
const STATUS: &[&str] = &[
    "State",
    "TracerPid",
    "Uid",
    "Gid",
    "Threads",
    "SigBlk",
    "SigIgn",
    "CapEff",
    "NoNewPrivs",
    "Seccomp",
    "Cpus_allowed",
];

/// The host as `/proc` shows it.
fn snapshot() -> Vec<(&'static str, String)> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = |key: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(key));
        value.unwrap_or_default().trim().to_owned()
    };
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    let link = |path| {
        fs::read_link(path)
            .unwrap_or_default()
            .display()
            .to_string()
    };
    let descriptors = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let mut all: Vec<_> = STATUS.iter().map(|key| (*key, line(key))).collect();
    all.extend([
        ("descriptors", descriptors.to_string()),
        ("folder", link("/proc/self/cwd")),
        ("root", link("/proc/self/root")),
        ("limits", text("/proc/self/limits")),
        ("mounts", text("/proc/self/mountinfo")),
        ("host name", text("/proc/sys/kernel/hostname")),
        ("user namespace", link("/proc/self/ns/user")),
        ("network namespace", link("/proc/self/ns/net")),
    ]);
    all
}

/// How many processes descend from this one, and how many workers belong to nobody.
fn descendants() -> usize {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes: Vec<(u32, u32, bool)> = entries
        .filter_map(|entry| {
            let process: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name is in parentheses and may hold anything; state and parent follow it.
            let (head, tail) = stat.rsplit_once(") ")?;
            let parent: u32 = tail.split(' ').nth(1)?.parse().ok()?;
            Some((process, parent, head.ends_with("(cellwall-worker")))
        })
        .collect();
    let mut ours = vec![std::process::id()];
    let mut next = 0;
    while let Some(parent) = ours.get(next).copied() {
        let children = processes.iter().filter(|process| process.1 == parent);
        ours.extend(children.map(|process| process.0));
        next += 1;
    }
    let orphans = processes
        .iter()
        .filter(|process| process.2 && process.1 == 1);
    ours.len() - 1 + orphans.count()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cellwall::Config;

    use super::{Canary, Kit, snapshot};

    #[test]
    fn it_sees_what_a_guest_could_do() {
        let kit = Kit::new();
        let config = Config::default().tier(absence::tier());
        let mut canary = Canary::new(&config, &kit).expect("a worker");
        let folder = canary.folder.clone().expect("a temporary folder");
        assert_eq!(canary.look_at_folder(), [""; 0]);
        assert_eq!(canary.look_at_sibling(), Ok(()));

        fs::write(folder.join("new"), "").unwrap();
        fs::write(folder.join("file"), "a guest was here").unwrap();
        assert_eq!(canary.look_at_folder().len(), 2);

        canary.sibling.write(super::COPIES, &[0]).unwrap();
        assert!(canary.look_at_sibling().is_err());
        let worker = canary.facts().sibling.to_string();
        let kill = std::process::Command::new("kill")
            .args(["-KILL", &worker])
            .status();
        assert!(kill.unwrap().success());
        assert!(canary.look_at_sibling().is_err());
    }

    #[test]
    fn the_host_is_described() {
        let described = snapshot();
        assert!(
            described
                .iter()
                .all(|fact| fact.0 == "SigIgn" || !fact.1.is_empty())
        );
    }
}
