//! What is found inside a kernel, as one user: what goes from there to here.

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) user: u32,
    /// As `uname -r` prints it.
    pub(super) release: String,
    /// What `cellwall probe --json` says, and its `status`.
    pub(super) probe: Option<Value>,
    /// What `cellwall run` says, where a refusal is expected.
    pub(super) refusal: Option<Refusal>,
    pub(super) tested: Vec<Tested>,
    /// What the tests missed: each key, and what was found instead.
    pub(super) absences: Vec<String>,
    pub(super) audit: Option<Audited>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) status: Option<i32>,
    pub(super) message: String,
}

/// What became of a test program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Tested {
    pub(super) program: String,
    /// How many tests it was to run.
    pub(super) chosen: usize,
    pub(super) passed: usize,
    pub(super) failed: Vec<String>,
}

/// What `cellwall audit` says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Audited {
    pub(super) status: Option<i32>,
    /// Groups and attempts, as `xtask/kernels-audit.txt` names them, looks included.
    pub(super) attempts: Vec<String>,
    /// Those that are not good.
    pub(super) bad: Vec<String>,
    /// Whether it was all of the audit.
    pub(super) is_whole: bool,
}

impl Facts {
    /// The keys of what the tests missed.
    pub(super) fn keys(&self) -> Vec<String> {
        let key = |line: &String| {
            let line = line.strip_prefix("ABSENT ").unwrap_or(line);
            line.split(':').next().unwrap_or_default().to_owned()
        };
        let mut keys: Vec<String> = self.absences.iter().map(key).collect();
        keys.sort();
        keys.dedup();
        keys
    }
}
