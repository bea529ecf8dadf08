//! What this kernel offers, and whether a sandbox can run.

mod paragraph;
mod shape;
mod trial;

use std::fmt::Write as _;

use cellwall::{Kernel, Layer, Need, Tier};
use serde::Serialize;

use self::paragraph::wrap;
use self::shape::{AroundReport, FeatureReport};
use self::trial::Attempt;
pub(crate) use self::trial::try_worker;
use crate::ending::{Ending, status};
use crate::stdio;

/// Exit status where no sandbox can run.
const CANNOT_RUN: u8 = 1;

/// Looks, tries a worker, and prints.
pub(crate) fn probe(json: bool) -> Ending {
    let kernel = Kernel::probe();
    let mut report = Report::new(&kernel);
    // The table comes first: whatever ends us as a worker is tried, it has been seen.
    if !json && let Err(errno) = stdio::print(&report.table()) {
        return Ending::printed(Err(errno), status::FAILED);
    }
    report.conclude(&kernel, TIERS.map(|tier| trial::of(&kernel, tier)));
    let text = if json {
        match serde_json::to_string_pretty(&report) {
            Ok(text) => text + "\n",
            Err(error) => return Ending::new(status::FAILED, error.to_string()),
        }
    } else {
        report.verdict()
    };
    let status = if report.can_run { 0 } else { CANNOT_RUN };
    Ending::printed(stdio::print(&text), status)
}

const TIERS: [Tier; 2] = [Tier::Full, Tier::WithoutNamespaces];

/// What the JSON's shape is called. A key more is the same shape; one that goes, or that means
/// something else, makes another. `docs/embedding.md` tells about each.
const SHAPE: u32 = 1;

/// What is printed; the JSON has this shape.
#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    /// As `uname -r` prints it.
    release: String,
    /// Everything is there that must be, and a worker of the full tier ran.
    can_run: bool,
    /// The same in a sentence.
    #[serde(skip)]
    around: String,
    surroundings: AroundReport,
    tiers: Vec<TierReport>,
    features: Vec<FeatureReport>,
}

/// A tier, and the wall that it would have here.
#[derive(Debug, Serialize)]
struct TierReport {
    name: &'static str,
    can_run: bool,
    /// Why no worker ran; null if one did.
    worker_error: Option<String>,
    /// The layers of the full tier that are no part of this one.
    lacks: Vec<&'static str>,
    /// The layers that the kernel or the CPU lacks, if a worker ran.
    absent: Vec<String>,
}

impl TierReport {
    fn new(kernel: &Kernel, tier: Tier, attempt: Attempt) -> Self {
        let not_in_tier = |layer: &&Layer| !layer.is_in(tier);
        Self {
            name: tier.name(),
            can_run: kernel.can_run(tier) && attempt.is_ok(),
            worker_error: attempt.as_ref().err().cloned(),
            absent: attempt.unwrap_or_default(),
            lacks: Layer::ALL
                .iter()
                .filter(not_in_tier)
                .map(|layer| layer.name())
                .collect(),
        }
    }

    fn print(&self, text: &mut String) {
        let name = self.name;
        let how = match (&self.worker_error, self.can_run) {
            (None, true) => format!("Tier {name}: a worker started and ran three instructions."),
            (None, false) => {
                format!("Tier {name}: a worker ran, but not all is there that must be.")
            }
            (Some(error), _) => format!("Tier {name}: no worker runs: {error}"),
        };
        text.push('\n');
        wrap(text, "", 0, &how);
        if !self.lacks.is_empty() {
            let lacks = self.lacks.join(", ");
            wrap(text, "", 0, &format!("Its wall lacks {lacks}."));
        }
        if !self.absent.is_empty() {
            let absent = self.absent.join(", ");
            wrap(
                text,
                "",
                0,
                &format!("The kernel or the CPU lacks {absent}."),
            );
        }
    }
}

impl FeatureReport {
    /// The state as the table says it, and the layers.
    fn standing(&self) -> String {
        let state = match (&self.forbidden_by, self.errno) {
            (Some(by), _) => format!("forbidden: {by}"),
            (None, Some(errno)) => format!("absent ({errno})"),
            (None, None) => self.state.into(),
        };
        let parts = [Some(state.as_str()), self.detail.as_deref()];
        let mut text = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        if !self.layers.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(text, " [{}]", self.layers.join(", "));
        }
        text
    }
}

/// The last column's title.
const HEAD: &str = "state [layers that stand on it]";

impl Report {
    /// What was found, before a worker has been tried.
    fn new(kernel: &Kernel) -> Self {
        Self {
            version: SHAPE,
            release: kernel.release().into(),
            around: kernel.surroundings().to_string(),
            surroundings: AroundReport::new(kernel.surroundings()),
            can_run: false,
            tiers: Vec::new(),
            features: kernel.findings().iter().map(FeatureReport::new).collect(),
        }
    }

    /// What became of the workers.
    fn conclude(&mut self, kernel: &Kernel, attempts: [Attempt; TIERS.len()]) {
        let tiers = TIERS.into_iter().zip(attempts);
        self.tiers = tiers
            .map(|(tier, attempt)| TierReport::new(kernel, tier, attempt))
            .collect();
        self.can_run = self.tiers.first().is_some_and(|full| full.can_run);
    }

    fn table(&self) -> String {
        let mut text = format!("Linux {}\n", self.release);
        wrap(
            &mut text,
            "",
            0,
            &format!("Around this process: {}.", self.around),
        );
        text.push('\n');
        line(
            &mut text,
            format_args!("{:<19}{:<11}{:<7}{HEAD}", "feature", "need", "since"),
        );
        for feature in &self.features {
            let FeatureReport {
                name, need, since, ..
            } = feature;
            let row = format!("{name:<19}{need:<11}{since:<7}");
            wrap(&mut text, &row, row.len(), &feature.standing());
        }
        text
    }

    /// What follows the table.
    fn verdict(&self) -> String {
        let mut text = String::new();
        for tier in &self.tiers {
            tier.print(&mut text);
        }
        let verdict = if self.can_run {
            "A sandbox can run here."
        } else if self.tiers.iter().any(|tier| tier.can_run) {
            "A sandbox cannot run here, but one of the weaker tier without-namespaces can: with \
             Config::tier, or --tier of `cellwall run`."
        } else {
            "A sandbox cannot run here."
        };
        text.push('\n');
        wrap(&mut text, "", 0, verdict);
        self.explain(&mut text);
        text
    }

    /// What is missing, what is done instead, and what to do about it; what has the same answers
    /// together.
    fn explain(&self, text: &mut String) {
        let mut groups: Vec<(Vec<&FeatureReport>, &str, &str)> = Vec::new();
        for feature in &self.features {
            let (Some(without), Some(advice)) = (&feature.without, &feature.advice) else {
                continue;
            };
            let same = |group: &&mut (_, &str, &str)| group.1 == without && group.2 == advice;
            match groups.iter_mut().find(same) {
                Some((features, ..)) => features.push(feature),
                None => groups.push((vec![feature], without, advice)),
            }
        }
        if groups.is_empty() {
            return;
        }
        text.push_str("\nMissing, what is done without it, and what to do:\n\n");
        for (features, without, advice) in groups {
            let names: Vec<&str> = features.iter().map(|feature| feature.name).collect();
            let names = names.join(", ");
            wrap(text, "  ", 4, &format!("{names}: {without}."));
            // One alone has room for what it is for; "nothing" is told already.
            if let [feature] = features.as_slice()
                && feature.need != Need::Unused.name()
            {
                wrap(
                    text,
                    "    ",
                    4,
                    &format!("It is for {}.", feature.needed_for),
                );
            }
            wrap(text, "    ", 4, advice);
        }
    }
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{content}");
}

#[cfg(test)]
mod tests {
    use cellwall::{Errno, Feature, Kernel, Obstacle, Support};

    use super::{Attempt, Report, TIERS};

    fn report(kernel: &Kernel, attempts: [Attempt; TIERS.len()]) -> Report {
        let mut report = Report::new(kernel);
        assert!(!report.can_run, "no worker has been tried");
        report.conclude(kernel, attempts);
        report
    }

    fn text(report: &Report) -> String {
        report.table() + &report.verdict()
    }

    #[test]
    fn a_whole_kernel() {
        let report = report(
            &Kernel::with_everything("7.0.0"),
            TIERS.map(|_| Ok(Vec::new())),
        );
        assert!(report.can_run);
        let table = text(&report);
        assert!(table.starts_with("Linux 7.0.0\n"), "{table}");
        assert!(table.contains("\nA sandbox can run here.\n"), "{table}");
        assert!(
            !table.contains(" absent") && !table.contains("Missing"),
            "{table}"
        );
    }

    #[test]
    fn a_worker_that_does_not_start_outweighs_all_findings() {
        let report = report(
            &Kernel::with_everything("7.0.0"),
            [Err("no luck".into()), Ok(Vec::new())],
        );
        assert!(!report.can_run);
        let table = text(&report);
        assert!(
            table.contains("Tier full: no worker runs: no luck"),
            "{table}"
        );
        assert!(table.contains("one of the weaker tier"), "{table}");
    }

    #[test]
    fn what_is_missing_is_explained() {
        let sysctl = Obstacle::Sysctl {
            name: "user.max_user_namespaces",
            value: "0".into(),
            wanted: "a larger number",
        };
        let kernel = Kernel::with_everything("6.1.0")
            .with(Feature::UserNamespace, Support::Forbidden(sysctl))
            .with(Feature::Mseal, Support::Absent(Errno::ENOSYS))
            .with(Feature::IoUring, Support::Absent(Errno::ENOSYS));
        let report = report(&kernel, ["clone3 failed", "too"].map(|why| Err(why.into())));
        let table = text(&report);
        for part in [
            "user-namespace     must       3.8    forbidden: user.max_user_namespaces=0\n",
            "mseal              may        6.10   absent (ENOSYS) [mseal]\n",
            "A sandbox cannot run here.\n",
            "  user-namespace: there is no engine of the full tier.\n",
            "    Set the sysctl user.max_user_namespaces, which is 0, to a larger number.\n",
            "  io_uring: the engine's thread waits by poll, and `cellwall run` serves guests\n    by plain calls.\n",
            "    It is for waiting for workers to end and serving guests;",
            "  mseal: the wall stands without mseal.\n",
        ] {
            assert!(table.contains(part), "{part:?} is not in\n{table}");
        }
        assert!(table.lines().all(|line| line.len() <= 80), "{table}");
        let json = serde_json::to_value(&report).unwrap();
        let features = json["features"].as_array().unwrap();
        let find = |name: &str| {
            features
                .iter()
                .find(|feature| feature["name"] == name)
                .unwrap()
        };
        assert_eq!(find("mseal")["state"], "absent");
        assert_eq!(find("mseal")["errno"], "ENOSYS");
        assert_eq!(find("mseal")["without"], "the wall stands without mseal");
        assert_eq!(find("landlock")["without"], serde_json::Value::Null);
        assert_eq!(find("user-namespace")["state"], "forbidden");
        assert_eq!(
            find("user-namespace")["forbidden_by"],
            "user.max_user_namespaces=0"
        );
        assert_eq!(json["can_run"], false);
    }
}
