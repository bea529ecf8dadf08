//! `docs/kernels.json`: what each kernel was found to be, without what differs from run to run.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::facts::Facts;
use super::pins::Pin;
use crate::Failure;

const ROWS: &str = "docs/kernels.json";

/// All that is known.
#[derive(Serialize, Deserialize, Default)]
pub(super) struct Rows {
    /// By the pins' names.
    pub(super) kernels: BTreeMap<String, Kernel>,
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq)]
pub(super) struct Kernel {
    pub(super) package: String,
    /// The version, whose CPU it is.
    pub(super) qemu: String,
    /// How many tests the list leaves out.
    pub(super) left_out: usize,
    pub(super) users: Vec<Row>,
}

/// One kernel as one user has it.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) user: u32,
    /// As `uname -r` prints it.
    pub(super) release: String,
    pub(super) can_run: bool,
    /// The layers that the kernel or the CPU lacks, where a worker ran.
    pub(super) lacks: Vec<String>,
    pub(super) features: Vec<Feature>,
    /// How many tests passed.
    pub(super) passed: usize,
    /// What tests missed, by the keys of `absence/absences.txt`.
    pub(super) absent: Vec<String>,
    /// How many attempts the audit made, looks included, where a worker ran; and of how many the
    /// outcome was the emulated CPU's. No other gets through.
    pub(super) attempts: Option<usize>,
    pub(super) emulated: Option<usize>,
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq)]
pub(super) struct Feature {
    pub(super) name: String,
    pub(super) need: String,
    pub(super) since: String,
    /// As a person reads it.
    pub(super) state: String,
}

/// Which boot is compared with what the file says.
#[derive(Clone, Copy)]
pub(super) struct Compared {
    /// It has run too few tests to say how many pass.
    pub(super) quick: bool,
    /// It was of another version of the same series.
    pub(super) stand_in: bool,
}

impl Rows {
    pub(super) fn read(root: &Path) -> Result<Self, Failure> {
        match fs::read_to_string(root.join(ROWS)) {
            Ok(text) => Ok(serde_json::from_str(&text)?),
            // Before the first run.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("{ROWS}: {error}").into()),
        }
    }

    pub(super) fn write(&self, root: &Path) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(self)?;
        Ok(fs::write(root.join(ROWS), format!("{text}\n"))?)
    }
}

impl Kernel {
    pub(super) fn new(
        pin: &Pin,
        qemu: String,
        left_out: usize,
        facts: &[Facts],
    ) -> Result<Self, Failure> {
        let users = facts.iter().map(Row::new).collect::<Option<Vec<Row>>>();
        Ok(Self {
            package: pin.package.clone(),
            qemu,
            left_out,
            users: users.ok_or("the probe says too little")?,
        })
    }

    /// What the probe has found anew, with what is kept of the tests and the audit.
    pub(super) fn renewed(&self, found: Self) -> Result<Self, Failure> {
        let (kept, new) = ((&self.package, &self.qemu), (&found.package, &found.qemu));
        if kept != new {
            return Err(format!("the row is of {kept:?}, this is {new:?}: write all of it").into());
        }
        let users = self.users.iter().zip(found.users);
        let users = users.map(|(kept, found)| Row {
            passed: kept.passed,
            absent: kept.absent.clone(),
            attempts: kept.attempts,
            emulated: kept.emulated,
            ..found
        });
        Ok(Self {
            users: users.collect(),
            ..self.clone()
        })
    }

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
            let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
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
    fn new(facts: &Facts) -> Option<Self> {
        let probe = facts.probe.as_ref()?;
        let absent = probe["tiers"][0]["absent"].as_array();
        let audit = facts.audit.as_ref();
        Some(Self {
            user: facts.user,
            release: probe["release"].as_str()?.to_owned(),
            can_run: probe["can_run"].as_bool()?,
            lacks: absent?.iter().filter_map(text).collect(),
            features: probe["features"]
                .as_array()?
                .iter()
                .map(Feature::new)
                .collect::<Option<_>>()?,
            passed: facts.tested.iter().map(|tested| tested.passed).sum(),
            absent: facts.keys(),
            attempts: audit.map(|audit| audit.attempts.len()),
            emulated: audit.map(|audit| audit.bad.len()),
        })
    }

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

impl Feature {
    fn new(found: &Value) -> Option<Self> {
        let word = |name: &str| text(&found[name]);
        let state = match (found["state"].as_str(), word("errno"), word("forbidden_by")) {
            (Some("present"), ..) => word("detail").unwrap_or_else(|| "yes".into()),
            (_, _, Some(by)) => format!("forbidden: {by}"),
            (_, Some(errno), None) => format!("no ({errno})"),
            (Some("absent"), ..) => "no".into(),
            _ => return None,
        };
        Some(Self {
            name: word("name")?,
            need: word("need")?,
            since: word("since")?,
            state,
        })
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{Compared, Feature, Kernel, Row};

    fn kernel() -> Kernel {
        let row = |user| Row {
            user,
            release: "6.1".into(),
            can_run: true,
            lacks: vec!["mseal".into()],
            features: vec![Feature {
                name: "mseal".into(),
                need: "may".into(),
                since: "6.10".into(),
                state: "no (ENOSYS)".into(),
            }],
            passed: 7,
            absent: vec!["mseal".into()],
            attempts: Some(9),
            emulated: Some(1),
        };
        Kernel {
            package: "linux=1".into(),
            qemu: "10".into(),
            left_out: 2,
            users: vec![row(0), row(1000)],
        }
    }

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

    #[test]
    fn the_probes_part_is_renewed() {
        // What a boot finds that has run no tests and no audit.
        let mut found = kernel();
        found.left_out = 0;
        for row in &mut found.users {
            row.can_run = false;
            row.lacks.clear();
            row.features[0].state = "yes".into();
            row.passed = 0;
            row.absent.clear();
            row.attempts = None;
            row.emulated = None;
        }
        let renewed = kernel().renewed(found.clone()).unwrap();
        let mut expected = kernel();
        for row in &mut expected.users {
            row.can_run = false;
            row.lacks.clear();
            row.features[0].state = "yes".into();
        }
        assert!(renewed == expected);
        let others: [fn(&mut Kernel); 2] = [
            |kernel| kernel.package = "linux=2".into(),
            |kernel| kernel.qemu = "11".into(),
        ];
        for other in others {
            let mut found = found.clone();
            other(&mut found);
            assert!(kernel().renewed(found).is_err());
        }
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
