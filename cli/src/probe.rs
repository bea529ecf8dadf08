//! What this kernel offers, and whether a sandbox can run.

use std::fmt::Write as _;

use cellwall::{
    Config, Engine, Error, Finding, Interrupt, Kernel, Module, Need, Obstacle, Support,
};
use serde::Serialize;

use crate::ending::{Ending, status};
use crate::stdio;

/// Exit status where no sandbox can run.
const CANNOT_RUN: u8 = 1;

/// Looks, tries a worker, and prints.
pub(crate) fn probe(json: bool) -> Ending {
    let report = Report::new(&Kernel::probe(), try_worker());
    let text = if json {
        match serde_json::to_string_pretty(&report) {
            Ok(text) => text + "\n",
            Err(error) => return Ending::new(status::FAILED, error.to_string()),
        }
    } else {
        report.table()
    };
    let status = if report.can_run { 0 } else { CANNOT_RUN };
    Ending::printed(stdio::print(&text), status)
}

/// Starts a worker and lets it run three instructions: the proof, where the rest is evidence.
fn try_worker() -> Result<(), String> {
    let add = [
        0x48, 0x89, 0xf8, // mov rax, rdi
        0x48, 0x01, 0xf0, // add rax, rsi
        0xc3, // ret
    ];
    let sum = || -> Result<Interrupt, Error> {
        let engine = Engine::new(&Config::default())?;
        let module = Module::builder()
            .code(&add)
            .stack(0x10_0000, 0x1_0000)
            .build(&engine)?;
        let mut instance = engine.instantiate(&module)?;
        instance.call(module.entry(), &[40, 2])?;
        instance.run()
    };
    match sum() {
        Ok(Interrupt::Finished(42)) => Ok(()),
        Ok(other) => Err(format!(
            "a worker started, but 40 + 2 ended otherwise: {other}"
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// What is printed; the JSON has this shape.
#[derive(Debug, Serialize)]
struct Report {
    /// As `uname -r` prints it.
    release: String,
    /// Everything is there that must be, and a worker ran.
    can_run: bool,
    /// Why no worker ran; null if one did.
    worker_error: Option<String>,
    features: Vec<FeatureReport>,
}

#[derive(Debug, Serialize)]
struct FeatureReport {
    name: &'static str,
    /// "must" or "may".
    need: &'static str,
    /// "present", "absent" or "forbidden".
    state: &'static str,
    /// The name of the errno that the kernel answered, where that is what is known.
    errno: Option<&'static str>,
    /// What forbids it.
    forbidden_by: Option<String>,
    /// What is known beyond its presence.
    detail: Option<String>,
    /// The number in the detail.
    value: Option<u64>,
    needed_for: &'static str,
    /// The first kernel that has it.
    since: String,
    advice: Option<String>,
    /// Missing by itself, not only for the lack of another feature.
    #[serde(skip)]
    is_cause: bool,
}

impl FeatureReport {
    fn new(finding: &Finding) -> Self {
        let feature = finding.feature;
        let (state, errno, forbidden_by) = match &finding.support {
            Support::Present => ("present", None, None),
            Support::Absent(errno) => ("absent", Some(*errno), None),
            Support::Forbidden(obstacle) => {
                let errno = match obstacle {
                    Obstacle::Filter(errno) => Some(*errno),
                    _ => None,
                };
                ("forbidden", errno, Some(obstacle.to_string()))
            }
        };
        Self {
            name: feature.name(),
            need: feature.need().name(),
            state,
            errno: errno.map(cellwall::Errno::name),
            forbidden_by,
            detail: finding.detail(),
            value: finding.value,
            needed_for: feature.needed_for(),
            since: feature.since().to_string(),
            advice: finding.advice(),
            is_cause: finding.is_cause(),
        }
    }

    /// The state as the table says it.
    fn standing(&self) -> String {
        match (&self.forbidden_by, self.errno, &self.detail) {
            (Some(by), _, _) => format!("forbidden by {by}"),
            (None, Some(errno), _) => format!("absent ({errno})"),
            (None, None, Some(detail)) => format!("{}, {detail}", self.state),
            (None, None, None) => self.state.into(),
        }
    }
}

impl Report {
    fn new(kernel: &Kernel, worker: Result<(), String>) -> Self {
        Self {
            release: kernel.release().into(),
            can_run: kernel.can_run() && worker.is_ok(),
            worker_error: worker.err(),
            features: kernel.findings().iter().map(FeatureReport::new).collect(),
        }
    }

    fn table(&self) -> String {
        let mut text = format!("Linux {}\n\n", self.release);
        line(
            &mut text,
            format_args!("{:<18}{:<6}{:<7}{}", "feature", "need", "since", "state"),
        );
        for feature in &self.features {
            let FeatureReport {
                name, need, since, ..
            } = feature;
            let standing = feature.standing();
            line(
                &mut text,
                format_args!("{name:<18}{need:<6}{since:<7}{standing}"),
            );
        }
        match &self.worker_error {
            None => line(
                &mut text,
                format_args!("\nA worker started and ran three instructions."),
            ),
            Some(error) => line(&mut text, format_args!("\nNo worker runs: {error}")),
        }
        let lacking = |need: Need| {
            self.features
                .iter()
                .filter(move |feature| feature.need == need.name() && feature.is_cause)
        };
        if self.can_run {
            line(&mut text, format_args!("A sandbox can run here."));
        } else {
            line(&mut text, format_args!("A sandbox cannot run here."));
        }
        for feature in lacking(Need::Must) {
            feature.explain(&mut text, "It needs");
        }
        for feature in lacking(Need::May) {
            feature.explain(&mut text, "It does without");
        }
        text
    }
}

impl FeatureReport {
    fn explain(&self, text: &mut String, how: &str) {
        let advice = self.advice.as_deref().unwrap_or_default();
        line(
            text,
            format_args!("{how} {}, for {}. {advice}", self.name, self.needed_for),
        );
    }
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{content}");
}

#[cfg(test)]
mod tests {
    use cellwall::{Errno, Feature, Kernel, Obstacle, Support};

    use super::Report;

    #[test]
    fn a_whole_kernel() {
        let report = Report::new(&Kernel::with_everything("7.0.0"), Ok(()));
        assert!(report.can_run);
        let table = report.table();
        assert!(table.starts_with("Linux 7.0.0\n"), "{table}");
        assert!(table.contains("\nA sandbox can run here.\n"), "{table}");
        assert!(
            !table.contains("absent") && !table.contains("It needs"),
            "{table}"
        );
    }

    #[test]
    fn a_worker_that_does_not_start_outweighs_all_findings() {
        let report = Report::new(&Kernel::with_everything("7.0.0"), Err("no luck".into()));
        assert!(!report.can_run);
        assert!(report.table().contains("No worker runs: no luck"));
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
        let report = Report::new(&kernel, Err("clone3 failed".into()));
        let table = report.table();
        for part in [
            "user-namespace    must  3.8    forbidden by user.max_user_namespaces=0",
            "mseal             later 6.10   absent (ENOSYS)",
            "A sandbox cannot run here.",
            "It needs user-namespace, for workers without privileges over anything. Set the sysctl \
             user.max_user_namespaces, which is 0, to a larger number.",
            "It does without io_uring, for serving a guest's reads and writes",
        ] {
            assert!(table.contains(part), "{part:?} is not in\n{table}");
        }
        // Nobody misses what is not used yet.
        assert!(!table.contains("It does without mseal"), "{table}");
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
        assert_eq!(find("user-namespace")["state"], "forbidden");
        assert_eq!(
            find("user-namespace")["forbidden_by"],
            "user.max_user_namespaces=0"
        );
        assert_eq!(json["can_run"], false);
    }
}
