//! What an operator sees of a live worker, against what must be there.
//!
//! | file | idea |
//! |---|---|
//! | `subject` | the worker, and what its host wanted it to be |
//! | `proc` | reading a process's directory in `/proc` |
//! | `finding` | one look: expected, outcome, verdict |
//! | `memory`, `namespaces`, `identity`, `standing`, `speculation` | the looks |
//! | `standings` | layers that are absent, switched off or not in the tier |
//! | `orphan` | a host that is killed, and what becomes of its worker |

mod finding;
mod identity;
mod memory;
mod namespaces;
mod orphan;
mod proc;
mod speculation;
mod standing;
mod standings;
mod subject;

use cellwall::{Config, Error, Layer, Standing};

pub(crate) use self::finding::GROUP;

use self::finding::Finding;
use self::subject::Subject;
use crate::late::is_late;
use crate::row::{Row, Verdict};

pub use self::orphan::{host_death, sacrifice};

/// How a layer that is in force can be seen from outside.
#[derive(Clone, Copy)]
enum Sight {
    /// By looking.
    Seen(fn(&Subject) -> Vec<Finding>),
    /// No file shows it, for this reason: the worker's own report is what is known.
    Reported(&'static str),
}

use Sight::{Reported, Seen};

/// Why a Landlock domain is not seen. The inside of the audit cannot meet it either: the filter
/// comes first.
const NO_LANDLOCK_FILE: &str = "/proc shows no Landlock domain";

/// The look at what the worker wrote while all of its words were the zygote's own.
const REPORT: &str = "the worker's report before any guest ran";

/// Every layer, with at least one look.
const LOOKS: &[(Layer, Sight)] = &[
    (Layer::SystemCalls, Seen(identity::system_calls)),
    (Layer::UserNamespace, Seen(namespaces::user)),
    (Layer::MountNamespace, Seen(namespaces::mount)),
    (Layer::PidNamespace, Seen(namespaces::pid)),
    (Layer::NetworkNamespace, Seen(namespaces::network)),
    (Layer::IpcNamespace, Seen(namespaces::ipc)),
    (Layer::UtsNamespace, Seen(namespaces::uts)),
    (Layer::CgroupNamespace, Seen(namespaces::cgroup)),
    (Layer::EmptyRoot, Seen(namespaces::root)),
    (Layer::UserId, Seen(identity::user_id)),
    (Layer::NoNewPrivileges, Seen(identity::no_new_privileges)),
    (Layer::Capabilities, Seen(identity::capabilities)),
    (Layer::BoundingSet, Seen(identity::bounding_set)),
    (Layer::Securebits, Reported("/proc shows no securebits")),
    (Layer::NotDumpable, Seen(identity::dumpable)),
    (Layer::WriteXorExecute, Seen(memory::write_xor_execute)),
    (
        Layer::DenyWriteExecute,
        Reported("/proc does not show PR_SET_MDWE"),
    ),
    (Layer::Mseal, Seen(memory::seals)),
    (Layer::KernelMappings, Seen(memory::kernel_mappings)),
    (Layer::Descriptors, Seen(standing::descriptors)),
    (Layer::LandlockFiles, Reported(NO_LANDLOCK_FILE)),
    (Layer::LandlockNetwork, Reported(NO_LANDLOCK_FILE)),
    (Layer::LandlockScopes, Reported(NO_LANDLOCK_FILE)),
    (Layer::Limits, Seen(standing::limits)),
    (Layer::Signals, Seen(standing::signals)),
    (Layer::Standing, Seen(standing::standing)),
    (
        Layer::HostDeath,
        Reported("/proc does not show PR_SET_PDEATHSIG"),
    ),
    (Layer::SharedWords, Seen(memory::shared_words)),
    (Layer::StoreBypass, Seen(speculation::store_bypass)),
    (Layer::IndirectBranch, Seen(speculation::indirect_branch)),
    (
        Layer::CoreScheduling,
        Reported("/proc does not show the cookie"),
    ),
    (
        Layer::TimestampCounter,
        Seen(speculation::timestamp_counter),
    ),
];

const fn is_looked_at(layer: Layer) -> bool {
    let mut index = 0;
    while index < LOOKS.len() {
        if LOOKS[index].0 as u8 == layer as u8 {
            return true;
        }
        index += 1;
    }
    false
}

// A layer without a look: add it to LOOKS above.
const _: () = {
    let mut index = 0;
    while index < Layer::ALL.len() {
        assert!(is_looked_at(Layer::ALL[index]));
        index += 1;
    }
};

/// Starts a worker, has guest code run in it, and looks at each layer while it waits.
///
/// # Errors
///
/// The library's, where no worker starts. What cannot be read is a row, and so is a worker that did
/// not start in time.
pub fn run(config: &Config) -> Result<Vec<Row>, Error> {
    let subject = match Subject::start(config) {
        Err(error) if is_late(&error) => return Ok(vec![unseen(&error)]),
        started => started?,
    };
    let kernel = cellwall::Kernel::probe();
    let mut rows = vec![subject.ran().about(Layer::SystemCalls)];
    for &layer in Layer::ALL {
        let standing = subject.layers.standing(layer);
        let findings = if standing == Standing::InForce && layer.is_in(subject.wanted.tier) {
            look(&subject, layer)
        } else {
            standings::judge(&subject, &kernel, layer, standing)
        };
        rows.extend(findings.into_iter().map(|finding| finding.about(layer)));
    }
    // Its number is its own only while it lives: otherwise the looks were at nobody.
    if !subject.is_alive() {
        for row in &mut rows {
            row.verdict = Verdict::Unverified;
            row.outcome.push_str(" (the worker was gone afterwards)");
        }
    }
    Ok(rows)
}

/// A worker that cannot be looked at.
fn unseen(error: &Error) -> Row {
    Row {
        group: GROUP,
        attempt: "a worker starts, tried twice".into(),
        expected: "it starts in time".into(),
        outcome: error.to_string(),
        layer: String::new(),
        verdict: Verdict::Unverified,
    }
}

/// All looks at a layer that the worker reported as in force.
fn look(subject: &Subject, layer: Layer) -> Vec<Finding> {
    let looks = LOOKS.iter().filter(|(of, _)| *of == layer);
    looks
        .flat_map(|(_, sight)| match sight {
            Seen(look) => look(subject),
            // That it reported so is what was asked before.
            Reported(why) => vec![reported(subject, layer, why)],
        })
        .collect()
}

/// What is known of a layer that cannot be seen.
fn reported(subject: &Subject, layer: Layer, why: &str) -> Finding {
    let standing = subject.layers.standing(layer);
    Finding::new(
        REPORT,
        "in force",
        format!("{standing}, not seen: {why}"),
        standing == Standing::InForce,
    )
    .holding_as(Verdict::Reported)
}
