//! What a boot finds beside what is kept of the boots before.

use std::collections::{BTreeMap, BTreeSet};

use super::pins::Pin;
use super::rows::{Feature, Kernel, Row};

/// Which boot is compared with what the file says.
#[derive(Clone, Copy)]
pub(super) struct Compared {
    /// It has run too few tests to say how many pass.
    pub(super) quick: bool,
    pub(super) booted: Booted,
}

/// Which kernel it was of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Booted {
    /// The pinned one.
    Pinned,
    /// Another version of its series, which has what the series has.
    Version,
    /// One of another series: what has become of `stable` or `rc`. It may have more.
    Series,
}

impl Booted {
    /// What has been booted for a pin: this, if it stands in.
    pub(super) fn of(pin: &Pin, stand_in: Option<&Pin>) -> Self {
        match stand_in {
            None => Self::Pinned,
            Some(other) if other.series() == pin.series() => Self::Version,
            Some(_) => Self::Series,
        }
    }
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
        if of.booted == Booted::Pinned {
            let (kept, found) = (self.package.clone(), found.package.clone());
            compare("package".into(), kept, found);
        }
        compare(
            "users".into(),
            self.users.len().to_string(),
            found.users.len().to_string(),
        );
        if of.booted == Booted::Series {
            let users = self.users.iter().zip(&found.users);
            differences.extend(users.flat_map(|(old, new)| old.worse(new)));
            return differences;
        }
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
        if of.booted == Booted::Pinned {
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

    /// What was there and is not.
    fn worse(&self, found: &Self) -> Vec<String> {
        let runs = (self.can_run && !found.can_run).then_some("a sandbox runs");
        let is_new = |layer: &&String| !self.lacks.contains(layer);
        let lost = found.lacks.iter().filter(is_new).map(String::as_str);
        let has = |row: &Self, name: &str| {
            let mut features = row.features.iter();
            features.any(|feature| feature.name == name && feature.is_there())
        };
        let names = self.features.iter().map(|feature| feature.name.as_str());
        let gone = names.filter(|name| has(self, name) && !has(found, name));
        let worse = runs.into_iter().chain(lost).chain(gone);
        worse
            .map(|what| format!("{what} as user {}: no more", self.user))
            .collect()
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
    use super::super::pins::Pin;
    use super::super::rows::tests::kernel;
    use super::{Booted, Compared, Kernel};

    /// Whether it is told that a second user found something else: in a whole run, a quick one, and
    /// those with another version and another series.
    fn told(change: fn(&mut Kernel)) -> [bool; 4] {
        let mut found = kernel();
        change(&mut found);
        let runs = [
            (false, Booted::Pinned),
            (true, Booted::Pinned),
            (false, Booted::Version),
            (false, Booted::Series),
        ];
        runs.map(|(quick, booted)| {
            let of = Compared { quick, booted };
            !kernel().differences(&found, of).is_empty()
        })
    }

    /// A change, and whether those runs tell of it.
    type Case = (fn(&mut Kernel), [bool; 4]);

    const ALL: [bool; 4] = [true; 4];
    const NONE: [bool; 4] = [false; 4];
    const SAME_SERIES: [bool; 4] = [true, true, true, false];
    const WHOLE: [bool; 4] = [true, false, true, false];
    const PINNED: [bool; 4] = [true, true, false, false];

    #[test]
    fn what_differs_is_told() {
        let cases: [Case; 20] = [
            (|_| {}, NONE),
            (|kernel| kernel.users[1].features.clear(), ALL),
            (
                |kernel| kernel.users[1].features[0].state = "yes".into(),
                SAME_SERIES,
            ),
            (
                |kernel| kernel.users[1].features[1].state = "ABI 12".into(),
                SAME_SERIES,
            ),
            (
                |kernel| kernel.users[1].features[1].state = "no (ENOSYS)".into(),
                ALL,
            ),
            (
                |kernel| kernel.users[1].features[1].state = "forbidden: a sysctl".into(),
                ALL,
            ),
            (
                |kernel| kernel.users[1].features[0].need = "must".into(),
                SAME_SERIES,
            ),
            (|kernel| kernel.users[1].can_run = false, ALL),
            (|kernel| kernel.users[1].lacks.clear(), SAME_SERIES),
            (|kernel| kernel.users[1].lacks.push("a layer".into()), ALL),
            (|kernel| drop(kernel.users.pop()), ALL),
            (|kernel| kernel.users[1].user = 0, SAME_SERIES),
            (
                |kernel| kernel.users[1].absent.push("ksm".into()),
                SAME_SERIES,
            ),
            (|kernel| kernel.users[1].absent.clear(), WHOLE),
            (|kernel| kernel.users[1].passed = 6, WHOLE),
            (|kernel| kernel.users[1].passed = 8, NONE),
            (|kernel| kernel.users[1].attempts = Some(8), WHOLE),
            (|kernel| kernel.left_out = 3, WHOLE),
            (|kernel| kernel.package = "linux=2".into(), PINNED),
            (|kernel| kernel.users[1].release = "6.2".into(), PINNED),
        ];
        for (number, (change, expected)) in cases.into_iter().enumerate() {
            assert_eq!(told(change), expected, "case {number}");
        }
    }

    #[test]
    fn stable_and_rc_go_on_to_other_series() {
        let pin = |version: &str| Pin::parse(&format!("stable sid linux={version}")).unwrap();
        let of = |version| Booted::of(&pin("7.3.4-1"), Some(&pin(version)));
        assert_eq!(Booted::of(&pin("7.3.4-1"), None), Booted::Pinned);
        assert_eq!(of("7.3.5-1~bpo13+1"), Booted::Version);
        assert_eq!(of("7.4.1-1"), Booted::Series);
        assert_eq!(of("7.4~rc1-1~exp1"), Booted::Series);
    }
}
