//! Which processes there are, and which of the new ones are this audit's.

use std::collections::BTreeSet;
use std::fs;

/// One process, as `stat` shows it (proc_pid_stat(5)).
#[derive(Clone, Debug)]
struct Process {
    number: u32,
    /// When it started: numbers come again.
    start: u64,
    parent: u32,
    session: u32,
    has_ended: bool,
    is_worker: bool,
}

impl Process {
    fn parse(stat: &str) -> Option<Self> {
        // The name is in parentheses and may hold anything; the state is the third field.
        let (head, tail) = stat.rsplit_once(") ")?;
        let (number, name) = head.split_once(" (")?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        let field = |index: usize| fields.get(index - 3).copied();
        Some(Self {
            number: number.parse().ok()?,
            start: field(22)?.parse().ok()?,
            parent: field(4)?.parse().ok()?,
            session: field(6)?.parse().unwrap_or(0),
            has_ended: matches!(field(3)?, "Z" | "X"),
            is_worker: name == "cellwall-worker",
        })
    }
}

/// All processes that `/proc` shows.
pub(super) struct Processes {
    all: Vec<Process>,
    us: u32,
}

/// Processes that were not there before and have not ended, by number.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct New {
    /// Those that descend from this one, or are left by its workers.
    pub(super) ours: Vec<u32>,
    /// Workers without a host: perhaps of another host that was killed.
    pub(super) strangers: Vec<u32>,
}

impl Processes {
    /// Those of now; nothing where `/proc` does not even show this process.
    pub(super) fn now() -> Option<Self> {
        let entries = fs::read_dir("/proc").ok()?.flatten();
        let all = entries.filter_map(|entry| {
            let _: u32 = entry.file_name().to_str()?.parse().ok()?;
            Process::parse(&fs::read_to_string(entry.path().join("stat")).ok()?)
        });
        let found = Self {
            all: all.collect(),
            us: std::process::id(),
        };
        found.named(found.us).is_some().then_some(found)
    }

    fn named(&self, number: u32) -> Option<&Process> {
        self.all.iter().find(|process| process.number == number)
    }

    /// This process's parent, and so on: the one that adopts orphans is among them
    /// (PR_SET_CHILD_SUBREAPER(2const)), or it is process 1.
    fn ancestors(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::from([1]);
        let mut next = self.named(self.us);
        while let Some(process) = next {
            // Processes may have gone while they were read: no cycle must keep us.
            if !found.insert(process.parent) && process.parent != 1 {
                break;
            }
            next = (process.parent > 1)
                .then(|| self.named(process.parent))
                .flatten();
        }
        found
    }

    fn descendants(&self) -> BTreeSet<u32> {
        let mut ours = vec![self.us];
        let mut next = 0;
        while let Some(parent) = ours.get(next).copied() {
            let children = self.all.iter().filter(|process| process.parent == parent);
            let known: Vec<u32> = children
                .map(|child| child.number)
                .filter(|child| !ours.contains(child))
                .collect();
            ours.extend(known);
            next += 1;
        }
        ours.into_iter().collect()
    }

    /// What there is beside those of `before`. `workers` are the numbers of this audit's workers:
    /// each has a session of its own, which its children have too.
    pub(super) fn since(&self, before: &Self, workers: &BTreeSet<u32>) -> New {
        let key = |process: &Process| (process.number, process.start);
        let old: BTreeSet<(u32, u64)> = before.all.iter().map(key).collect();
        let descendants = self.descendants();
        let ancestors = self.ancestors();
        let mut new = New::default();
        for process in &self.all {
            if process.has_ended || old.contains(&key(process)) {
                continue;
            }
            let number = process.number;
            let is_left = ancestors.contains(&process.parent);
            let is_known = workers.contains(&number) || workers.contains(&process.session);
            if descendants.contains(&number) || (is_left && is_known) {
                new.ours.push(number);
            } else if is_left && process.is_worker {
                new.strangers.push(number);
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{New, Process, Processes};

    fn stat(number: u32, name: &str, state: &str, parent: u32, session: u32) -> Process {
        let zeros = "0 ".repeat(15);
        let text = format!("{number} ({name}) {state} {parent} 0 {session} {zeros}77 0 0");
        Process::parse(&text).expect("a process")
    }

    fn processes(more: &[Process]) -> Processes {
        let mut all = vec![
            stat(1, "init", "S", 0, 1),
            stat(5, "a shell) (", "S", 1, 5),
            stat(9, "cellwall", "S", 5, 5),
        ];
        all.extend_from_slice(more);
        Processes { all, us: 9 }
    }

    #[test]
    fn only_new_live_processes_of_ours_are_told() {
        let worker = "cellwall-worker";
        let old = stat(20, worker, "S", 1, 20);
        let before = processes(std::slice::from_ref(&old));
        let now = processes(&[
            old,
            stat(21, worker, "Z", 1, 21),
            stat(22, worker, "S", 1, 22),
            stat(23, worker, "S", 5, 33),
            stat(24, "other", "S", 9, 5),
            stat(25, "another", "S", 24, 5),
            stat(26, "other", "Z", 9, 5),
            stat(27, "elsewhere", "S", 1, 27),
        ]);
        let new = now.since(&before, &BTreeSet::from([33]));
        let wanted = New {
            ours: vec![23, 24, 25],
            strangers: vec![22],
        };
        assert_eq!(new, wanted);
        assert_eq!(before.since(&before, &BTreeSet::new()), New::default());
    }

    #[test]
    fn this_process_is_among_them() {
        let now = Processes::now().expect("a whole /proc");
        assert!(now.named(std::process::id()).is_some_and(|us| us.start > 0));
    }
}
