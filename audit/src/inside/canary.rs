//! What must not change while guests attack: the host, and another worker.

use std::collections::BTreeSet;
use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cellwall::{Config, Engine, Error, Instance, Interrupt};

use super::kit::{COPIES, Kit};
use super::processes::Processes;
use super::props::Facts;
use crate::late::retried;

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
    before: Vec<Fact>,
    processes: Option<Processes>,
    /// Workers of nobody that appeared meanwhile.
    strangers: Vec<u32>,
}

impl Canary {
    pub(super) fn new(config: &Config, kit: &Kit) -> Result<Self, Error> {
        let engine = retried(|| Engine::new(config))?;
        let module = kit.module(&engine)?;
        let mut sibling = retried(|| engine.instantiate(&module))?;
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
            processes: None,
            strangers: Vec::new(),
        };
        canary.sibling.run()?;
        canary.before = snapshot();
        canary.processes = Processes::now();
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

    /// Everything that is not as it was. `workers` are the numbers of the attackers' workers.
    pub(super) fn complaints(&mut self, workers: &BTreeSet<u32>) -> Vec<String> {
        let mut found = self.changes(workers);
        if let Err(why) = self.look_at_sibling() {
            found.push(why);
        }
        if black_box(&self.buffer).iter().any(|byte| *byte != PATTERN) {
            found.push("the host's memory was written".into());
        }
        found.extend(self.look_at_folder());
        found
    }

    /// What could not be looked at: neither now, or else that is a change, nor before.
    pub(super) fn unverified(&self) -> Option<String> {
        let mut unread: Vec<&str> = self.before.iter().filter_map(Fact::unread).collect();
        if self.processes.is_none() {
            unread.push("processes");
        }
        let mut reasons = Vec::new();
        if !unread.is_empty() {
            reasons.push(format!("/proc does not tell: {}", unread.join(", ")));
        }
        if self.folder.is_none() {
            let why = "no temporary folder could be made: nothing is known of files";
            reasons.push(why.to_owned());
        }
        if !self.strangers.is_empty() {
            let numbers = &self.strangers;
            reasons.push(format!(
                "workers without a host appeared, perhaps another host's: processes {numbers:?}"
            ));
        }
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// What of the host's state is different, once everything that ends has ended.
    fn changes(&mut self, workers: &BTreeSet<u32>) -> Vec<String> {
        let start = Instant::now();
        loop {
            let now = snapshot();
            let differing = self.before.iter().zip(&now).filter(|(old, new)| old != new);
            let mut changes: Vec<String> = differing
                .map(|(old, new)| format!("{}: {} was {}", old.what, new.text(), old.text()))
                .collect();
            match (&self.processes, Processes::now()) {
                (Some(before), Some(now)) => {
                    let new = now.since(before, workers);
                    if !new.ours.is_empty() {
                        changes.push(format!("processes that it started: {:?}", new.ours));
                    }
                    self.strangers = new.strangers;
                }
                (Some(_), None) => changes.push("/proc tells of processes no more".into()),
                _ => (),
            }
            let is_settled = changes.is_empty() && self.strangers.is_empty();
            if is_settled || start.elapsed() > SETTLES {
                return changes;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The sibling has its memory, and goes on in its loop where it was.
    fn look_at_sibling(&mut self) -> Result<(), String> {
        let err = |error: Error| format!("the sibling: {error}");
        let mut memory = vec![0; PATTERN_BYTES];
        self.sibling.read_into(COPIES, &mut memory).map_err(err)?;
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

/// Something about the host, if it can be read.
#[derive(Debug, PartialEq, Eq)]
struct Fact {
    what: &'static str,
    value: Option<String>,
}

impl Fact {
    fn text(&self) -> &str {
        self.value.as_deref().unwrap_or("unreadable")
    }

    /// Its name, if it could not be read.
    fn unread(&self) -> Option<&'static str> {
        self.value.is_none().then_some(self.what)
    }
}

/// The host as `/proc` shows it.
fn snapshot() -> Vec<Fact> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = |key: &str| {
        let mut lines = status.lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        value.map(|value| value.trim().to_owned())
    };
    let text = |path| fs::read_to_string(path).ok();
    let link = |path| Some(fs::read_link(path).ok()?.display().to_string());
    let descriptors = fs::read_dir("/proc/self/fd").map(Iterator::count);
    let mut all: Vec<_> = STATUS.iter().map(|key| (*key, line(key))).collect();
    all.extend([
        (
            "descriptors",
            descriptors.ok().map(|count| count.to_string()),
        ),
        ("folder", link("/proc/self/cwd")),
        ("root", link("/proc/self/root")),
        ("limits", text("/proc/self/limits")),
        ("mounts", text("/proc/self/mountinfo")),
        ("host name", text("/proc/sys/kernel/hostname")),
        ("user namespace", link("/proc/self/ns/user")),
        ("network namespace", link("/proc/self/ns/net")),
    ]);
    let fact = |(what, value)| Fact { what, value };
    all.into_iter().map(fact).collect()
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
        for fact in snapshot() {
            assert!(
                fact.value.is_some_and(|value| !value.is_empty()),
                "{}",
                fact.what
            );
        }
    }

    #[test]
    fn what_is_never_read_is_not_as_before() {
        let config = Config::default().tier(absence::tier());
        let mut canary = Canary::new(&config, &Kit::new()).expect("a worker");
        assert_eq!(canary.unverified(), None);
        canary.before[0].value = None;
        canary.processes = None;
        let why = canary.unverified().expect("a reason");
        assert!(why.contains("TracerPid, processes"), "{why}");
    }
}
