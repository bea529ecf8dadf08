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

    /// Fails where a row of both would be of no one boot: of another kernel, or another CPU.
    pub(super) fn makes_a_row_with(&self, package: &str, qemu: &str) -> Result<(), Failure> {
        let kept = (self.package.as_str(), self.qemu.as_str());
        let new = (package, qemu);
        if kept == new {
            Ok(())
        } else {
            Err(format!("the row is of {kept:?}, this is {new:?}: write all of it").into())
        }
    }

    /// What some of the tests have missed now, which the row may not know of.
    pub(super) fn add_missed(&mut self, user: u32, keys: Vec<String>) {
        for row in self.users.iter_mut().filter(|row| row.user == user) {
            row.absent.extend_from_slice(&keys);
            row.absent.sort();
            row.absent.dedup();
        }
    }

    /// What the probe has found anew, with what is kept of the tests and the audit.
    pub(super) fn renewed(&self, found: Self) -> Self {
        let users = self.users.iter().zip(found.users);
        let users = users.map(|(kept, found)| Row {
            passed: kept.passed,
            absent: kept.absent.clone(),
            attempts: kept.attempts,
            emulated: kept.emulated,
            ..found
        });
        Self {
            left_out: self.left_out,
            users: users.collect(),
            ..found
        }
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
}

impl Feature {
    /// Whether the kernel has it, if only in part.
    pub(super) fn is_there(&self) -> bool {
        // What is there may have a detail that begins so: "no flags".
        let is_absent = self.state == "no" || self.state.starts_with("no (");
        !is_absent && !self.state.starts_with("forbidden: ")
    }

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
pub(super) mod tests {
    use super::{Feature, Kernel, Row};

    fn feature(name: &str, need: &str, since: &str, state: &str) -> Feature {
        let [name, need, since, state] = [name, need, since, state].map(str::to_owned);
        Feature {
            name,
            need,
            since,
            state,
        }
    }

    pub(in super::super) fn kernel() -> Kernel {
        let row = |user| Row {
            user,
            release: "6.1".into(),
            can_run: true,
            lacks: vec!["mseal".into()],
            features: vec![
                feature("mseal", "may", "6.10", "no (ENOSYS)"),
                feature("landlock", "must", "5.13", "ABI 11"),
            ],
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
        let renewed = kernel().renewed(found.clone());
        let mut expected = kernel();
        for row in &mut expected.users {
            row.can_run = false;
            row.lacks.clear();
            row.features[0].state = "yes".into();
        }
        assert!(renewed == expected);
        assert!(
            kernel()
                .makes_a_row_with(&found.package, &found.qemu)
                .is_ok()
        );
        let others: [fn(&mut Kernel); 2] = [
            |kernel| kernel.package = "linux=2".into(),
            |kernel| kernel.qemu = "11".into(),
        ];
        for other in others {
            let mut found = found.clone();
            other(&mut found);
            assert!(
                kernel()
                    .makes_a_row_with(&found.package, &found.qemu)
                    .is_err()
            );
            // It is compared all the same.
            let renewed = kernel().renewed(found.clone());
            let of_boot = |kernel: Kernel| (kernel.package, kernel.qemu);
            assert_eq!(of_boot(renewed), of_boot(found));
        }
    }

    #[test]
    fn what_some_tests_miss_is_added() {
        let mut known = kernel();
        known.add_missed(1000, vec!["mseal".into(), "landlock-10".into()]);
        let mut expected = kernel();
        expected.users[1].absent = vec!["landlock-10".into(), "mseal".into()];
        assert!(known == expected);
    }
}
