//! What a boot finds beside what is kept of the boots before.

use std::collections::{BTreeMap, BTreeSet};

use super::rows::{Feature, Kernel, Row};

/// Which boot is compared with what the file says.
#[derive(Clone, Copy)]
pub(super) struct Compared {
    /// It has run too few tests to say how many pass.
    pub(super) quick: bool,
    /// It was of another version of the same series.
    pub(super) stand_in: bool,
}

impl Kernel {
    /// What is in the file and was not found so, each in a sentence.
    pub(super) fn differences(&self, found: &Self, of: Compared) -> Vec<String> {
        let mut differences = Vec::new();
        let mut compare = |what: String, old: String, new: String| {
            if old != new {
                differences.push(format!("{what}: {new}, and not: {old}"));
            }
        };
        if !of.stand_in {
            let (kept, found) = (self.package.clone(), found.package.clone());
            compare("package".into(), kept, found);
        }
        compare(
            "users".into(),
            self.users.len().to_string(),
            found.users.len().to_string(),
        );
        for (old, new) in self.users.iter().zip(&found.users) {
            let (old, new) = (old.lines(of), new.lines(of));
            let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                let said = |lines: &BTreeMap<String, String>| {
                    lines.get(name).cloned().unwrap_or_else(|| "nothing".into())
                };
                compare(name.clone(), said(&old), said(&new));
            }
        }
        if of.quick {
            // It has run some of the tests, which cannot miss what all did not.
            for (old, new) in self.users.iter().zip(&found.users) {
                let missed = new.absent.iter().filter(|key| !old.absent.contains(key));
                let user = new.user;
                differences
                    .extend(missed.map(|key| format!("missed by tests as user {user}: {key}")));
            }
        } else {
            if found.left_out > self.left_out {
                let (old, new) = (self.left_out, found.left_out);
                differences.push(format!("tests left out: {new}, and not: {old}"));
            }
            let users = self.users.iter().zip(&found.users);
            differences.extend(users.flat_map(|(old, new)| old.more_than(new)));
        }
        differences
    }
}

impl Row {
    /// Each fact with a name that says whose it is.
    fn lines(&self, of: Compared) -> BTreeMap<String, String> {
        let user = self.user;
        let mut lines: BTreeMap<String, String> = self
            .features
            .iter()
            .map(|feature| {
                let Feature {
                    name,
                    need,
                    since,
                    state,
                } = feature;
                let is = format!("{state} ({need}, since {since})");
                (format!("{name} as user {user}"), is)
            })
            .collect();
        let mut add = |what: &str, is: String| lines.insert(format!("{what} as user {user}"), is);
        if !of.stand_in {
            add("release", self.release.clone());
        }
        add("a sandbox runs", self.can_run.to_string());
        add("layers that are not there", self.lacks.join(", "));
        if !of.quick {
            add("missed by tests", self.absent.join(", "));
            add(
                "attempts that are the CPU's",
                format!("{:?}", self.emulated),
            );
        }
        lines
    }

    /// What is tried less than it was. A new test is no fact about a kernel: there may be more.
    fn more_than(&self, found: &Self) -> Vec<String> {
        let counts = [
            ("tests passed", self.passed, found.passed),
            (
                "attempts of the audit",
                self.attempts.unwrap_or_default(),
                found.attempts.unwrap_or_default(),
            ),
        ];
        let fewer = counts.into_iter().filter(|(_, old, new)| new < old);
        fewer
            .map(|(what, old, new)| format!("{what} as user {}: {new}, and not: {old}", self.user))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::kernel;
    use super::{Compared, Kernel};

    /// Whether it is told that a second user found something else: in a whole run, a quick one, and
    /// one with another version.
    fn told(change: fn(&mut Kernel)) -> [bool; 3] {
        let mut found = kernel();
        change(&mut found);
        let runs = [(false, false), (true, false), (false, true)];
        runs.map(|(quick, stand_in)| {
            let of = Compared { quick, stand_in };
            !kernel().differences(&found, of).is_empty()
        })
    }

    /// A change, and whether those runs tell of it.
    type Case = (fn(&mut Kernel), [bool; 3]);

    #[test]
    fn what_differs_is_told() {
        let cases: [Case; 16] = [
            (|_| {}, [false; 3]),
            (|kernel| kernel.users[1].features.clear(), [true; 3]),
            (
                |kernel| kernel.users[1].features[0].state = "yes".into(),
                [true; 3],
            ),
            (
                |kernel| kernel.users[1].features[0].need = "must".into(),
                [true; 3],
            ),
            (|kernel| kernel.users[1].can_run = false, [true; 3]),
            (|kernel| kernel.users[1].lacks.clear(), [true; 3]),
            (|kernel| drop(kernel.users.pop()), [true; 3]),
            (|kernel| kernel.users[1].user = 0, [true; 3]),
            (
                |kernel| kernel.users[1].absent.push("ksm".into()),
                [true; 3],
            ),
            (|kernel| kernel.users[1].absent.clear(), [true, false, true]),
            (|kernel| kernel.users[1].passed = 6, [true, false, true]),
            (|kernel| kernel.users[1].passed = 8, [false; 3]),
            (
                |kernel| kernel.users[1].attempts = Some(8),
                [true, false, true],
            ),
            (|kernel| kernel.left_out = 3, [true, false, true]),
            (
                |kernel| kernel.package = "linux=2".into(),
                [true, true, false],
            ),
            (
                |kernel| kernel.users[1].release = "6.2".into(),
                [true, true, false],
            ),
        ];
        for (number, (change, expected)) in cases.into_iter().enumerate() {
            assert_eq!(told(change), expected, "case {number}");
        }
    }
}
